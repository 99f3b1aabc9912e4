"""Trainings whose bot or supervisor is gone: found again, or ended and judged by what they left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loop.experiment import Ending, Outcome
from loop.logs.capture import LOG
from loop.process import supervisor as program
from loop.process.supervisor import start_time
from loop.process.trainer import Trainer, TrainingProcess
from tests.loop import toys
from tests.loop.training_bench import NUMBERS, Bench, until

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
    training = Trainer().attach(job.folder, int(pid), float(started))
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
    training = Trainer().attach(bench.folder / "0-1", None, None)
    assert not training.alive()
    assert (await training.wait()).ending is Ending.VANISHED


async def test_other_processes_with_the_same_pids_are_not_taken_for_ours(bench: Bench) -> None:
    await (await bench.start(bench.job(toys.NO_SUMMARY))).wait()
    (bench.folder / "0-1" / program.OUTCOME).unlink()
    ours = os.getpid()  # would be waited for, or killed
    bench.write(program.STARTED, json.dumps({**bench.record(), "supervisor": ours, "supervisor_start": 0.01}))
    training = Trainer().attach(bench.folder / "0-1", ours, 0.01)
    assert not training.alive()
    await training.end(Ending.INTERRUPTED)
    assert (await training.wait()).ending is Ending.VANISHED


async def test_processes_of_another_boot_are_not_taken_for_ours(bench: Bench) -> None:
    await (await bench.start(bench.job(toys.NO_SUMMARY))).wait()
    (bench.folder / "0-1" / program.OUTCOME).unlink()
    ours = os.getpid()
    same = {"supervisor": ours, "supervisor_start": start_time(ours), "boot": "another"}
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
async def test_no_result_is_lost_with_the_copy_of_the_log(
    bench: Bench, pipes: toys.Pipes, damage: Callable[[Path], object], killed: bool
) -> None:
    job = bench.job(toys.held_at_end(pipes, toys.summary()))
    await bench.start(job)
    await pipes.pids()
    await until(lambda: job.log.read_text() == bench.kept == toys.summary())
    damage(job.log)
    if killed:
        bench.kill_supervisor()
    else:
        pipes.release()
    assert (await bench.reattach().wait()).numbers == NUMBERS


@pytest.fixture
def of_last_release(bench: Bench) -> Iterator[Callable[[str, bool], TrainingProcess]]:
    """Attach to a training that the last release began: its files, and a process for its supervisor."""
    started: list[subprocess.Popen[bytes]] = []

    def attach(source: str, marked: bool) -> TrainingProcess:
        folder = bench.folder / "0-1"
        env = {program.MARK: str(folder)} if marked else {}
        command = (sys.executable, "-I", "-S", "-c", source)
        process = subprocess.Popen(command, env=env, cwd=bench.folder, start_new_session=True)
        started.append(process)
        record = {
            "pid": process.pid,
            "start": start_time(process.pid),
            "started_at": 1000.0,
            "monotonic": time.monotonic(),
            "deadline": 600.0,
            "grace": 3.0,
            "log": str(bench.folder / "run.log"),
            "folder": str(folder),
            "boot": program.boot_id(),
            "supervisor": process.pid,
            "supervisor_start": start_time(process.pid),
        }
        bench.write(program.STARTED, json.dumps(record))
        return Trainer().attach(folder, None, None)

    yield attach
    for process in started:
        process.kill()
        process.wait()


async def test_a_training_of_the_last_release_is_measured(
    bench: Bench, pipes: toys.Pipes, of_last_release: Callable[[str, bool], TrainingProcess]
) -> None:
    folder = bench.folder / "0-1"
    outcome = {"ending": "exited", "exit_code": 0, "started_at": 1000.0, "ended_at": 1300.0}
    training = of_last_release(
        pipes.report()
        + pipes.hold()
        + f"open({str(folder / LOG)!r}, 'w').write({toys.summary()!r})\n"
        + f"open({str(folder / program.OUTCOME)!r}, 'w').write({json.dumps(outcome)!r})\n",
        False,
    )
    await pipes.pids()
    assert training.alive()
    pipes.release()
    assert await training.wait() == Outcome(Ending.EXITED, 0, 1000.0, 1300.0, NUMBERS)


async def test_what_the_last_release_left_without_a_supervisor_is_ended(
    bench: Bench, pipes: toys.Pipes, of_last_release: Callable[[str, bool], TrainingProcess]
) -> None:
    daemon = "if os.fork():\n    os._exit(0)\nos.setsid()\n"
    training = of_last_release("import os\n" + daemon + pipes.report() + pipes.hold(), True)
    (left,) = await pipes.pids()
    assert (await training.wait()).ending is Ending.VANISHED
    assert start_time(left) is None


# Killing


async def test_a_training_ends_with_its_supervisor(bench: Bench, pipes: toys.Pipes) -> None:
    training = await bench.start(bench.job(toys.straggling(pipes, then=toys.good() + pipes.hold())))
    pids = await pipes.pids()
    await until(lambda: bench.kept.endswith(toys.summary()))
    bench.kill_supervisor()
    async with asyncio.timeout(20):
        outcome = await training.wait()
    assert [start_time(pid) for pid in pids] == [None, None]
    assert (outcome.exit_code, outcome.numbers) == (None, NUMBERS)
    assert await bench.reattach().wait() == outcome


async def test_a_training_whose_supervisor_was_killed_has_vanished(bench: Bench, pipes: toys.Pipes) -> None:
    training = await bench.start(bench.job(toys.held(pipes)))
    (pid,) = await pipes.pids()
    bench.kill_supervisor()
    outcome = await training.wait()
    assert (outcome.ending, outcome.exit_code, outcome.numbers) == (Ending.VANISHED, None, {})
    assert outcome.started_at == bench.record()["started_at"]
    assert start_time(pid) is None


async def test_the_program_ends_with_its_supervisor_also_while_no_bot_runs(
    bench: Bench, pipes: toys.Pipes
) -> None:
    await bench.start(bench.job(pipes.report() + pipes.hold()))
    (pid,) = await pipes.pids()
    bench.kill_supervisor()
    await until(lambda: start_time(pid) is None)


async def test_what_hangs_and_what_leaves_the_tree_is_ended_by_the_next_bot(
    bench: Bench, pipes: toys.Pipes
) -> None:
    await bench.start(bench.job(toys.hanging(pipes)))
    pids = await pipes.pids()
    bench.kill_supervisor()
    assert (await bench.reattach().wait()).ending is Ending.VANISHED
    assert [start_time(pid) for pid in pids] == [None, None]


async def test_a_whole_summary_counts_though_its_supervisor_was_killed(
    bench: Bench, pipes: toys.Pipes
) -> None:
    await bench.start(bench.job(toys.held_at_end(pipes, toys.summary())))
    await pipes.pids()
    await until(lambda: bench.kept == toys.summary())
    bench.kill_supervisor()
    outcome = await bench.reattach().wait()
    assert (outcome.ending, outcome.exit_code, outcome.numbers) == (Ending.EXITED, None, NUMBERS)
    assert outcome.started_at <= outcome.ended_at <= time.time()


@pytest.mark.parametrize("cut", [-1, len("---\nval_bpb: 1.000000\n")])
async def test_a_summary_cut_off_by_a_kill_does_not_count(bench: Bench, pipes: toys.Pipes, cut: int) -> None:
    text = toys.summary()[:cut]
    await bench.start(bench.job(toys.held_at_end(pipes, text)))
    await pipes.pids()
    await until(lambda: bench.kept == text)
    bench.kill_supervisor()
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
    outcome = await (await bench.start(replace(job, cwd=bench.folder / "gone"))).wait()
    assert outcome.ending is Ending.VANISHED
    assert "No such file or directory" in outcome.error
