"""Trainings whose bot or supervisor is gone: found again, watched on, judged by what they left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from loop.experiment import Ending
from loop.process import supervisor as program
from loop.process.supervisor import start_time
from loop.process.trainer import Trainer
from tests.loop import toys
from tests.loop.training_bench import NUMBERS, SHORT, Bench, until

# Re-attaching


async def test_a_training_is_found_again_while_it_runs(bench: Bench, pipes: toys.Pipes) -> None:
    await bench.start(bench.job(toys.held(pipes)))
    await pipes.pids()
    training = bench.reattach()
    assert training.alive()
    pipes.release()
    outcome = await training.wait()
    assert (outcome.ending, outcome.exit_code, outcome.numbers) == (Ending.EXITED, 0, NUMBERS)


async def test_a_training_outlives_a_bot_that_is_killed(bench: Bench, pipes: toys.Pipes) -> None:
    job = bench.job(toys.held(pipes))
    bot = f"""
import asyncio, os, pathlib, signal, sys
from loop.process.trainer import Job, Trainer
async def main():
    trainer, path = Trainer(), pathlib.Path
    supervisor = trainer.arm()
    job = Job(argv={job.argv!r}, cwd=path({str(job.cwd)!r}), env={{}}, log=path({str(job.log)!r}),
              folder=path({str(job.folder)!r}), deadline=100.0)
    trainer.start(supervisor, job)
    print(supervisor.pid, supervisor.started, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    told = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", bot], stdout=subprocess.PIPE, check=False
    )
    assert told.returncode == -signal.SIGKILL
    pid, started = told.stdout.split()
    await pipes.pids()
    training = Trainer().attach(job.folder, job.log, int(pid), float(started))
    pipes.release()
    outcome = await training.wait()
    assert (outcome.ending, outcome.exit_code, outcome.numbers) == (Ending.EXITED, 0, NUMBERS)


async def test_a_result_that_came_meanwhile_is_found(bench: Bench) -> None:
    outcome = await (await bench.start(bench.job(toys.good()))).wait()
    assert await bench.reattach().wait() == outcome


async def test_a_supervisor_that_never_got_its_job_leaves_nothing(bench: Bench) -> None:
    bench.supervisor = bench.trainer.arm()
    training = bench.reattach()
    assert training.alive()
    os.close(bench.supervisor.pipe)  # as the death of the bot would
    outcome = await training.wait()
    assert (outcome.ending, outcome.exit_code, outcome.numbers) == (Ending.VANISHED, None, {})


async def test_an_attempt_without_a_supervisor_has_vanished(bench: Bench) -> None:
    training = Trainer().attach(bench.folder / "0-1", bench.folder / "run.log", None, None)
    assert not training.alive()
    assert (await training.wait()).ending is Ending.VANISHED


async def test_other_processes_with_the_same_pids_are_not_taken_for_ours(bench: Bench) -> None:
    await (await bench.start(bench.job(toys.NO_SUMMARY))).wait()
    (bench.folder / "0-1" / program.OUTCOME).unlink()
    ours = os.getpid()  # would be waited for, or killed
    bench.write(
        program.STARTED, json.dumps({**bench.record(), "pid": ours, "supervisor": ours, "start": 0.01})
    )
    training = Trainer().attach(bench.folder / "0-1", bench.folder / "run.log", ours, 0.01)
    assert not training.alive()
    await training.end(Ending.INTERRUPTED)
    assert (await training.wait()).ending is Ending.VANISHED


async def test_processes_of_another_boot_are_not_taken_for_ours(bench: Bench) -> None:
    await (await bench.start(bench.job(toys.NO_SUMMARY))).wait()
    (bench.folder / "0-1" / program.OUTCOME).unlink()
    same = {"pid": os.getpid(), "start": start_time(os.getpid()), "boot": "another"}
    bench.write(program.STARTED, json.dumps({**bench.record(), **same}))
    assert (await bench.reattach().wait()).ending is Ending.VANISHED


