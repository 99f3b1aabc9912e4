from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bot.heartbeat.decide import NO_IDEAS, STEADY
from bot.heartbeat.heartbeat import Heartbeat
from bot.heartbeat.probe import Ended, LoopState
from loop.engine.prefetch import ProposerFailure
from loop.errors import UserError
from loop.experiment import Cause, Event, EventKind, Goal, Reason, Run, RunState, Status
from loop.process.machine import ClockWatch
from loop.process.supervisor import LOG, MARK, STARTED, boot_id, start_time
from loop.store.events import open_calls
from loop.store.journal import Journal
from loop.store.sessions import Sessions
from notifiers.text.reasons import cause_text, reason_text
from tests.loop.fake_gpu import FakeGpu
from tests.loop.store.test_journal import make_experiment
from tests.loop.trainings import trained

SILENT = [EventKind.RUN_STARTED]


class House:
    """A host whose loops are what a test says, and who writes down what it is told to do."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.states: list[LoopState] = []
        self.trainings: dict[int, Path] = {}
        self.orders: list[tuple[str, ...]] = []
        self.reasons: list[Reason] = []  # of its pauses
        self.refuses = ""

    def loops(self) -> Sequence[LoopState]:
        return self.states

    def attempts(self) -> Mapping[int, Path]:
        return self.trainings

    def worktree(self, tag: str) -> Path:
        return self.home / "worktrees" / tag

    def resume(self, run: Run) -> None:
        self.orders.append(("resume", run.tag))
        self.states = [LoopState(run)]

    async def end_stalled(self, run: Run, folder: Path) -> None:
        self.orders.append(("end", run.tag, str(folder)))

    async def pause(self, run: Run, reason: Reason) -> None:
        if self.refuses:
            raise UserError(self.refuses)
        self.orders.append(("pause", run.tag, reason_text(reason)))
        self.reasons.append(reason)

    async def unpause(self, run: Run) -> None:
        self.orders.append(("unpause", run.tag))


class Patient:
    """A run, a heartbeat that looks after it, and a clock that goes as the test wants."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.now = 50_000.0
        self.slept = 0.0
        self.journal = Journal(home / "state.db")
        self.run = self.journal.create_run(
            tag="mar12",
            repository=home,
            base_branch="main",
            base_commit="0" * 40,
            metric="val_bpb",
            goal=Goal.MINIMIZE,
            time_budget=300.0,
        )
        self.house = House(home)
        self.house.states = [LoopState(self.run)]
        self.outside: list[Sequence[str]] = []
        self.beaten = asyncio.Event()
        self.outside_answers = asyncio.Event()
        self.outside_answers.set()
        self.heartbeat = Heartbeat(
            self.house,
            journal=self.journal,
            home=home,
            minutes=10.0,
            stall_minutes=5.0,
            devices=None,
            outside=self._outside,
            clock=ClockWatch(
                wall=lambda: self.now + self.slept,
                since_boot=lambda: self.now + self.slept,
                awake=lambda: self.now,
            ),
            now=lambda: self.now,
        )

    async def _outside(self, troubles: Sequence[str]) -> None:
        self.outside.append(troubles)
        self.beaten.set()
        await self.outside_answers.wait()

    def events(self, kind: EventKind) -> list[Event]:
        return [event for event in self.journal.events_after(0) if event.kind is kind]

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.journal.events_after(0)]

    def trains(self) -> Path:
        """Let the run have a training under way, of which nothing is heard."""
        folder = self.home / "runs" / "1" / "3-1"
        folder.mkdir(parents=True, exist_ok=True)
        self.house.trainings = {self.run.id: folder}
        return folder

    def trains_with(self, *, memory_mb: float) -> None:
        """Let it have one under way, and a best that took so much memory."""
        baseline = make_experiment(self.run, status=Status.KEEP)
        self.journal.record(trained(baseline, numbers={"val_bpb": 1.0, "peak_vram_mb": memory_mb}))
        self.trains()


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    return FakeGpu(tmp_path / "bin", monkeypatch)


