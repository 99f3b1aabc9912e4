"""Trainings that hang, what is left of them, and those that ran out of memory."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.heartbeat.heartbeat import find_blocker
from bot.runs import LoopState
from loop.experiment import Cause, EventKind, RunState
from loop.logs.capture import LOG
from loop.process.supervisor import OUTCOME, STARTED, boot_id, start_time
from tests.bot.heartbeat.patient import Patient
from tests.loop.fake_gpu import FakeGpu

SILENT = [EventKind.RUN_STARTED]


@pytest.mark.parametrize("look", ["watch", "beat"])
async def test_a_training_that_hangs_is_ended(patient: Patient, look: str) -> None:
    folder = patient.trains()
    for _ in range(6):
        await getattr(patient.heartbeat, look)()
        patient.now += 60.0
    assert patient.house.orders == [("end", "mar12", str(folder))]
    assert patient.kinds() == SILENT


async def test_a_repeat_that_hangs_is_ended_and_its_processes_are_no_orphans(
    patient: Patient, sleeper: Any
) -> None:
    folder = patient.repeats()
    folder.mkdir(parents=True)
    process = sleeper(folder)
    for _ in range(6):
        await patient.heartbeat.beat()
        patient.now += 60.0
    assert patient.house.orders == [("end", "mar12", str(folder))]
    assert process.poll() is None


async def test_a_training_that_hangs_after_its_number_is_ended_soon(patient: Patient) -> None:
    folder = patient.trains()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOG).write_text("---\nval_bpb: 1.0\n")
    for _ in range(3):
        await patient.heartbeat.watch()
        assert patient.house.orders == []
        patient.now += 10.0
    await patient.heartbeat.watch()
    assert patient.house.orders == [("end", "mar12", str(folder))]


async def test_a_training_whose_gpu_works_does_not_hang(patient: Patient, gpu: FakeGpu) -> None:
    patient.trains()
    gpu.show("0, GPU-a, 81920, 40960, 97")
    for _ in range(12):
        await patient.heartbeat.watch()
        patient.now += 60.0
    assert patient.house.orders == []


async def test_the_next_attempt_is_watched_from_its_beginning(patient: Patient) -> None:
    for attempt in range(1, 5):
        patient.trains(attempt)
        for _ in range(4):
            await patient.heartbeat.watch()
            patient.now += 60.0
    assert patient.house.orders == []


async def test_only_what_is_left_of_our_own_trainings_is_ended(patient: Patient, sleeper: Any) -> None:
    current = sleeper(patient.trains())
    orphan = sleeper(patient.home / "runs" / "1" / "2-1")
    others = [sleeper(patient.home.parent / "other" / "runs" / "1" / "2-1"), sleeper(None)]
    await patient.heartbeat.beat()
    assert orphan.wait() == -signal.SIGKILL
    assert [process.poll() for process in (current, *others)] == [None, None, None]
    assert patient.kinds() == SILENT


async def test_a_supervisor_that_let_its_deadline_pass_is_killed(patient: Patient, sleeper: Any) -> None:
    folder, supervisor = patient.trains(), sleeper(None)
    record = {
        "boot": boot_id(),
        "monotonic": patient.now - 3600.0,
        "deadline": 600.0,
        "grace": 3.0,
        "supervisor": supervisor.pid,
        "supervisor_start": start_time(supervisor.pid),
    }
    (folder / STARTED).write_text(json.dumps(record | {"deadline": 3600.0}))
    await patient.heartbeat.watch()
    assert supervisor.poll() is None
    (folder / STARTED).write_text(json.dumps(record))
    await patient.heartbeat.watch()
    assert supervisor.wait() == -signal.SIGKILL


def end_training(folder: Path) -> None:
    """Let a training be over which its run has still to record."""
    (folder / OUTCOME).write_text("{}")


async def test_who_holds_the_memory_that_a_training_lacked_is_found_at_once(
    patient: Patient, gpu: FakeGpu
) -> None:
    end_training(patient.trains_with(memory_mb=49_000.0))
    assert await find_blocker(patient.examiner, patient.run) is None
    gpu.show("0, GPU-a, 81920, 19200, 0", processes=("42, 62000, GPU-a, jupyter",))
    reason = await find_blocker(patient.examiner, patient.run)
    assert reason is not None
    assert reason.cause is Cause.GPU_FULL
    assert reason.facts["held_by"] == "jupyter (pid 42)"


async def test_a_beat_meanwhile_does_not_let_the_run_go_on(patient: Patient, gpu: FakeGpu) -> None:
    end_training(patient.trains_with(memory_mb=49_000.0))
    gpu.show("0, GPU-a, 81920, 19200, 0", processes=("42, 62000, GPU-a, jupyter",))
    reason = await find_blocker(patient.examiner, patient.run)
    assert reason is not None
    patient.house.states = [LoopState(patient.journal.set_state(patient.run, RunState.PAUSING, reason))]
    await patient.heartbeat.beat()
    assert patient.house.orders == []
    assert len(patient.outside[-1]) == 1


async def test_a_look_for_a_blocker_hides_no_silence_of_a_training(patient: Patient) -> None:
    folder = patient.trains()
    for _ in range(6):
        await patient.heartbeat.watch()
        await find_blocker(patient.examiner, replace(patient.run, id=7))
        patient.now += 60.0
    assert patient.house.orders == [("end", "mar12", str(folder))]
