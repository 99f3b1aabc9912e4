"""Models that answer as a test wants, and a researcher on a real journal that asks them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from loop.errors import UserError
from loop.evaluation.guard.examine import examine, refused
from loop.experiment import Cost, EventKind, Experiment, Proposal, Reason, Run, Status
from loop.proposers.calling import Availability, BudgetGuard, Guard, Source
from loop.proposers.prompt.context import Papers
from loop.proposers.protocol import Context, Failure, Model, Proposer, RepairGivenUpError, UnavailableError
from loop.proposers.researcher import Researcher
from loop.store.events import Notes
from loop.store.journal import Journal
from loop.store.spending import Budget
from tests.loop.proposers.contexts import context_of, trial
from tests.loop.store.test_journal import make_run

PROGRAM = "DEPTH = 8\nWIDTH = 64\n"
WIDER = "DEPTH = 8\nWIDTH = 128\n"
DEEPER = "DEPTH = 12\nWIDTH = 64\n"

Answer: TypeAlias = str | UserError
"""A program, or a failure."""

DOWN = UnavailableError("It is down.")
HOPELESS = RepairGivenUpError("It is not worth it.", cost=Cost(dollars=0.25))


def discards(count: int) -> list[Experiment]:
    return [
        trial(0, "baseline", {}, 1.0, Status.KEEP),
        *(trial(number, "x", {}, 1.1, Status.DISCARD) for number in range(1, count + 1)),
    ]


def crash(number: int = 1, proposer: str = "oracle") -> Experiment:
    return replace(trial(number, "x", {}, None, Status.CRASH), proposer=proposer)


class Oracle:
    """A model with one answer for each asking; the last one again and again."""

    def __init__(self, name: str, *answers: Answer, cost: Cost | None = None) -> None:
        self.name = name
        self.answers = list(answers)
        self.cost = cost
        self.asked: list[Context] = []
        self.repaired: list[Failure] = []

    async def propose(self, context: Context) -> Proposal:
        return self._answer(context)

    async def repair(self, context: Context, failure: Failure) -> Proposal:
        self.repaired.append(failure)
        return self._answer(context)

    def _answer(self, context: Context) -> Proposal:
        self.asked.append(context)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, UserError):
            raise answer
        return Proposal(answer, f"by {self.name}", "because", self.name, context.parent, cost=self.cost)


class Institute:
    """A run in a real journal, with everything that a researcher needs; `now` is what its clocks show."""

    def __init__(self, folder: Path, journal: Journal | None = None, run: Run | None = None) -> None:
        self.folder = folder
        self.now = 1_773_360_000.0
        self.journal = journal or Journal(folder / "state.db")
        self.journal.clock = lambda: self.now
        self.run = run or replace(make_run(self.journal), repository=folder)
        self.notes = Notes(self.journal)
        self.search: Proposer = Oracle("search", "DEPTH = 9\nWIDTH = 64\n")
        self.rejections: dict[str, str] = {}  # by program
        self.misfits: set[str] = set()  # commits that no crash can be carried over to
        self.pauses: list[Reason] = []
        self.pause: Callable[[Run, Reason], Awaitable[None]] = self._note_pause
        self.log = "RuntimeError: no such luck"
        self.papers = Papers(url="http://127.0.0.1:1/")

    def books(self, *, a_run: float | None = None, a_day: float | None = None) -> Budget:
        return Budget(self.journal, a_run=a_run, a_day=a_day)

    def researcher(
        self,
        *models: Model,
        weights: Sequence[float] = (),
        fallback: Model | None = None,
        search: float = 0.0,
        a_run: float | None = None,
        a_day: float | None = None,
        pauses: bool = False,
        stuck_after: int = 15,
    ) -> Researcher:
        """Return a new researcher, as a bot just started makes it."""
        shares = weights or [1.0] * len(models)
        return Researcher(
            search=self.search,
            share=search,
            models=[
                Source(f"some:{m.name}", m, share, m.name) for m, share in zip(models, shares, strict=True)
            ],
            fallback=None
            if fallback is None
            else Source(f"some:{fallback.name}", fallback, 1.0, fallback.name),
            journal=self.journal,
            failure=self._failure,
            check=self._check,
            budget=BudgetGuard(self.books(a_run=a_run, a_day=a_day), self.notes),
            availability=self.availability(),
            papers=self.papers,
            device=lambda: "an abacus",
            stuck_after=stuck_after,
            flags=Guard(("prepare",)).flags,
            describe=self.describe,
            pause=self.pause if pauses else None,
        )

    async def describe(self, context: Context) -> str:
        return f"learnt from {len(context.experiments)}"

    def availability(self) -> Availability:
        return Availability(self.notes, clock=lambda: self.now)

    def context(self, *experiments: Experiment) -> Context:
        return replace(context_of(PROGRAM, *experiments), run=self.run)

    def told(self, *kinds: EventKind) -> list[str]:
        """Return what people were told, all of it or of these kinds."""
        kinds = kinds or (EventKind.NOTED, EventKind.NEEDS_ATTENTION)
        events = self.journal.events_after(0, limit=1000)
        return [str(event.data["reason"]) for event in events if event.kind in kinds]

    def _failure(self, experiment: Experiment, parent: str) -> Failure:
        if parent in self.misfits:
            raise UserError("It does not fit what was kept since.")
        return Failure(experiment, "DEPTH = oops\n", self.log, False)

    async def _note_pause(self, run: Run, reason: Reason) -> None:
        self.pauses.append(reason)

    def _check(self, proposal: Proposal, _: Context) -> str | None:
        reasons = refused(examine(proposal.source), strict=False)
        return self.rejections.get(proposal.source) or next(map(str, reasons), None)
