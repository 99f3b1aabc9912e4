"""Loops that end, and a heartbeat in trouble."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.heartbeat.decide import NO_IDEAS, STEADY
from bot.runs import Ended, LoopState
from loop.engine.ahead.prefetch import ProposerFailure
from loop.experiment import Cause, EventKind
from loop.store.events import open_calls
from tests.bot.heartbeat.patient import Patient
from tests.loop.fake_gpu import FakeGpu

SILENT = [EventKind.RUN_STARTED]


async def test_it_says_nothing_when_all_is_well(patient: Patient) -> None:
    patient.trains()
    for _ in range(3):
        await patient.heartbeat.beat()
        patient.now += 60.0
    assert patient.journal.last_beat() is not None
    assert patient.kinds() == SILENT
    assert patient.house.orders == []
    assert patient.outside == [(), (), ()]


# Loops


async def test_a_loop_that_ended_goes_on_and_that_is_told_once_it_holds(patient: Patient) -> None:
    patient.house.states = [LoopState(patient.run, ended=Ended(patient.now - 120.0, "disk on fire"))]
    await patient.heartbeat.beat()
    assert patient.house.orders == [("restart", "mar12")]
    assert patient.kinds() == SILENT
    for _ in range(3):
        patient.now += STEADY
        await patient.heartbeat.beat()
    (event,) = patient.events(EventKind.RUN_RECOVERED)
    assert event.data == {"reason": "its loop ended with: disk on fire; 2 min lost", "minutes": 2.0}
    assert patient.house.orders == [("restart", "mar12")]


async def test_a_loop_that_cannot_be_kept_alive_is_told_once(patient: Patient) -> None:
    for _ in range(8):
        patient.house.states = [LoopState(patient.run, ended=Ended(patient.now, "disk on fire"))]
        patient.now += 600.0
        await patient.heartbeat.beat()
    assert patient.house.orders == [("restart", "mar12")] * 8
    (event,) = patient.events(EventKind.NEEDS_ATTENTION)
    assert "its loop failed 4 times in a row" in str(event.data["reason"])
    assert EventKind.RUN_RECOVERED not in patient.kinds()
    assert len(patient.outside[-1]) == 1


async def test_what_comes_up_again_is_told_again(patient: Patient) -> None:
    failing = LoopState(patient.run, failure=ProposerFailure(patient.now - NO_IDEAS, "why"))
    for states in ([failing], [failing], [LoopState(patient.run)], [failing]):
        patient.house.states = states
        await patient.heartbeat.beat()
    assert len(patient.events(EventKind.NEEDS_ATTENTION)) == 2
    (over,) = patient.events(EventKind.RESOLVED)
    assert over.data == {"cause": "no_proposal", "key": ""}
    assert [call.cause for call in open_calls(patient.journal, patient.run)] == [Cause.NO_PROPOSAL]


async def test_what_a_heartbeat_of_an_earlier_bot_told_is_not_told_again(patient: Patient) -> None:
    told = {"cause": "no_proposal", "key": "", "reason": "as it was said then"}
    patient.journal.note(patient.run.id, EventKind.NEEDS_ATTENTION, **told)
    patient.house.states = [LoopState(patient.run, failure=ProposerFailure(patient.now - NO_IDEAS, "why"))]
    await patient.heartbeat.beat()
    assert len(patient.events(EventKind.NEEDS_ATTENTION)) == 1
    patient.house.states = [LoopState(patient.run)]
    await patient.heartbeat.beat()
    assert open_calls(patient.journal, patient.run) == ()


async def next_beat(patient: Patient) -> None:
    patient.beaten.clear()
    await patient.beaten.wait()


@pytest.fixture
async def running(patient: Patient) -> AsyncIterator[Patient]:
    """A heartbeat that beats by itself."""
    task = asyncio.create_task(patient.heartbeat.run())
    await next_beat(patient)
    yield patient
    task.cancel()
    await asyncio.wait({task})


async def test_it_beats_at_once_when_a_run_is_in_trouble(running: Patient) -> None:
    running.house.trouble.set()
    await next_beat(running)
    assert running.outside == [(), ()]
    assert not running.house.trouble.is_set()


async def test_it_looks_again_before_the_next_beat_is_due(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.heartbeat.decide.STEADY", 0.01)
    patient.house.states = [LoopState(patient.run, ended=Ended(patient.now, "why"))]
    task = asyncio.create_task(patient.heartbeat.run())
    await next_beat(patient)
    patient.now += 1.0
    await next_beat(patient)
    assert len(patient.events(EventKind.RUN_RECOVERED)) == 1
    task.cancel()
    await asyncio.wait({task})


# A heartbeat in trouble


async def test_what_cannot_be_done_does_not_keep_it_from_the_rest(patient: Patient, gpu: FakeGpu) -> None:
    await patient.heartbeat.beat()
    gpu.lose()
    patient.house.refuses = "Run mar12 is paused already."
    patient.house.states = [
        LoopState(patient.run, ended=Ended(0.0, "why"), failure=ProposerFailure(0.0, "why"))
    ]
    await patient.heartbeat.beat()
    assert patient.house.orders == [("restart", "mar12")]
    assert len(patient.events(EventKind.NEEDS_ATTENTION)) == 1


async def test_a_state_file_that_fails_is_told_to_who_watches_from_outside(patient: Patient) -> None:
    patient.journal.close()
    await patient.heartbeat.beat()
    ((trouble,),) = patient.outside
    assert trouble.startswith("the heartbeat failed: ")
    assert patient.heartbeat.on_time()


async def test_it_knows_when_it_is_late(patient: Patient) -> None:
    assert patient.heartbeat.on_time()
    patient.now += 3 * 600.0 + 1.0
    assert not patient.heartbeat.on_time()
    await patient.heartbeat.beat()
    assert patient.heartbeat.on_time()


async def test_an_error_of_any_kind_ends_neither_it_nor_the_report(
    running: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("error")

    monkeypatch.setattr(running.examiner, "examine", fail)
    running.house.trouble.set()
    await next_beat(running)
    assert running.outside == [(), ("the heartbeat failed: 'error'",)]
    monkeypatch.undo()
    running.house.trouble.set()
    await next_beat(running)
    assert running.outside[-1] == ()


async def test_a_cancelled_beat_lets_go_of_the_journal_before_it_ends(
    patient: Patient, gpu: FakeGpu, tmp_path: Path
) -> None:
    asked, gate = tmp_path / "asked", tmp_path / "gate"
    for pipe in (asked, gate):
        os.mkfifo(pipe)
    gpu.install(f"#!/bin/sh\n[ -p {asked} ] && echo > {asked} && rm {asked} && read word < {gate}\n")
    beat = asyncio.create_task(patient.heartbeat.run())
    await asyncio.to_thread(asked.read_text)  # the beat looks at the GPUs
    beat.cancel()
    done, _ = await asyncio.wait({beat}, timeout=0.05)
    assert not done
    await asyncio.to_thread(gate.write_text, "go\n")
    await asyncio.wait({beat})
