"""How one model is asked: paid, asked again where its proposal is no good, left alone when it fails."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from loop.errors import LoopError
from loop.experiment import Cost, Proposal, Run
from loop.process.threads import in_thread
from loop.program.constants import find_constants
from loop.proposers.budget import Budget
from loop.proposers.outages import Outages
from loop.proposers.protocol import (
    Context,
    Failure,
    HopelessError,
    Model,
    NoProgramError,
    NoProposalError,
    OutOfReachError,
    Refusal,
)
from loop.store.ideas import Idea

log = logging.getLogger(__name__)

AGAIN = 3
"""How often a model is asked again whose proposal was refused, or made no program."""

Check: TypeAlias = Callable[[Proposal, Context], str | None]
"""Says why a proposal is not worth a training, as a sentence; None where it is. It may block."""


@dataclass(frozen=True, slots=True)
class Source:
    """A model under the name that people gave it, and its share against those of the other sources.

    `signs` are the names that its proposals may carry: a model's own, and its fallback's.
    """

    name: str
    proposer: Model
    weight: float = 1.0
    signs: tuple[str, ...] = ()


class Asking:
    """Asks models, each with its own money and outages; `clock` counts seconds."""

    def __init__(
        self,
        *,
        budget: Budget,
        outages: Outages,
        check: Check,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._budget = budget
        self._outages = outages
        self._check = check
        self._clock = clock

    async def may_ask(self, model: Source, run: Run) -> bool:
        """Say whether the model need not be left alone and there is money for it."""
        return self._outages.may_ask(model.name) and await in_thread(self._budget.allows, run.id, model.name)

    def may_have_ideas(self, model: Source) -> bool:
        """Say whether to ask the model for ideas of its own, as far as it can be asked at all."""
        return self._outages.may_have_ideas(model.name)

    def is_healthy(self, model: Source) -> bool:
        """Say whether the model has not failed since it answered last."""
        return self._outages.is_healthy(model.name)

    async def ask(
        self, model: Source, context: Context, *, idea: Idea | None = None, failure: Failure | None = None
    ) -> Proposal | None:
        """Return what the model proposes, of `idea` where there is one, or how it mends `failure`.

        None where it will not mend it, or where nothing of what it proposed is any good. Nobody is told of
        that, but a model without ideas of its own is not asked for any for a while. One that has taken longer
        than a training is not asked again, so that the search has its turn; only ideas of people may take
        longer.

        Raises:
            OutOfReachError: it failed. Whatever the trouble was, it is left alone for a while.
        """
        began = self._clock()
        for _ in range(1 + AGAIN):
            try:
                proposal = await self._answer(model, context, failure)
            except HopelessError as error:
                log.info("%s drops the idea: %s", model.name, error)
                return None
            except NoProgramError as error:
                refusal = Refusal(error.description, str(error))
            else:
                proposal = _attributed(proposal, idea, failure)
                reason = await in_thread(self.refusal, context, proposal)
                if reason is None:
                    return proposal
                refusal = Refusal(proposal.description, reason)
            log.info("%r of %s is refused: %s", refusal.description, model.name, refusal.reason)
            context = replace(context, refusals=(*context.refusals, refusal))
            if not await self.may_ask(model, context.run):
                return None
            if idea is None and self._clock() - began >= context.run.time_budget:
                break
        if idea is None and failure is None:
            self._outages.rest(model.name)
        return None

    async def _answer(self, model: Source, context: Context, failure: Failure | None) -> Proposal:
        """Ask once, and pay whatever came of it."""
        run, name = context.run, model.name
        try:
            if failure is None:
                proposal = await model.proposer.propose(context)
            else:
                proposal = await model.proposer.repair(context, failure)
        except asyncio.CancelledError:
            await in_thread(self._budget.pay_for_cut_off, run.id, name, None)
            raise
        except LoopError as error:
            if isinstance(error, OutOfReachError) and error.cut_off:
                await in_thread(self._budget.pay_for_cut_off, run.id, name, error.cost)
            elif isinstance(error, NoProposalError) and error.cost is not None:
                await in_thread(self._budget.pay, run.id, name, error.cost)
            if isinstance(error, HopelessError | NoProgramError):
                await in_thread(self._outages.answered, run.id, name)
                raise
            outage = error if isinstance(error, OutOfReachError) else OutOfReachError(str(error))
            await in_thread(self._outages.failed, run.id, name, outage)
            raise outage from error
        cost = proposal.cost or Cost(dollars=None)
        await in_thread(self._budget.pay, run.id, name, cost)
        await in_thread(self._outages.answered, run.id, name)
        return replace(proposal, cost=cost)

    def refusal(self, context: Context, proposal: Proposal) -> str | None:
        """Return why the proposal cannot become an experiment, or is not worth one; None where it is.

        It may block.
        """
        try:
            find_constants(proposal.source)  # as is done with every experiment
            return self._check(proposal, context)
        except LoopError as error:
            return str(error)


def _attributed(proposal: Proposal, idea: Idea | None, failure: Failure | None) -> Proposal:
    """Say what it is a proposal of, where it is not the model's own."""
    if failure is not None:
        return replace(proposal, repairs=failure.experiment.number, idea=failure.experiment.idea)
    return replace(proposal, idea=idea.id) if idea else proposal
