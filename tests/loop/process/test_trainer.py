"""Trainings by a trainer and a supervisor that live on: what they leave, how they are ended."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import time
from dataclasses import replace

import psutil
import pytest

from loop.errors import UserError
from loop.experiment import Ending
from loop.process.supervisor import start_time
from loop.process.trainer import Process
from tests.loop import toys
from tests.loop.training_bench import NUMBERS, SHORT, Bench

# What trainings leave


async def test_a_good_training_is_measured(bench: Bench) -> None:
    before = time.time()
    training = await bench.start(bench.job(toys.good()))
    outcome = await training.wait()
    assert (outcome.ending, outcome.exit_code, outcome.error) == (Ending.EXITED, 0, "")
    assert outcome.numbers == NUMBERS
    assert before <= outcome.started_at <= outcome.ended_at <= time.time()
    assert not training.alive()
    assert await training.wait() == outcome


@pytest.mark.parametrize(
    ("source", "exit_code", "numbers", "error"),
    [
        (toys.CRASH, 1, {}, "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB"),
        (toys.NO_SUMMARY, 0, {}, "that was all"),
        (toys.SILENT, 0, {}, ""),
        (toys.NOT_A_NUMBER, 0, NUMBERS | {"val_bpb": math.nan}, ""),
        (toys.SLOW, 0, NUMBERS | {"training_seconds": 400.0, "total_seconds": 425.0}, ""),
        (toys.NOT_UTF8, 0, NUMBERS, ""),
        (toys.TWICE, 0, NUMBERS | {"val_bpb": 1.5}, ""),
        (toys.good() + "raise SystemExit('too late')", 1, NUMBERS, "too late"),
    ],
    ids=["crash", "no summary", "silent", "NaN", "slow", "not UTF-8", "twice", "late crash"],
)
async def test_what_a_training_leaves(
    bench: Bench, source: str, exit_code: int, numbers: dict[str, float], error: str
) -> None:
    outcome = await (await bench.start(bench.job(source))).wait()
    assert outcome.ending is Ending.EXITED
    assert outcome.exit_code == exit_code
    assert outcome.numbers == pytest.approx(numbers, rel=0, abs=0, nan_ok=True)
    assert outcome.error == error


async def test_a_summary_is_found_with_much_printed_after_it(bench: Bench) -> None:
    source = toys.good() + "print(('noise ' * 20 + '\\n') * 5000)\n"
    assert (await (await bench.start(bench.job(source))).wait()).numbers == NUMBERS


async def test_a_hanging_training_is_killed_with_its_child_at_the_deadline(
    bench: Bench, pipes: toys.Pipes
) -> None:
    training = await bench.start(replace(bench.job(toys.hanging(pipes)), deadline=SHORT))
    pids = await pipes.pids()
    outcome = await training.wait()
    assert (outcome.ending, outcome.exit_code) == (Ending.DEADLINE, -signal.SIGKILL)
    assert [start_time(pid) for pid in pids] == [None, None]


async def test_what_a_training_printed_before_its_deadline_is_read(bench: Bench, pipes: toys.Pipes) -> None:
    printed = {
        "hangs": (toys.summary(), NUMBERS),
        "uploads": (toys.summary() + "uploading 3/14", NUMBERS),
        "is cut off": ("---\nnum_steps: 12\nval_bpb: 0.9979", {"num_steps": 12.0}),  # perhaps 0.99791
        "has no summary": ("parameters: 1.2 M, depth: 2\n", {}),
    }
    trainings = {}
    for name, (text, _) in printed.items():  # each lasts until its deadline, so they overlap
        other = Bench(bench.folder / name)
        other.folder.mkdir()
        job = other.job(toys.printing(text) + toys.hanging(pipes))
        trainings[name] = await other.start(replace(job, deadline=SHORT))
        await pipes.pids()
    for name, (_, numbers) in printed.items():
        outcome = await trainings[name].wait()
        assert (outcome.ending, outcome.numbers, outcome.error) == (Ending.DEADLINE, numbers, ""), name


async def test_a_daemon_does_not_outlive_its_training(bench: Bench, pipes: toys.Pipes) -> None:
    training = await bench.start(bench.job(toys.straggling(pipes, then=toys.good())))
    _, daemon = await pipes.pids()
    assert (await training.wait()).numbers == NUMBERS
    assert start_time(daemon) is None


async def test_no_secret_reaches_the_training_or_its_supervisor(
    bench: Bench, pipes: toys.Pipes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TELEGRAM_BOT_TOKEN", "OPENAI_API_KEY", "NVIDIA_API_KEY"):
        monkeypatch.setenv(name, "hush")
    source = "import os\nprint(dict(os.environ), flush=True)\n" + toys.held(pipes)
    training = await bench.start(bench.job(source))
    await pipes.pids()
    assert bench.supervisor is not None
    assert "hush" not in repr(psutil.Process(bench.supervisor.pid).environ())
    assert "hush" not in repr(psutil.Process(bench.supervisor.pid).cmdline())
    pipes.release()
    await training.wait()
    assert "PATH" in bench.kept
    assert "hush" not in bench.kept


async def test_an_environment_larger_than_a_pipe_arrives(bench: Bench) -> None:
    job = bench.job("import os; print(sum(map(len, os.environ.values())) > 500_000)")
    large = {f"CUDA_{n}": "é" * 50_000 for n in range(12)}
    training = await bench.start(replace(job, env={**job.env, **large}))
    assert (await training.wait()).exit_code == 0
    assert bench.kept == "True\n"


async def test_what_an_earlier_attempt_left_in_the_folder_does_not_count(bench: Bench) -> None:
    await (await bench.start(bench.job(toys.good(2.0)))).wait()
    assert (await (await bench.start(bench.job(toys.CRASH))).wait()).exit_code == 1


async def test_without_pidfd_the_end_is_seen_by_looking(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    assert (await (await bench.start(bench.job(toys.good()))).wait()).numbers == NUMBERS


# Ending a training


@pytest.mark.parametrize("ending", [Ending.INTERRUPTED, Ending.STALLED])
async def test_a_training_is_ended_on_request(bench: Bench, pipes: toys.Pipes, ending: Ending) -> None:
    training = await bench.start(bench.job(toys.hanging(pipes)))
    pids = await pipes.pids()
    assert training.alive()
    await training.end(ending)
    assert (await training.wait()).ending is ending
    assert [start_time(pid) for pid in pids] == [None, None]


async def test_a_request_right_after_the_start_is_not_lost(bench: Bench, pipes: toys.Pipes) -> None:
    training = await bench.start(bench.job(toys.held(pipes)))
    await training.end(Ending.INTERRUPTED)
    assert (await training.wait()).ending is Ending.INTERRUPTED


async def test_a_request_after_the_end_changes_nothing(bench: Bench) -> None:
    training = await bench.start(bench.job(toys.good()))
    await training.wait()
    await training.end(Ending.INTERRUPTED)
    assert (await training.wait()).ending is Ending.EXITED


async def test_waiting_can_be_given_up_and_taken_up_again(bench: Bench, pipes: toys.Pipes) -> None:
    training = await bench.start(bench.job(toys.held(pipes)))
    await pipes.pids()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(training.wait(), 0.01)
    first, second = asyncio.create_task(training.wait()), asyncio.create_task(training.wait())
    pipes.release()
    assert await first == await second
    assert (await first).numbers == NUMBERS


# Idle supervisors


async def test_a_dismissed_supervisor_is_gone_at_once(bench: Bench) -> None:
    armed = bench.trainer.arm()
    assert Process(armed.pid, armed.started).alive()
    armed.dismiss()
    assert not psutil.pid_exists(armed.pid)


async def test_a_supervisor_that_died_before_its_job_leaves_a_vanished_training(bench: Bench) -> None:
    armed = bench.trainer.arm()
    os.kill(armed.pid, signal.SIGKILL)
    await armed.gone()
    training = bench.trainer.start(armed, bench.job(toys.good()))
    assert (await training.wait()).ending is Ending.VANISHED


async def test_no_descriptor_and_no_zombie_is_left(bench: Bench) -> None:
    before, children = psutil.Process().num_fds(), psutil.Process().children()
    for _ in range(3):
        await (await bench.start(bench.job(toys.SILENT))).wait()
        bench.trainer.arm().dismiss()
    assert psutil.Process().num_fds() == before
    assert [child for child in psutil.Process().children() if child not in children] == []


async def test_a_missing_python_is_one_sentence(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    before = psutil.Process().num_fds()
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(UserError, match="No supervisor can be started with /no/such/python"):
        bench.trainer.arm()
    assert psutil.Process().num_fds() == before
