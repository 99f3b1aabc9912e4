"""What every proposer is given and what it must give back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from loop.experiment import Goal, Proposal, Status
from loop.ideas import Idea


@dataclass(frozen=True, slots=True)
class Trial:
    """What a proposer needs to know of an earlier experiment; `status` is None while it still trains.

    `constants` maps the names found in its constants block to their values; `value` is the metric.
    """

    number: int
    description: str
    constants: Mapping[str, object]
    value: float | None
    status: Status | None


@dataclass(frozen=True, slots=True)
class Context:
    """The state of a run as a proposer sees it: the best program so far, what was tried, what people want.

    `source` is the editable file at `parent`, the commit that the proposal is to be made against.
    """

    source: str
    parent: str
    goal: Goal
    trials: tuple[Trial, ...]
    ideas: tuple[Idea, ...] = ()


class Proposer(Protocol):
    """A source of ideas."""

    @property
    def name(self) -> str:
        """The name shown in results and digests."""

    async def propose(self, context: Context) -> Proposal:
        """Return an edit of `context.source`.

        Raises:
            LoopError: there is nothing to propose, or the source of ideas is out of reach.
        """
