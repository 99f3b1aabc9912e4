"""A machine that loses its GPU, sleeps or was down."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bot.runs import LoopState
from loop.experiment import Cause, EventKind, RunState
from loop.store.events import Sessions
from notifiers.text.words import cause_text
from tests.bot.heartbeat.patient import Patient
from tests.loop.fake_gpu import FakeGpu

SILENT = [EventKind.RUN_STARTED]


async def test_a_run_rests_while_the_gpu_is_gone(patient: Patient, gpu: FakeGpu) -> None:
    await patient.heartbeat.beat()
    gpu.lose()
    await patient.heartbeat.beat()
    ((order, tag, _),) = patient.house.orders
    assert (order, tag) == ("pause", "mar12")
    (reason,) = patient.house.reasons
    assert list(patient.outside[-1]) == [cause_text(Cause.GPU_GONE, {})]
    patient.house.states = [LoopState(patient.journal.set_state(patient.run, RunState.PAUSED, reason))]
    await patient.heartbeat.beat()
    gpu.show()
    await patient.heartbeat.beat()
    assert patient.house.orders[1:] == [("unpause", "mar12")]
    assert list(patient.outside[-1]) == []


async def test_a_machine_without_a_gpu_is_none_that_lost_it(patient: Patient, gpu: FakeGpu) -> None:
    gpu.lose()
    await patient.heartbeat.beat()
    assert patient.house.orders == []


async def test_a_machine_that_wakes_up_is_looked_after_at_once(patient: Patient) -> None:
    patient.slept = 7200.0
    await patient.heartbeat.watch()
    (event,) = patient.events(EventKind.RUN_RECOVERED)
    assert event.data["reason"] == "the machine slept; 120 min lost"
    assert patient.outside == [()]
    await patient.heartbeat.watch()
    await patient.heartbeat.beat()
    assert len(patient.events(EventKind.RUN_RECOVERED)) == 1


def leave_log(patient: Patient, *, age: float) -> None:
    """Let the run's training have written its last word so many seconds ago."""
    log = patient.house.worktree("mar12") / "run.log"
    log.parent.mkdir(parents=True)
    log.touch()
    os.utime(log, 2 * (time.time() - age,))


def kill_bot(patient: Patient, *, ago: float) -> Sessions:
    """Let the bot before this one have been killed so many seconds ago."""
    sessions = Sessions(patient.journal)
    with earlier(patient, ago):
        sessions.begin(boot="one")
    return sessions


@contextmanager
def earlier(patient: Patient, ago: float) -> Iterator[None]:
    patient.journal.clock = lambda: time.time() - ago
    yield
    patient.journal.clock = time.time


async def test_the_time_without_a_bot_is_told_at_the_first_beat(patient: Patient) -> None:
    leave_log(patient, age=3600.0)  # the training went on for ten minutes without a bot
    kill_bot(patient, ago=4200.0).begin(boot="one")
    await patient.heartbeat.arrive()
    assert patient.kinds() == SILENT
    await patient.heartbeat.beat()
    await patient.heartbeat.beat()
    (event,) = patient.events(EventKind.RUN_RECOVERED)
    assert event.data["reason"] == "the bot was down; 60 min lost"


async def test_a_machine_that_was_down_is_told_apart(patient: Patient) -> None:
    sessions = kill_bot(patient, ago=600.0)
    with patient.journal.transaction():
        patient.journal.execute("UPDATE sessions SET boot = 'another'")
    sessions.begin(boot="one")
    await patient.heartbeat.arrive()
    await patient.heartbeat.beat()
    (event,) = patient.events(EventKind.RUN_RECOVERED)
    assert event.data["reason"] == "the machine was down; 10 min lost"


async def test_a_bot_whose_training_went_on_without_it_says_nothing(patient: Patient) -> None:
    leave_log(patient, age=1.0)
    kill_bot(patient, ago=600.0).begin(boot="one")
    await patient.heartbeat.arrive()
    await patient.heartbeat.beat()
    assert patient.kinds() == SILENT


async def test_a_bot_that_was_ended_by_a_person_says_nothing(patient: Patient) -> None:
    sessions = Sessions(patient.journal)
    with earlier(patient, 3600.0):
        sessions.end(sessions.begin(boot="one"))
    sessions.begin(boot="one")
    await patient.heartbeat.arrive()
    await patient.heartbeat.beat()
    assert patient.kinds() == SILENT


async def test_the_first_bot_of_all_says_nothing(patient: Patient) -> None:
    Sessions(patient.journal).begin(boot="one")
    await patient.heartbeat.arrive()
    await patient.heartbeat.beat()
    assert patient.kinds() == SILENT
