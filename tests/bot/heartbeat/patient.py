"""A run, a heartbeat that looks after it, and a clock that goes as the test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from bot.heartbeat.heartbeat import Heartbeat
from bot.heartbeat.probe import Examiner
from bot.runs import LoopState, Runs
from bot.setup.settings import load_settings
from loop.engine.run import Engine
from loop.errors import UserError
from loop.evidence import RepeatFor
from loop.experiment import (
    BY_COMMAND,
    Ending,
    Event,
    EventKind,
    Purpose,
    Reason,
    Run,
    Stage,
    Status,
    Training,
)
from loop.folders import RunFolders
from loop.machine import ClockWatch
from loop.store.evidence.repeats import Repeats, RepeatUnderWay
from loop.store.journal import Journal
from notifiers.text.words import reason_text
from tests.loop.store.test_journal import make_experiment, make_run
from tests.loop.trainings import trained


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
        self.run = make_run(self.journal, repository=home)
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
