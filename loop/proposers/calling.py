"""How models are called: not while they fail, within the budget, again where a proposal is rejected."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias

from loop.errors import UserError, backoff
from loop.evaluation.guard.examine import examine, refused
from loop.evidence import AGAIN, Finding, Severity
from loop.experiment import Cause, Cost, Experiment, Proposal, Run
from loop.gain import number
from loop.process.worker import in_thread
from loop.program.fingerprint import fingerprint
from loop.proposers.people import why_unwanted
from loop.proposers.protocol import (
    Context,
    Failure,
    Model,
    NoProgramError,
    ProposalError,
    Rejection,
    RepairGivenUpError,
    UnavailableError,
)
from loop.store.events import Notes
from loop.store.experiments import Idea
from loop.store.spending import Account, Budget

log = logging.getLogger(__name__)

BACKOFF = (60.0, 300.0, 900.0)
"""Seconds before a model is called again after its first, second, … failure in a row; the last for ever."""

PAUSE = 300.0  # seconds before a model whose proposals were all rejected is asked for one of its own again


class ModelState(StrEnum):
    """Whether a model can be called, as people were notified last. The values are in journals."""

    DOWN = "away"
    BLOCKED = "lost"  # until a person helps
    UP = "back"


UNAVAILABLE = (ModelState.DOWN, ModelState.BLOCKED)


class Availability:
    """Which models can be called, by name.

    People are notified when one becomes unavailable and when it is available again, also where the bot was
    restarted in between. `clock` counts seconds. `failed` and `answered` block for SQLite.
    """

    def __init__(self, notes: Notes, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._notes = notes
        self._clock = clock
        self._failures: dict[str, int] = {}  # in a row
        self._retry_at: dict[str, float] = {}
        self._paused_until: dict[str, float] = {}

    def is_available(self, name: str) -> bool:
        return self._clock() >= self._retry_at.get(name, -math.inf)

    def is_healthy(self, name: str) -> bool:
        return name not in self._failures

    def failed(self, run_id: int, name: str, error: UnavailableError) -> None:
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        wait = max(backoff(BACKOFF, failures), error.retry_after or 0.0)
        self._retry_at[name] = self._clock() + wait
        reason = unavailable(name, str(error))
        if error.needs_person:
            self._notes.tell(run_id, Cause.PROPOSER, ModelState.BLOCKED, reason, key=name, urgent=True)
        elif self._notes.state(run_id, Cause.PROPOSER, name) != ModelState.BLOCKED:
            self._notes.tell(run_id, Cause.PROPOSER, ModelState.DOWN, reason, key=name)

    def answered(self, run_id: int, name: str) -> None:
        self._failures.pop(name, None)
        self._retry_at.pop(name, None)
        if self._notes.state(run_id, Cause.PROPOSER, name) in UNAVAILABLE:
            self._notes.tell(run_id, Cause.PROPOSER, ModelState.UP, available_again(name), key=name)

    def pause_proposals(self, name: str) -> None:
        """Ask the model for nothing of its own for a while. That is no outage: people are not notified."""
        self._paused_until[name] = self._clock() + PAUSE

    def may_propose(self, name: str) -> bool:
        return self._clock() >= self._paused_until.get(name, -math.inf)


class BudgetLevel(StrEnum):
    NEARLY_SPENT = "nearly_spent"
    SPENT = "spent"


class BudgetGuard:
    """Records what models cost and notifies people once as a limit comes near and once when it is reached.

    Blocks for SQLite: use it in a worker thread.
    """

    def __init__(self, budget: Budget, notes: Notes) -> None:
        self._budget = budget
        self._notes = notes

    def pay(self, run_id: int, name: str, cost: Cost) -> None:
        self._budget.pay(run_id, name, cost)
        if cost.dollars is None and self._budget.has_limit:
            self._notes.tell(run_id, Cause.PRICE, "unknown", price_unknown(name), key=name)
        for account in self._budget.accounts(run_id):
            told = self._notes.state(run_id, Cause.BUDGET, account.setting)
            if account.is_nearly_spent and told != _state(BudgetLevel.SPENT, account):
                state = _state(BudgetLevel.NEARLY_SPENT, account)
                self._notes.tell(run_id, Cause.BUDGET, state, str(account), key=account.setting)

    def pay_for_cut_off(self, run_id: int, name: str, known: Cost | None) -> None:
        """Pay for a call that was ended at work: at least what is known, and as much as its last ones cost.

        A provider charges for what was done, even if the answer never arrived.
        """
        known = known or Cost()
        dollars = max(known.dollars or 0.0, self._budget.price(name))
        if known.tokens or dollars:
            self.pay(run_id, name, replace(known, dollars=dollars or known.dollars))

    def allows(self, run_id: int, name: str) -> bool:
        price = self._budget.price(name)
        return all(account.pays(price) for account in self._budget.accounts(run_id))

    def spent_setting(self, run_id: int, names: Collection[str], *, pauses: bool) -> str | None:
        """Return the setting whose limit has no room for a call of any of the models, the first time only.

        People are notified of it then; `pauses` says that one of them is needed.
        """
        cheapest = min(map(self._budget.price, names), default=0.0)
        for account in self._budget.accounts(run_id):
            if names and not account.pays(cheapest):
                state = _state(BudgetLevel.SPENT, account)
                reason = budget_spent(account, cheapest, pauses=pauses)
                if self._notes.tell(run_id, Cause.BUDGET, state, reason, key=account.setting, urgent=pauses):
                    return account.setting
        return None


def _state(level: BudgetLevel, account: Account) -> str:
    """Return what a limit is notified once of: a changed limit and another day are new."""
    return f"{level} {account.limit:g} {account.period}".strip()


# Sentences for people, as clauses.


def unavailable(name: str, reason: str) -> str:
    return f"{name} is unavailable; continuing without it: {reason}"


def available_again(name: str) -> str:
    return f"{name} is available again"


def price_unknown(name: str) -> str:
    return f"price of {name} unknown: its dollars are not counted, and the budget is not enforced for it"


def budget_spent(account: Account, price: float, *, pauses: bool) -> str:
    rest = f", and another call costs about ${price:.2f}" if account.spent < account.limit else ""
    if pauses:
        return (
            f"{account}{rest}; /resume continues with the search, a larger {account.setting} with the models"
        )
    return f"{account}{rest}; continuing with the search"


RETRIES = 3  # how often a model is called again whose proposal was rejected, or made no program
_REASONS = 5  # of a refusal that are said

Check: TypeAlias = Callable[[Proposal, Context], str | None]
"""Returns why a proposal is not worth a training, as a sentence; None where it is. It may block."""


@dataclass(frozen=True, slots=True)
class Source:
    """A model under its name in PROPOSER, and its share against those of the other sources.

    `signs` is the name that its proposals carry.
    """

    name: str
    proposer: Model
    weight: float = 1.0
    signs: str = ""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ModelCaller:
    """Calls models, each with its own budget and availability; `clock` counts seconds."""

    budget: BudgetGuard
    availability: Availability
    check: Check
    clock: Callable[[], float] = time.monotonic

    async def may_call(self, model: Source, run: Run) -> bool:
        return self.availability.is_available(model.name) and await in_thread(
            self.budget.allows, run.id, model.name
        )

    async def call(
        self, model: Source, context: Context, *, idea: Idea | None = None, failure: Failure | None = None
    ) -> Proposal | None:
        """Return what the model proposes, of `idea` where there is one, or how it repairs `failure`.

        None where it gives the repair up, or where all its proposals are rejected. One that has taken longer
        than a training is not called again, so that the search has its turn; only ideas of people may take
        longer.

        Raises:
            UnavailableError: it failed, whatever the reason; it is not called again for a while.
        """
        began = self.clock()
        for _ in range(1 + RETRIES):
            try:
                proposal = await self._answer(model, context, failure)
            except RepairGivenUpError as error:
                log.info("%s gives the repair up: %s", model.name, error)
                return None
            except NoProgramError as error:
                rejection = Rejection(error.description, str(error))
            else:
                proposal = _attributed(proposal, idea, failure)
                reason = await in_thread(self.why_rejected, context, proposal)
                if reason is None:
                    return proposal
                rejection = Rejection(proposal.description, reason)
            log.info("%r of %s is rejected: %s", rejection.description, model.name, rejection.reason)
            context = replace(context, rejections=(*context.rejections, rejection))
            if not await self.may_call(model, context.run):
                return None
            if idea is None and self.clock() - began >= context.run.time_budget:
                break
        if idea is None and failure is None:
            self.availability.pause_proposals(model.name)
        return None

    async def _answer(self, model: Source, context: Context, failure: Failure | None) -> Proposal:
        """Call once, and pay whatever the result."""
        run, name = context.run, model.name
        try:
            if failure is None:
                proposal = await model.proposer.propose(context)
            else:
                proposal = await model.proposer.repair(context, failure)
        except asyncio.CancelledError:
            await in_thread(self.budget.pay_for_cut_off, run.id, name, None)
            raise
        except UserError as error:
            if isinstance(error, UnavailableError) and error.cut_off:
                await in_thread(self.budget.pay_for_cut_off, run.id, name, error.cost)
            elif isinstance(error, ProposalError) and error.cost is not None:
                await in_thread(self.budget.pay, run.id, name, error.cost)
            if isinstance(error, RepairGivenUpError | NoProgramError):
                await in_thread(self.availability.answered, run.id, name)
                raise
            outage = error if isinstance(error, UnavailableError) else UnavailableError(str(error))
            await in_thread(self.availability.failed, run.id, name, outage)
            raise outage from error
        cost = proposal.cost or Cost(dollars=None)
        await in_thread(self.budget.pay, run.id, name, cost)
        await in_thread(self.availability.answered, run.id, name)
        return replace(proposal, cost=cost)

    def why_rejected(self, context: Context, proposal: Proposal) -> str | None:
        """Return why the proposal cannot become an experiment, or is not worth one. It may block."""
        if (unwanted := why_unwanted(context.wishes, context.source, proposal)) is not None:
            return unwanted
        try:
            return self.check(proposal, context)
        except UserError as error:
            return str(error)


def _attributed(proposal: Proposal, idea: Idea | None, failure: Failure | None) -> Proposal:
    if failure is not None:
        return replace(proposal, repairs=failure.experiment.number, idea=failure.experiment.idea)
    return replace(proposal, idea=idea.id) if idea else proposal


@dataclass(frozen=True, slots=True)
class Guard:
    """The check of proposals: says what the guard refuses. It blocks.

    `frozen` are names of modules; `base` returns the run's base program, `find` the experiment with a
    fingerprint, for those too old for a context. What is only flagged is in `examine`.
    """

    frozen: tuple[str, ...]
    base: Callable[[], str] = str
    find: Callable[[str], Experiment | None] = lambda _: None
    strict: bool = False

    def __call__(self, proposal: Proposal, context: Context) -> str | None:
        reasons = refused(self.examine(proposal.source, context), strict=self.strict)
        return " ".join(map(str, reasons[:_REASONS])) or None

    def flags(self, source: str, context: Context) -> tuple[Finding, ...]:
        """Return what people should know of a program that is trained all the same."""
        return tuple(each for each in self.examine(source, context) if each.severity is Severity.FLAG)

    def examine(self, source: str, context: Context) -> tuple[Finding, ...]:
        settled = [each for each in context.experiments if each.invalidated not in AGAIN]

        def earlier(program: str) -> str | None:
            recent = next((each for each in settled if each.program == program), None)
            if experiment := recent or self.find(program):
                return experiment_text(experiment, context.run.metric)
            return "the best one" if program == fingerprint(context.source) else None

        metric = context.run.metric
        return examine(source, base=self.base(), frozen=self.frozen, metric=metric, earlier=earlier)


def experiment_text(experiment: Experiment, metric: str) -> str:
    result = experiment.status or "under way"
    if experiment.value is not None:
        result = f"{result}, {metric} {number(experiment.value)}"
    return f"experiment #{experiment.number} ({result})"