def written(log: Path, mode: str, data: bytes) -> None:
    with log.open(mode) as file:
        file.write(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "overwritten": lambda log: log.write_text(toys.summary(0.5)),
    "written over": lambda log: written(log, "r+b", b"\0" * 200),
    "appended to": lambda log: written(log, "ab", toys.summary(0.5).encode()),
    "replaced": lambda log: log.with_name("train.py").rename(log),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("killed", [False, True], ids=["", "and all are killed"])
async def test_no_result_is_lost_with_the_log(
    bench: Bench, pipes: toys.Pipes, damage: Callable[[Path], object], killed: bool
) -> None:
    training = await bench.start(bench.job(toys.held_at_end(pipes, toys.summary())))
    (pid,) = await pipes.pids()
    await until(lambda: training.log.read_text() == toys.summary())
    damage(training.log)
    if killed:
        bench.kill_both(pid)
    else:
        pipes.release()
    assert (await bench.reattach().wait()).numbers == NUMBERS


async def test_a_training_of_an_earlier_version_is_read_from_that_log(bench: Bench) -> None:
    training = await bench.start(bench.job(toys.good()))
    outcome = await training.wait()
    (training.folder / program.LOG).unlink()
    assert await bench.reattach().wait() == outcome


# Killing


async def test_a_killed_supervisor_is_replaced_and_the_result_kept(bench: Bench, pipes: toys.Pipes) -> None:
    training = await bench.start(bench.job(toys.held(pipes)))
    (pid,) = await pipes.pids()
    waiting = asyncio.create_task(training.wait())
    assert bench.supervisor is not None
    killed = {bench.supervisor.pid}
    for _ in range(2):
        os.kill(int(str(bench.record()["supervisor"])), signal.SIGKILL)
        await until(lambda: bench.record()["supervisor"] not in killed)
        killed.add(int(str(bench.record()["supervisor"])))
    assert bench.reattach().alive()
    pipes.release()
    outcome = await waiting
    assert (outcome.ending, outcome.exit_code, outcome.numbers) == (Ending.EXITED, None, NUMBERS)
    assert outcome.started_at == bench.record()["started_at"]
    assert start_time(pid) is None


async def test_a_deadline_outlives_its_supervisor(bench: Bench, pipes: toys.Pipes) -> None:
    await bench.start(replace(bench.job(toys.hanging(pipes)), deadline=SHORT))
    pids = await pipes.pids()
    bench.kill_supervisor()
    outcome = await bench.reattach().wait()
    assert (outcome.ending, outcome.exit_code) == (Ending.DEADLINE, None)
    assert [start_time(pid) for pid in pids] == [None, None]


async def test_a_training_killed_with_its_supervisor_has_vanished(bench: Bench, pipes: toys.Pipes) -> None:
    training = await bench.start(bench.job(toys.straggling(pipes, then=pipes.hold())))
    pid, daemon = await pipes.pids()
    bench.kill_both(pid)
    outcome = await training.wait()
    assert (outcome.ending, outcome.exit_code, outcome.numbers) == (Ending.VANISHED, None, {})
    assert start_time(daemon) is None


async def test_a_whole_summary_counts_though_all_were_killed(bench: Bench, pipes: toys.Pipes) -> None:
    await bench.start(bench.job(toys.held_at_end(pipes, toys.summary())))
    (pid,) = await pipes.pids()
    bench.kill_both(pid)
    outcome = await bench.reattach().wait()
    assert (outcome.ending, outcome.exit_code, outcome.numbers) == (Ending.EXITED, None, NUMBERS)
    assert outcome.started_at <= outcome.ended_at <= time.time()


@pytest.mark.parametrize("cut", [-1, len("---\nval_bpb: 1.000000\n")])
async def test_a_summary_cut_off_by_a_kill_does_not_count(bench: Bench, pipes: toys.Pipes, cut: int) -> None:
    await bench.start(bench.job(toys.held_at_end(pipes, toys.summary()[:cut])))
    (pid,) = await pipes.pids()
    bench.kill_both(pid)
    assert (await bench.reattach().wait()).ending is Ending.VANISHED


@pytest.mark.parametrize(
    "outcome",
    [
        "",
        '{"ending": "exited", "exit_co',
        "[]",
        '{"ending": "well", "exit_code": 0, "started_at": 1.0, "ended_at": 2.0}',
        '{"ending": "exited", "exit_code": "0", "started_at": 1.0, "ended_at": 2.0}',
        "\0" * 80,
    ],
)
async def test_a_broken_outcome_counts_as_none(bench: Bench, outcome: str) -> None:
    await (await bench.start(bench.job(toys.good()))).wait()
    bench.write(program.OUTCOME, outcome)
    found = await bench.reattach().wait()
    assert (found.ending, found.exit_code, found.numbers) == (Ending.EXITED, None, NUMBERS)


@pytest.mark.parametrize("started", ["", "{}", '{"pid": 1', "[]"])
async def test_a_broken_start_record_counts_as_none(bench: Bench, started: str) -> None:
    await (await bench.start(bench.job(toys.good()))).wait()
    (bench.folder / "0-1" / program.OUTCOME).unlink()
    bench.write(program.STARTED, started)
    assert (await bench.reattach().wait()).ending is Ending.VANISHED


async def test_a_training_that_could_not_be_recorded_says_why(bench: Bench) -> None:
    job = bench.job(toys.good())
    outcome = await (await bench.start(replace(job, log=bench.folder / "gone" / "run.log"))).wait()
    assert outcome.ending is Ending.VANISHED
    assert "No such file or directory" in outcome.error
