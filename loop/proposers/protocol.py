"""What every proposer is given and what it must give back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import takewhile
from typing import Protocol

from loop.errors import UserError
from loop.evaluation.noise import Noise
from loop.experiment import Cost, Experiment, Goal, Proposal, Run, Status
from loop.results.gains import Lesson
from loop.store.experiments import Idea, Row, Wished

STUCK_AFTER = 15
"""Decided experiments without a keep after which a run is stuck. Published nights keep one of six."""

EVERY = 3  # experiments for which a search mode stays before the next one has its turn


class ProposalError(UserError):
    """Why a source of ideas has no proposal. `cost` is what the call cost nevertheless."""

    def __init__(self, reason: str, *, cost: Cost | None = None) -> None:
        super().__init__(reason)
        self.cost = cost


class UnavailableError(ProposalError):
    """A source of ideas cannot be called now: its provider is down or refuses.

    `retry_after` is in seconds, as the provider says. `needs_person`: waiting does not help, because the key
    is refused or the account empty. `cut_off`: it was ended at work, so its cost may not be known.
    """

    def __init__(
        self,
        reason: str,
        *,
        cost: Cost | None = None,
        retry_after: float | None = None,
        needs_person: bool = False,
        cut_off: bool = False,
    ) -> None:
        super().__init__(reason, cost=cost)
        self.retry_after = retry_after
        self.needs_person = needs_person
        self.cut_off = cut_off


class NoProgramError(ProposalError):
    """An answer makes no program that could be trained: the source may be called again."""

    def __init__(self, reason: str, *, cost: Cost | None = None, description: str = "") -> None:
        super().__init__(reason, cost=cost)
        self.description = description


class ExhaustedError(ProposalError):
    """There is nothing to propose until a person sends an idea or changes a setting."""


class RepairGivenUpError(ProposalError):
    """A crash is not worth repairing, says the author of the program: its idea is dropped."""


class SearchMode(StrEnum):
    """What a run that is stuck tries, in this order and over again."""

    COMBINATION = "combination"  # of near misses
    REREADING = "rereading"  # of the fixed files and of the papers that the program names
    RADICAL = "radical"  # a change of architecture
    SIMPLIFICATION = "simplification"


def idle(experiments: Sequence[Experiment | Row]) -> int:
    """Return how many experiments got a verdict since the last that was kept."""
    since = takewhile(lambda experiment: experiment.status is not Status.KEEP, reversed(experiments))
    return sum(experiment.status in (Status.DISCARD, Status.CRASH) for experiment in since)


def last_gain(experiments: Sequence[Experiment]) -> int | None:
    return next((e.number for e in reversed(experiments) if e.status is Status.KEEP), None)


def search_mode(experiments: Sequence[Experiment], *, after: int = STUCK_AFTER) -> SearchMode | None:
    """Return what a stuck run tries now, None where it is not stuck; modes take turns until a keep."""
    over = idle(experiments) - after
    modes = tuple(SearchMode)
    return modes[over // EVERY % len(modes)] if over >= 0 else None


@dataclass(frozen=True, slots=True)
class Failure:
    """A crash that may be repaired: its experiment, its program and the end of its log, without secrets."""

    experiment: Experiment
    source: str
    log: str
    out_of_memory: bool


@dataclass(frozen=True, slots=True)
class Rejection:
    """A proposal that was turned down just now: its description, which may be empty, and why."""

    description: str
    reason: str


@dataclass(frozen=True, slots=True)
class Context:
    """The state of a run as a proposer sees it: the best program so far, what was tried, what people want.

    `source` is the editable file at `parent`, the commit to make the proposal against. `experiments` are the
    last ones, the oldest first, the one under way included, and before them the best when the first of them
    was made. `wishes` are what people said of experiments. `changes` are diffs of the kept ones and near
    misses, by number. `files` are the fixed texts of the repository by path. `papers` are abstracts of papers
    that the program names, if the run is stuck. `noise` is the run's, None until enough programs were trained
    again. `search_state` says what the search over constants has learnt, where the proposer is told.
    """

    run: Run
    source: str
    parent: str
    experiments: tuple[Experiment, ...] = ()
    ideas: tuple[Idea, ...] = ()
    wishes: tuple[Wished, ...] = ()
    changes: Mapping[int, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    lessons: tuple[Lesson, ...] = ()
    device: str = ""
    search_mode: SearchMode | None = None
    papers: tuple[str, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    noise: Noise | None = None
    search_state: str = ""

    @property
    def goal(self) -> Goal:
        return self.run.goal

    @property
    def number(self) -> int:
        """The number of the experiment that is to be proposed."""
        return self.experiments[-1].number + 1 if self.experiments else 0

    @property
    def last_value(self) -> float | None:
        """The last number of the metric, to write others like it; None before the first."""
        return next((each.value for each in reversed(self.experiments) if each.value is not None), None)


class Proposer(Protocol):
    """A source of ideas."""

    @property
    def name(self) -> str: ...

    async def propose(self, context: Context) -> Proposal:
        """Return an edit of `context.source`, or raise a UserError if there is nothing to propose."""


class Model(Proposer, Protocol):
    """A source of ideas that reads: a language model or a coding agent.

    `propose` makes a program of the first of the context's ideas, where there is one. Both methods raise
    `ProposalError` without a result, and another `UserError` where the model could not be called at all.
    """

    async def repair(self, context: Context, failure: Failure) -> Proposal:
        """Return the crashed program repaired, as an edit of `context.source`."""
