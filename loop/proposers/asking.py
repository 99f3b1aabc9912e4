"""How models are asked: left alone while they fail, paid, asked again where a proposal is no good."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias

from loop.backoff import backoff
from loop.errors import UserError
from loop.experiment import Cause, Cost, Proposal, Run
from loop.process.worker import in_thread
from loop.program.constants import find_constants
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
from loop.store.events import Notes
from loop.store.experiments import Idea
from loop.store.spending import Account, Budget

log = logging.getLogger(__name__)

BACKOFF = (60.0, 300.0, 900.0)
"""Seconds to leave a model alone after its first, second, … failure in a row; the last for ever."""

REST = 300.0
"""Seconds for which a model that has no ideas of its own is not asked for any."""


class Reach(StrEnum):
    """Whether a model can be asked, as people were told."""

    AWAY = "away"
    LOST = "lost"  # until a person helps
    BACK = "back"


class Outages:
    """Which models can be asked, by name.

    People are told when one goes out of reach and when it is back, also where the bot was started again in
    between. `clock` counts seconds. Blocks for SQLite: use `failed` and `answered` in a worker thread.
    """

    def __init__(self, notes: Notes, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._notes = notes
        self._clock = clock
        self._failures: dict[str, int] = {}  # in a row
        self._rest_until: dict[str, float] = {}
        self._idle_until: dict[str, float] = {}

    def may_ask(self, name: str) -> bool:
        """Say whether the model need not be left alone."""
        return self._clock() >= self._rest_until.get(name, -math.inf)

    def is_healthy(self, name: str) -> bool:
        """Say whether the model has not failed since it answered last."""
        return name not in self._failures

    def failed(self, run_id: int, name: str, error: OutOfReachError) -> None:
        """Note that the model could not be asked, and leave it alone for a while."""
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        rest = max(backoff(BACKOFF, failures), error.retry_after or 0.0)
        self._rest_until[name] = self._clock() + rest
        reason = f"{name} is out of reach, the run goes on without it: {error}"
        if error.needs_person:
            self._notes.tell(run_id, Cause.PROPOSER, Reach.LOST, reason, key=name, urgent=True)
        elif self._told(run_id, name) != Reach.LOST:
            self._notes.tell(run_id, Cause.PROPOSER, Reach.AWAY, reason, key=name)

    def rest(self, name: str) -> None:
        """Note that the model has no ideas of its own just now. That is no outage: nobody is told."""
        self._idle_until[name] = self._clock() + REST

    def may_have_ideas(self, name: str) -> bool:
        """Say whether to ask the model for ideas of its own, as far as it can be asked at all."""
        return self._clock() >= self._idle_until.get(name, -math.inf)

    def answered(self, run_id: int, name: str) -> None:
        """Note that the model can be asked."""
        self._failures.pop(name, None)
        self._rest_until.pop(name, None)
        if self._told(run_id, name) in (Reach.AWAY, Reach.LOST):
            reason = f"{name} is within reach again"
            self._notes.tell(run_id, Cause.PROPOSER, Reach.BACK, reason, key=name)

    def _told(self, run_id: int, name: str) -> str | None:
        return self._notes.state(run_id, Cause.PROPOSER, name)


class Level(StrEnum):
    """How much of a limit is gone."""

    NEARLY_SPENT = "nearly_spent"
    SPENT = "spent"


class BudgetWatch:
    """Pays for models out of `purse` and tells people once as a limit comes near and once when it is reached.

    Blocks for SQLite: use it in a worker thread.
    """

    def __init__(self, purse: Budget, notes: Notes) -> None:
        self._purse = purse
        self._notes = notes

    def pay(self, run_id: int, name: str, cost: Cost) -> None:
        """Pay for a call of the model of that name, whatever came of it."""
        self._purse.pay(run_id, name, cost)
        if cost.dollars is None and self._purse.has_limit:
            reason = f"nobody knows the price of {name}: its dollars cannot be counted or limited"
            self._notes.tell(run_id, Cause.PRICE, "unknown", reason, key=name)
        for account in self._purse.accounts(run_id):
            if account.is_nearly_spent and not self._is_told(run_id, account):
                state = _state(Level.NEARLY_SPENT, account)
                self._notes.tell(run_id, Cause.BUDGET, state, str(account), key=account.setting)

    def pay_for_cut_off(self, run_id: int, name: str, known: Cost | None) -> None:
        """Pay for a call that was ended at work: at least what is known, and as much as its last ones cost.

        A provider charges for what was done, even where nobody is left to hear what that was.
        """
        known = known or Cost()
        dollars = max(known.dollars or 0.0, self._purse.price(name))
        if known.tokens or dollars:
            self.pay(run_id, name, replace(known, dollars=dollars or known.dollars))

    def allows(self, run_id: int, name: str) -> bool:
        """Say whether every limit has room for another call of that model."""
        price = self._purse.price(name)
        return all(account.pays(price) for account in self._purse.accounts(run_id))

    def close(self, run_id: int, names: Collection[str], *, pauses: bool) -> str | None:
        """Tell people if there is no room for a call of any of the models.

        Return the setting that is spent where they had not been told yet. `pauses` says that a person is
        needed then.
        """
        cheapest = min(map(self._purse.price, names), default=0.0)
        for account in self._purse.accounts(run_id):
            if names and not account.pays(cheapest):
                state, reason = _state(Level.SPENT, account), _reason(account, cheapest, pauses=pauses)
                if self._notes.tell(run_id, Cause.BUDGET, state, reason, key=account.setting, urgent=pauses):
                    return account.setting
        return None

    def _is_told(self, run_id: int, account: Account) -> bool:
        """Say whether people know already that nothing is left."""
        told = self._notes.state(run_id, Cause.BUDGET, account.setting)
        return told == _state(Level.SPENT, account)


def _state(level: Level, account: Account) -> str:
    """Return what a limit's note is told once of: a changed limit and another day are new."""
    return f"{level} {account.limit:g} {account.period}".strip()


def _reason(account: Account, price: float, *, pauses: bool) -> str:
    rest = f", and another call costs about ${price:.2f}" if account.spent < account.limit else ""
    if pauses:
        return f"{account}{rest}; /resume goes on with search, a larger {account.setting} with models"
    return f"{account}{rest}; the run goes on with search"


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
        budget: BudgetWatch,
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
        except UserError as error:
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
        except UserError as error:
            return str(error)


def _attributed(proposal: Proposal, idea: Idea | None, failure: Failure | None) -> Proposal:
    """Say what it is a proposal of, where it is not the model's own."""
    if failure is not None:
        return replace(proposal, repairs=failure.experiment.number, idea=failure.experiment.idea)
    return replace(proposal, idea=idea.id) if idea else proposal
