"""Histories of a run written by hand, as engine and bot leave them in a journal."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from loop.experiment import Event, EventKind, Experiment, RunState, Stage, Status, Training
from loop.results.ledger import Ledger, Spent, ledger
from loop.store.events import Session
from tests.loop.trainings import trained

START = 1_773_360_000.0


class Story:
    """A run's history, told event by event while `now` is moved on.

    `pass_` lets seconds pass; `expected` counts what each of them was spent on, as only the author can know.
    """

    def __init__(self, *, watched: bool = True) -> None:
        self.now = START
        self.expected: Counter[Spent] = Counter()
        self.events: list[Event] = []
        self.experiments: dict[int, Experiment] = {}
        self.sessions: list[Session] = []
        self.number = 0
        self.watched = watched
        if watched:
            self.bot_begins()

    def pass_(self, seconds: float, cause: Spent) -> None:
        self.now += seconds
        self.expected[cause] += int(seconds)

    def tell(self, kind: EventKind, **data: object) -> None:
        self.events.append(Event(len(self.events) + 1, self.now, 1, self.number, kind, data))

    def state(self, state: RunState) -> None:
        self.tell(EventKind.RUN_STATE, state=state.value, reason="by command")

    # The bot

    def bot_begins(self, boot: str | None = None) -> None:
        if boot is None:
            boot = self.sessions[-1].boot if self.sessions else "boot 0"
        self.sessions.append(Session(len(self.sessions) + 1, boot, 42, self.now, self.now))
        self.watched = True

    def bot_is_seen(self) -> None:
        if self.watched:
            self.sessions[-1] = replace(self.sessions[-1], seen_at=self.now)

    def bot_is_killed(self) -> None:
        self.bot_is_seen()
        self.watched = False

    def bot_ends(self) -> None:
        self.bot_is_killed()
        self.sessions[-1] = replace(self.sessions[-1], ended_at=self.now)

    def bot_is_away(self, seconds: float, cause: Spent = Spent.BOT_DOWN, *, boot: str | None = None) -> None:
        self.bot_is_killed()
        self.pass_(seconds, cause)
        self.bot_begins(boot)

    # The experiments

    def attempt_begins(self) -> None:
        self.tell(EventKind.TRAINING)
        self.experiments[self.number] = Experiment(
            run_id=1,
            number=self.number,
            stage=Stage.TRAINING,
            description="",
            rationale="",
            proposer="",
            parent="",
            training=Training(1, started_at=self.now),
        )

    def outcome(self, status: Status, counted: float | None = None, *, ended_at: float | None = None) -> None:
        """The training that began last has ended, now unless it is said when, and is judged."""
        self.experiments[self.number] = trained(
            replace(self.experiments[self.number], status=status),
            ended_at=self.now if ended_at is None else ended_at,
            numbers={} if counted is None else {"training_seconds": counted},
        )
        self.tell(EventKind.MEASURED)
        self.tell(EventKind.DECIDED)
        self.number += 1

    def put_back(self, *, vanished: bool = False) -> None:
        self.tell(EventKind.INTERRUPTED, reason="…", vanished=vanished)

    def training(self, startup: float = 20, counted: float = 300, status: Status = Status.KEEP) -> None:
        self.attempt_begins()
        self.pass_(startup, Spent.OVERHEAD)
        self.pass_(counted, Spent.TRAINING)
        self.outcome(status, counted)

    # What the ledger makes of it

    def ledger(self) -> Ledger:
        self.bot_is_seen()
        return ledger(self.events, self.experiments.values(), self.sessions, start=START, end=self.now)

    def spent(self) -> dict[Spent, float]:
        """Return the seconds of each cause that there was."""
        return {cause: seconds for cause, seconds in self.ledger().seconds.items() if seconds}
