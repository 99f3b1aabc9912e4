"""What every proposer is given and what it must give back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from loop.errors import UserError
from loop.experiment import Cost, Experiment, Goal, Proposal, Run
from loop.results.gains import Lesson
from loop.store.experiments import Idea


class NoProposalError(UserError):
    """Why a source of ideas was asked in vain. `cost` is what the asking cost nevertheless."""

    def __init__(self, reason: str, *, cost: Cost | None = None) -> None:
        super().__init__(reason)
        self.cost = cost


class OutOfReachError(NoProposalError):
    """A source of ideas cannot be asked just now: its provider is down or refuses.

    `retry_after` is how many seconds the provider asks to wait. `needs_person` says that no waiting will
    help: the key is refused, the account is empty. `cut_off` says that it was at work when it was ended, so
    that it may have cost more than anybody knows.
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


class NoProgramError(NoProposalError):
    """What a source of ideas answered makes no program that could be trained: it may be asked again.

    `description` is what it called its proposal, as far as that is known.
    """

    def __init__(self, reason: str, *, cost: Cost | None = None, description: str = "") -> None:
        super().__init__(reason, cost=cost)
        self.description = description


class HopelessError(NoProposalError):
    """A crash is not worth mending, says who made the program: its idea is dropped."""


class Urge(StrEnum):
    """What a run that is stuck asks for, in this order and over again."""

    COMBINATION = "combination"  # of near misses
    REREADING = "rereading"  # of the fixed files and of the papers that the program names
    RADICAL = "radical"  # a change of architecture
    SIMPLIFICATION = "simplification"


@dataclass(frozen=True, slots=True)
class Failure:
    """A crash that may be mended: its experiment, the program that crashed and the end of its log.

    The log is untrusted text without secrets. Out of memory is no bug: it asks for less, not for a
    correction.
    """

    experiment: Experiment
    source: str
    log: str
    out_of_memory: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """A proposal of this asking that was turned down: what it was called, if anything, and why, in words."""

    description: str
    reason: str


@dataclass(frozen=True, slots=True)
class Context:
    """The state of a run as a proposer sees it: the best program so far, what was tried, what people want.

    `source` is the editable file at `parent`, the commit that the proposal is to be made against.
    `experiments` are the last ones, the oldest first, the one under way included, and before them the one
    that was the best when the first of them was made. `changes` are the diffs of
    the kept ones and of the near misses among them, by number. `files` are the fixed texts of the repository
    by path: `program.md` and what no proposal may change. `lessons` come from earlier runs, and `papers` are
    abstracts of papers that the program names, fetched when the run is stuck.
    """

    run: Run
    source: str
    parent: str
    experiments: tuple[Experiment, ...] = ()
    ideas: tuple[Idea, ...] = ()
    changes: Mapping[int, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    lessons: tuple[Lesson, ...] = ()
    device: str = ""
    urge: Urge | None = None
    papers: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    @property
    def goal(self) -> Goal:
        """Which direction of the metric is better."""
        return self.run.goal


class Proposer(Protocol):
    """A source of ideas."""

    @property
    def name(self) -> str:
        """The name shown in results and digests."""

    async def propose(self, context: Context) -> Proposal:
        """Return an edit of `context.source`.

        Raises:
            UserError: there is nothing to propose.
        """


class Model(Proposer, Protocol):
    """A source of ideas that reads: a language model or a coding agent.

    `propose` makes a program of the first of the context's ideas, where there is one. Both ways of asking
    raise a `NoProposalError` where a model was asked in vain, and another `UserError` where it could not be.
    """

    async def repair(self, context: Context, failure: Failure) -> Proposal:
        """Return the crashed program mended, as an edit of `context.source`.

        Raises:
            HopelessError: it is not worth another training.
            UserError: as for `propose`.
        """