@pytest.fixture
def patient(tmp_path: Path, gpu: FakeGpu) -> Iterator[Patient]:
    made = Patient(tmp_path / "home")
    yield made
    made.journal.close()


@pytest.fixture
def sleeper() -> Iterator[Callable[[Path | None], subprocess.Popen[bytes]]]:
    """Start a process that waits, with the mark of an attempt's folder or without."""
    started = []

    def start(mark: Path | None) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", "print(flush=True); input()"],
            env={} if mark is None else {MARK: str(mark)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


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
    assert patient.house.orders == [("resume", "mar12")]
    assert patient.kinds() == SILENT
    for _ in range(3):
        patient.now += STEADY
        await patient.heartbeat.beat()
    (event,) = patient.events(EventKind.RUN_RECOVERED)
    assert event.data == {"reason": "its loop had ended with: disk on fire; 2 min lost", "minutes": 2.0}
    assert patient.house.orders == [("resume", "mar12")]
    await patient.heartbeat.close()


async def test_a_loop_that_cannot_be_kept_alive_is_told_once(patient: Patient) -> None:
    for _ in range(8):
        patient.house.states = [LoopState(patient.run, ended=Ended(patient.now, "disk on fire"))]
        patient.now += 600.0
        await patient.heartbeat.beat()
    assert patient.house.orders == [("resume", "mar12")] * 8
    (event,) = patient.events(EventKind.NEEDS_ATTENTION)
    assert "its loop failed 4 times in a row" in str(event.data["reason"])
    assert EventKind.RUN_RECOVERED not in patient.kinds()
    assert len(patient.outside[-1]) == 1
    await patient.heartbeat.close()


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


async def test_a_beat_can_be_asked_for(patient: Patient) -> None:
    patient.heartbeat.soon(3600.0)
    patient.heartbeat.soon(0.0)
    patient.heartbeat.soon(3600.0)
    await patient.beaten.wait()
    assert patient.journal.last_beat() is not None
    patient.heartbeat.soon(3600.0)
    await patient.heartbeat.close()


# Trainings and processes


@pytest.mark.parametrize("look", ["watch", "beat"])
async def test_a_training_that_hangs_is_ended(patient: Patient, look: str) -> None:
    folder = patient.trains()
    for _ in range(6):
        await getattr(patient.heartbeat, look)()
        patient.now += 60.0
    assert patient.house.orders == [("end", "mar12", str(folder))]
    assert patient.kinds() == SILENT


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
    for attempt in range(4):
        folder = patient.home / "runs" / "1" / f"3-{attempt}"
        patient.house.trainings = {patient.run.id: folder}
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


# The machine


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
    assert event.data["reason"] == "the machine had slept; 120 min lost"
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
    Sessions(patient.journal, clock=lambda: time.time() - ago).begin(boot="one")
    return Sessions(patient.journal)


async def test_the_time_without_a_bot_is_told_at_the_first_beat(patient: Patient) -> None:
    leave_log(patient, age=3600.0)  # the training went on for ten minutes without a bot
    kill_bot(patient, ago=4200.0).begin(boot="one")
    await patient.heartbeat.arrive()
    assert patient.kinds() == SILENT
    await patient.heartbeat.beat()
    await patient.heartbeat.beat()
    (event,) = patient.events(EventKind.RUN_RECOVERED)
    assert event.data["reason"] == "the bot had been down; 60 min lost"


async def test_a_machine_that_was_down_is_told_apart(patient: Patient) -> None:
    sessions = kill_bot(patient, ago=600.0)
    with patient.journal.transaction():
        patient.journal.execute("UPDATE sessions SET boot = 'another'")
    sessions.begin(boot="one")
    await patient.heartbeat.arrive()
    await patient.heartbeat.beat()
    (event,) = patient.events(EventKind.RUN_RECOVERED)
    assert event.data["reason"] == "the machine had been down; 10 min lost"


async def test_a_bot_whose_training_went_on_without_it_says_nothing(patient: Patient) -> None:
    leave_log(patient, age=1.0)
    kill_bot(patient, ago=600.0).begin(boot="one")
    await patient.heartbeat.arrive()
    await patient.heartbeat.beat()
    assert patient.kinds() == SILENT


async def test_a_bot_that_was_ended_by_a_person_says_nothing(patient: Patient) -> None:
    an_hour_ago = Sessions(patient.journal, clock=lambda: time.time() - 3600.0)
    an_hour_ago.end(an_hour_ago.begin(boot="one"))
    Sessions(patient.journal).begin(boot="one")
    await patient.heartbeat.arrive()
    await patient.heartbeat.beat()
    assert patient.kinds() == SILENT


async def test_the_first_bot_of_all_says_nothing(patient: Patient) -> None:
    Sessions(patient.journal).begin(boot="one")
    await patient.heartbeat.arrive()
    await patient.heartbeat.beat()
    assert patient.kinds() == SILENT


# A heartbeat in trouble


async def test_what_cannot_be_done_does_not_keep_it_from_the_rest(patient: Patient, gpu: FakeGpu) -> None:
    await patient.heartbeat.beat()
    gpu.lose()
    patient.house.refuses = "Run mar12 is paused already."
    patient.house.states = [
        LoopState(patient.run, ended=Ended(0.0, "why"), failure=ProposerFailure(0.0, "why"))
    ]
    await patient.heartbeat.beat()
    assert patient.house.orders == [("resume", "mar12")]
    assert len(patient.events(EventKind.NEEDS_ATTENTION)) == 1
    await patient.heartbeat.close()


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


async def test_it_can_be_closed_in_the_middle_of_a_beat(patient: Patient) -> None:
    patient.outside_answers.clear()
    patient.heartbeat.soon(0.0)
    await patient.beaten.wait()
    await patient.heartbeat.close()


async def test_closing_waits_for_a_cancelled_beat_to_let_go_of_the_journal(
    patient: Patient, gpu: FakeGpu, tmp_path: Path
) -> None:
    asked, gate = tmp_path / "asked", tmp_path / "gate"
    for pipe in (asked, gate):
        os.mkfifo(pipe)
    gpu.install(f"#!/bin/sh\n[ -p {asked} ] && echo > {asked} && rm {asked} && read word < {gate}\n")
    beat = asyncio.create_task(patient.heartbeat.beat())
    await asyncio.to_thread(asked.read_text)  # the beat looks at the GPUs
    beat.cancel()
    closing = asyncio.create_task(patient.heartbeat.close())
    done, _ = await asyncio.wait({closing}, timeout=0.05)
    assert not done
    await asyncio.to_thread(gate.write_text, "go\n")
    await closing
    assert beat.done()


async def test_who_holds_the_memory_that_a_training_lacked_is_found_at_once(
    patient: Patient, gpu: FakeGpu
) -> None:
    patient.trains_with(memory_mb=49_000.0)
    assert not await patient.heartbeat.hinders(patient.run)
    gpu.show("0, GPU-a, 81920, 19200, 0", processes=("42, 62000, GPU-a, jupyter",))
    assert await patient.heartbeat.hinders(patient.run)
    ((order, tag, reason),) = patient.house.orders
    assert (order, tag) == ("pause", "mar12")
    assert "end jupyter (pid 42)" in reason


async def test_a_beat_meanwhile_neither_hides_who_holds_the_memory_nor_lets_the_run_go_on(
    patient: Patient, gpu: FakeGpu
) -> None:
    patient.trains_with(memory_mb=49_000.0)
    gpu.show("0, GPU-a, 81920, 19200, 0", processes=("42, 62000, GPU-a, jupyter",))
    patient.outside_answers.clear()  # the health check takes its time
    asked = asyncio.create_task(patient.heartbeat.hinders(patient.run))
    await patient.beaten.wait()
    (reason,) = patient.house.reasons
    patient.house.states = [LoopState(patient.journal.set_state(patient.run, RunState.PAUSING, reason))]
    patient.beaten.clear()
    another = asyncio.create_task(patient.heartbeat.beat())
    await patient.beaten.wait()
    patient.outside_answers.set()
    await another
    assert await asked
    assert [order for order, *_ in patient.house.orders] == ["pause"]
