from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from bot.heartbeat.decide import NO_IDEAS, STEADY
from bot.heartbeat.heartbeat import Heartbeat, find_blocker
from bot.heartbeat.probe import Examiner
from bot.runs import Ended, LoopState, Runs
from bot.setup.settings import load_settings
from loop.engine.ahead.prefetch import ProposerFailure
from loop.engine.run import Engine
from loop.errors import UserError
from loop.evidence import RepeatFor
from loop.experiment import (
    BY_COMMAND,
    Cause,
    Ending,
    Event,
    EventKind,
    Goal,
    Purpose,
    Reason,
    Run,
    RunState,
    Stage,
    Status,
    Training,
)
from loop.folders import RunFolders
from loop.logs.capture import LOG
from loop.process.machine import ClockWatch
from loop.process.supervisor import MARK, OUTCOME, STARTED, boot_id, start_time
from loop.process.trainer import mark_of
from loop.store.events import Sessions, open_calls
from loop.store.evidence.repeats import Repeats, RepeatUnderWay
from loop.store.journal import Journal
from notifiers.text.words import cause_text, reason_text
from tests.loop.fake_gpu import FakeGpu
from tests.loop.store.test_journal import make_experiment
from tests.loop.trainings import trained

SILENT = [EventKind.RUN_STARTED]


class FakeEngine(Engine):
    """An engine that notes down what it is told."""

    def __init__(self, run: Run, house: House) -> None:
        self.run = run
        self._house = house

    async def end_stalled(self, folder: Path) -> None:
        self._house.orders.append(("end", self.run.tag, str(folder)))

    async def pause(self, *, now: bool = False, reason: Reason = BY_COMMAND) -> None:
        if self._house.refuses:
            raise UserError(self._house.refuses)
        self._house.orders.append(("pause", self.run.tag, reason_text(reason)))
        self._house.reasons.append(reason)


class House(Runs):
    """Runs whose loops are what a test says, and which note down what they are told to do."""

    def __init__(self, home: Path, journal: Journal) -> None:
        super().__init__(
            load_settings(Path("no.env"), {"DATA_PATHS": ""}, home),
            repository=home,
            journal=journal,
            environ={},
            today=lambda: date(2026, 3, 12),
        )
        self.states: list[LoopState] = []
        self.orders: list[tuple[str, ...]] = []
        self.reasons: list[Reason] = []  # of its pauses
        self.refuses = ""

    def loops(self) -> list[LoopState]:
        return self.states

    def engine(self, run: Run) -> Engine:
        return FakeEngine(run, self)

    def restart(self, run: Run) -> None:
        self.orders.append(("restart", run.tag))
        self.states = [LoopState(run)]

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
        self.house = House(home, self.journal)
        self.house.states = [LoopState(self.run)]
        self.outside: list[Sequence[str]] = []
        self.beaten = asyncio.Event()
        self.outside_answers = asyncio.Event()
        self.outside_answers.set()
        self.examiner = Examiner(journal=self.journal, home=home, devices=None, now=lambda: self.now)
        self.heartbeat = Heartbeat(
            self.house,
            self.examiner,
            journal=self.journal,
            minutes=10.0,
            stall_minutes=5.0,
            report=self._outside,
            clock=ClockWatch(
                wall=lambda: self.now + self.slept,
                since_boot=lambda: self.now + self.slept,
                awake=lambda: self.now,
            ),
            now=lambda: self.now,
        )

    async def _outside(self, problems: Sequence[str]) -> None:
        self.outside.append(problems)
        self.beaten.set()
        await self.outside_answers.wait()

    def events(self, kind: EventKind) -> list[Event]:
        return [event for event in self.journal.events_after(0) if event.kind is kind]

    def kinds(self) -> list[EventKind]:
        own = (EventKind.TRAINING, EventKind.DECIDED)  # of what a test lets happen
        return [event.kind for event in self.journal.events_after(0) if event.kind not in own]

    def trains(self, attempt: int = 1) -> Path:
        """Let the run have a training under way, of which nothing is heard."""
        experiment = make_experiment(self.run, 3)
        for k in range(1, attempt):
            before = trained(experiment, k=k, ending=Ending.INTERRUPTED)
            self.journal.record(before, kind=EventKind.TRAINING)
        self.journal.record(
            trained(replace(experiment, stage=Stage.TRAINING), k=attempt, ending=None, numbers={})
        )
        folder = RunFolders(self.home, self.run.id).attempt(3, attempt)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def repeats(self) -> Path:
        """Let it repeat an experiment that has its verdict."""
        self.journal.record(make_experiment(self.run, 3, Status.KEEP))
        repeats = Repeats(self.journal)
        (repeat,) = repeats.ask(self.run.id, 3, RepeatFor.PERSON)
        repeats.begin(RepeatUnderWay(replace(repeat, k=2), Training(2, Purpose.REPEAT), 0))
        return RunFolders(self.home, self.run.id).attempt(3, 2)

    def trains_with(self, *, memory_mb: float) -> Path:
        """Let it have one under way, and a best that took so much memory."""
        baseline = make_experiment(self.run, status=Status.KEEP)
        self.journal.record(trained(baseline, numbers={"val_bpb": 1.0, "peak_vram_mb": memory_mb}))
        return self.trains()


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
            env={} if mark is None else {MARK: mark_of(mark)},
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


# Trainings and processes


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


# A training that ran out of memory


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
