from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.experiment import Ending
from loop.logs.capture import LOG
from loop.machine import Gpu, GpuProcess, GpuState
from loop.process.environment import training_environment
from loop.process.liveness import (
    Activity,
    Quiet,
    is_measured,
    is_overdue,
    is_stalled,
    sample,
    supervisor_of,
    watch,
)
from loop.process.supervisor import OUTCOME, STARTED, boot_id, start_time
from loop.process.trainer import Job, Trainer, TrainingProcess
from tests.loop import toys

BURNING = """
while True:
    pass
"""
CHILD_BURNING = """
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", "while True: pass"], {})
    os._exit(0)
os.wait()
"""


class Bench:
    """One attempt at a training, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.home = folder
        self.folder = folder / "0-1"
        self.log = folder / "run.log"
        self.folder.mkdir()

    async def start(self, source: str) -> TrainingProcess:
        (self.home / "train.py").write_text(source)
        job = Job(
            argv=toys.COMMAND,
            cwd=self.home,
            env=training_environment(os.environ, {}),
            log=self.log,
            folder=self.folder,
            deadline=60.0,
            grace=0.1,
        )
        trainer = Trainer()
        return trainer.start(trainer.arm(), job)

    async def shown(self) -> None:
        """Wait until the log has all that a held training prints: its supervisor writes it a moment later."""
        while toys.PROGRESS not in (self.folder / LOG).read_text():  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.01)

    def look(self, at: float = 0.0, gpus: GpuState | None = None) -> Activity:
        return sample(self.folder, gpus, now=lambda: at)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    yield Bench(tmp_path)
    for pid in toys.leftovers(tmp_path):
        os.kill(pid, signal.SIGKILL)


# Real trainings


async def test_a_training_that_waits_for_ever_is_stalled(bench: Bench, pipes: toys.Pipes) -> None:
    training = await bench.start(toys.held(pipes))
    await pipes.pids()
    await bench.shown()
    quiet = watch(None, bench.look(at=0.0))
    quiet = watch(quiet, bench.look(at=200.0))
    assert not is_stalled(quiet, 5.0)
    quiet = watch(quiet, bench.look(at=400.0))
    assert quiet.seconds == 400.0
    assert is_stalled(quiet, 5.0)
    await training.end(Ending.STALLED)
    assert (await training.wait()).ending is Ending.STALLED


@pytest.mark.parametrize("burning", [BURNING, CHILD_BURNING], ids=["itself", "a daemon without the mark"])
async def test_a_silent_training_that_computes_is_alive(
    bench: Bench, pipes: toys.Pipes, burning: str
) -> None:
    training = await bench.start(pipes.report() + burning + pipes.hold())
    await pipes.pids()
    first = bench.look()
    while bench.look().cpu_seconds < first.cpu_seconds + 0.02:  # noqa: ASYNC110 - CPU time tells nobody
        await asyncio.sleep(0.01)
    assert watch(Quiet(first, 1000.0), bench.look(at=1.0)).seconds == 0.0
    await training.end(Ending.INTERRUPTED)
    await training.wait()


async def test_a_training_that_writes_is_alive(bench: Bench, pipes: toys.Pipes) -> None:
    await bench.start(toys.held(pipes))
    await pipes.pids()
    before = Quiet(bench.look(), 1000.0)
    with (bench.folder / LOG).open("a") as log:
        log.write("step 2\n")
    assert watch(before, bench.look(at=10_000.0)).seconds == 0.0


async def test_a_training_that_uses_its_gpu_is_alive(bench: Bench, pipes: toys.Pipes) -> None:
    await bench.start(toys.held(pipes))
    (pid,) = await pipes.pids()
    await bench.shown()
    before = Quiet(bench.look(), 1000.0)
    gpus = [Gpu(0, "GPU-a", 80.0, 40.0, 0.0), Gpu(1, "GPU-b", 80.0, 40.0, 100.0)]
    for gpu, seconds in zip(gpus, (11_000.0, 0.0), strict=True):
        state = GpuState(tuple(gpus), (GpuProcess(pid, 40.0, "python", gpu.uuid),))
        assert watch(before, bench.look(at=10_000.0, gpus=state)).seconds == seconds


def test_where_nothing_runs_there_is_nothing_to_see(tmp_path: Path) -> None:
    assert sample(tmp_path / "gone", now=lambda: 5.0) == Activity(5.0, 0, 0.0, 0.0, None)


# Silence

ACTIVITY = Activity(at=0.0, log_size=10, log_mtime=1e9, cpu_seconds=5.0, gpu_busy=None)


@pytest.mark.parametrize(
    ("changes", "alive"),
    [
        ({}, False),
        ({"gpu_busy": False}, False),
        ({"gpu_busy": True}, True),
        ({"cpu_seconds": 5.5}, False),  # threads that wait wake up now and then
        ({"cpu_seconds": 6.5}, True),
        ({"cpu_seconds": 1.0}, True),  # a process of the tree has ended
        ({"log_size": 11}, True),
        ({"log_size": 0}, True),
        ({"log_mtime": 1e9 - 3600}, True),  # written to, and the clock was set back
    ],
)
def test_signs_of_life(changes: dict[str, float | bool], alive: bool) -> None:
    now = replace(ACTIVITY, at=100.0, **changes)  # type: ignore[arg-type]
    assert watch(Quiet(ACTIVITY, 50.0), now) == Quiet(now, 0.0 if alive else 150.0)


def test_two_looks_at_one_moment_are_no_sign_of_life() -> None:
    assert watch(Quiet(ACTIVITY, 50.0), ACTIVITY).seconds == 50.0


@given(st.lists(st.tuples(st.floats(0.0, 3600.0), st.booleans()), max_size=20))
def test_silence_is_the_time_since_the_last_sign_of_life(looks: list[tuple[float, bool]]) -> None:
    quiet, silence = watch(None, ACTIVITY), 0.0
    for seconds, wrote in looks:
        last = quiet.activity
        now = replace(last, at=last.at + seconds, log_size=last.log_size + wrote)
        silence = 0.0 if wrote else silence + seconds
        quiet = watch(quiet, now)
        assert quiet.seconds == pytest.approx(silence, abs=1e-6)  # of a clock that has run for hours


def test_a_training_that_gave_its_number_is_waited_for_only_shortly() -> None:
    assert not is_stalled(Quiet(ACTIVITY, 29.0), 5.0, measured=True)
    assert is_stalled(Quiet(ACTIVITY, 30.0), 5.0, measured=True)
    assert not is_stalled(Quiet(ACTIVITY, 30.0), 5.0, measured=False)
    assert is_stalled(Quiet(ACTIVITY, 6.0), 0.1, measured=True)


@pytest.mark.parametrize(
    ("log", "measured"),
    [
        ("", False),
        ("val_bpb: 1.0\n", False),
        ("---\nval_bpb: 1.0", False),
        ("---\nval_loss: 1.0\n", False),
        ("---\nval_bpb: 1.0\n", True),
        ("---\nval_bpb: nan\nuploading", True),
    ],
)
def test_a_training_is_measured_once_its_number_is_printed(
    tmp_path: Path, log: str, *, measured: bool
) -> None:
    (tmp_path / LOG).write_text(log)
    assert is_measured(tmp_path, "val_bpb") is measured


def test_a_training_is_measured_by_the_pattern_too(tmp_path: Path) -> None:
    (tmp_path / LOG).write_text("val_bpb=1.39\n" + "a" * 400 + "\n")
    assert is_measured(tmp_path, "val_bpb", r"(?P<key>\w+)=(?P<value>\S+)")
    assert not is_measured(tmp_path, "val_bpb")


def test_a_training_without_a_log_is_not_measured(tmp_path: Path) -> None:
    assert not is_measured(tmp_path, "val_bpb")


# Supervisors


def record(folder: Path, **changes: object) -> None:
    """Write what a supervisor writes, one hour into the clock and with ten minutes to its deadline."""
    content = {"boot": boot_id(), "monotonic": 3600.0, "deadline": 600.0, "grace": 3.0} | changes
    (folder / STARTED).write_text(json.dumps(content))


def test_a_supervisor_is_overdue_long_after_its_deadline(tmp_path: Path) -> None:
    record(tmp_path)
    assert not is_overdue(tmp_path, now=lambda: 4200.0 + 60.0)  # it may still be at it
    assert is_overdue(tmp_path, now=lambda: 4200.0 + 120.0)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"boot": "another"}', f'{{"boot": "{boot_id()}", "monotonic": "soon"}}'],
)
def test_a_record_that_says_nothing_is_no_reason_to_act(tmp_path: Path, content: str) -> None:
    (tmp_path / STARTED).write_text(content)
    assert not is_overdue(tmp_path, now=lambda: 1e9)
    assert supervisor_of(tmp_path) is None


def test_a_training_that_is_over_or_of_another_boot_is_not_overdue(tmp_path: Path) -> None:
    record(tmp_path, boot="another")
    assert not is_overdue(tmp_path, now=lambda: 1e9)
    record(tmp_path)
    (tmp_path / OUTCOME).touch()
    assert not is_overdue(tmp_path, now=lambda: 1e9)


async def test_the_supervisor_is_known_while_it_lives(bench: Bench, pipes: toys.Pipes) -> None:
    training = await bench.start(toys.held(pipes))
    await pipes.pids()
    supervisor = supervisor_of(bench.folder)
    assert supervisor is not None
    assert supervisor.started == start_time(supervisor.pid)
    assert not is_overdue(bench.folder)
    assert is_overdue(bench.folder, now=lambda: time.monotonic() + 3600.0)
    pipes.release()
    await training.wait()
    assert supervisor_of(bench.folder) is None
