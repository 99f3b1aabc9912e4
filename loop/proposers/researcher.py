"""The proposer of a run: first ideas of people, then a crash worth repairing, then one of the run's sources.

Nothing is kept here that a restart may not lose: what was tried, notified and spent is in the journal.
"""

from __future__ import annotations

import logging
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import InitVar, dataclass, replace

from loop.errors import UserError
from loop.evidence import Finding
from loop.experiment import Actor, Cause, Experiment, Proposal, Reason, Run, Status
from loop.process.worker import in_thread
from loop.proposers.calling import Availability, BudgetGuard, Check, ModelCaller, Source
from loop.proposers.people import add_from_file, ideas_in_prose, propose_idea
from loop.proposers.prompt.context import INSTRUCTIONS, Papers
from loop.proposers.protocol import (
    Context,
    Failure,
    Proposer,
    Rejection,
    SearchMode,
    UnavailableError,
    idle,
    last_gain,
    search_mode,
)
from loop.store.events import Notes
from loop.store.experiments import Idea, IdeaBox
from loop.store.journal import Journal

log = logging.getLogger(__name__)

TRIES = 3  # how often an idea may make a model unavailable that had answered before; then it is given up
REPAIRS = 2  # repairs of one idea before it is dropped
STATE_EVERY = 3
"""In one of so many turns a model is told what the search has learnt (Centaur, arXiv 2603.24647: 30 %)."""

_RECENT = 2  # the next experiment is proposed while one trains or after it: no crash is missed


@dataclass(eq=False, kw_only=True)
class Researcher:
    """Composes the sources of a run.

    `models` read prose and can repair crashes, cost money and may be unavailable; `fallback` is called
    where those whose turn it is give nothing. `search` has its `share`, which may be zero, and every
    experiment that no model proposes. `describe` says what it has learnt. `failure` reads a crash on top
    of a commit and may block, as may `device`. `pause` pauses the run when the budget is spent; None: it
    continues with the search.
    """

    name = "researcher"

    search: Proposer
    share: float
    models: InitVar[Sequence[Source]]
    fallback: InitVar[Source | None]
    journal: InitVar[Journal]
    failure: Callable[[Experiment, str], Failure]
    check: InitVar[Check]
    budget: BudgetGuard
    availability: Availability
    papers: Papers
    device: Callable[[], str]
    stuck_after: int
    describe: Callable[[Context], Awaitable[str]]
    flags: Callable[[str, Context], tuple[Finding, ...]]
    pause: Callable[[Run, Reason], Awaitable[None]] | None

    def __post_init__(
        self, models: Sequence[Source], fallback: Source | None, journal: Journal, check: Check
    ) -> None:
        self._sources = tuple(models)
        self._fallback = (fallback,) if fallback and models else ()
        self._models = (*self._sources, *self._fallback)
        self._ideas = IdeaBox(journal)
        self._notes = Notes(journal)
        self._caller = ModelCaller(budget=self.budget, availability=self.availability, check=check)
        self._tries: Counter[tuple[int, str]] = Counter()  # by idea and model
        self._dropped: set[int] = set()  # crashes that are not worth repairing

    async def propose(self, context: Context) -> Proposal:
        context = await in_thread(self._complete, context)
        proposal = await self._choose(context)
        return replace(proposal, findings=await in_thread(self.flags, proposal.source, context))

    async def _choose(self, context: Context) -> Proposal:
        if proposal := await self._of_constants(context):
            return proposal
        await self._pause_if_spent(context.run)
        return (
            await self._from_prose(context)
            or await self._repaired(replace(context, ideas=(), search_mode=None))
            or await self._of_their_own(replace(context, ideas=()))
        )

    def _complete(self, context: Context) -> Context:
        """Add what the reader of contexts does not know, and notify people if the run is stuck."""
        run, experiments = context.run, context.experiments
        mode = search_mode(experiments, after=self.stuck_after)
        if mode is not None:
            number = last_gain(experiments)
            self._notes.tell(run.id, Cause.STUCK, str(number or ""), stuck(idle(experiments), number))
        ideas = (*context.ideas, *add_from_file(run, self._ideas))
        return replace(context, ideas=ideas, search_mode=mode, device=context.device or self.device())

    async def _pause_if_spent(self, run: Run) -> None:
        names = [model.name for model in self._models]
        pauses = self.pause is not None
        setting = await in_thread(self.budget.spent_setting, run.id, names, pauses=pauses)
        if setting is not None and self.pause is not None:
            try:
                await self.pause(run, Reason(Actor.BUDGET, cause=Cause.BUDGET, facts={"setting": setting}))
            except UserError as error:  # a person has stopped it meanwhile
                log.info("run %s is not paused: %s", run.tag, error)

    # Ideas of people

    async def _of_constants(self, context: Context) -> Proposal | None:
        """Return the oldest idea that sets constants and is new; the others are answered with the reason."""
        while (proposal := await in_thread(propose_idea, context)) is not None:
            reason = await in_thread(self._caller.why_rejected, context, proposal)
            if reason is None:
                return proposal
            idea = next(idea for idea in context.ideas if idea.id == proposal.idea)
            await in_thread(self._ideas.give_up, idea, reason)
            context = replace(context, ideas=tuple(each for each in context.ideas if each != idea))
        return None

    async def _from_prose(self, context: Context) -> Proposal | None:
        """Let a model make a program of the oldest idea in prose that a model can be given."""
        for idea in await in_thread(ideas_in_prose, context.source, context.ideas):
            reason = ""
            for model in self._models:
                if await self._may_try(idea, model, context.run):
                    proposal, reason = await self._try(idea, model, context)
                    if proposal is not None:
                        return proposal
            if reason and all(self._tries[idea.id, model.name] >= TRIES for model in self._models):
                await in_thread(self._ideas.give_up, idea, reason)
        return None

    async def _may_try(self, idea: Idea, model: Source, run: Run) -> bool:
        """Return whether to give the model an idea.

        One that may have made a model unavailable waits until the model has answered something else.
        """
        tries = self._tries[idea.id, model.name]
        if tries >= TRIES or (tries and not self.availability.is_healthy(model.name)):
            return False
        return await self._caller.may_call(model, run)

    async def _try(self, idea: Idea, model: Source, context: Context) -> tuple[Proposal | None, str]:
        this = idea.id, model.name
        healthy = self.availability.is_healthy(model.name)
        try:
            asked = replace(context, ideas=(idea,), search_mode=None)
            proposal = await self._caller.call(model, asked, idea=idea)
        except UnavailableError as error:
            self._tries[this] += healthy
            return None, str(error)
        if proposal is not None or await self._caller.may_call(model, context.run):
            self._tries[this] = 0 if proposal is not None else TRIES
        # Else the budget ran out over it: it waits.
        return proposal, no_program(model.name)

    # Crashes

    async def _repaired(self, context: Context) -> Proposal | None:
        """Let the model whose program crashed repair it, or the fallback where it is unavailable."""
        crashed = crash_to_repair(context.experiments, self._dropped)
        author = next((model for model in self._models if crashed and crashed.proposer == model.signs), None)
        if crashed is None or author is None:
            return None
        for model in (author, *self._fallback):
            if await self._caller.may_call(model, context.run):
                try:
                    failure = await in_thread(self.failure, crashed, context.parent)
                except UserError as error:
                    log.info("experiment #%d is not repaired: %s", crashed.number, error)
                    self._dropped.add(crashed.number)
                    return None
                with suppress(UnavailableError):
                    repaired = await self._caller.call(model, context, failure=failure)
                    if repaired is None and await self._caller.may_call(model, context.run):
                        self._dropped.add(crashed.number)
                    return repaired
        return None

    # Proposals of the sources' own

    async def _of_their_own(self, context: Context) -> Proposal:
        """Call the sources by their shares, and the search where no other has anything."""
        if context.search_mode is SearchMode.REREADING and self._models:
            texts = (context.source, context.files.get(INSTRUCTIONS, ""))
            context = replace(context, papers=await self.papers.abstracts(texts))
        first, others = self._in_turn(context)
        if (proposal := await self._of_a_model(first, context)) is not None:
            return proposal
        try:
            return await self._searched(context)
        except UserError:
            if (proposal := await self._of_a_model(others, context)) is not None:
                return proposal
            raise

    async def _searched(self, context: Context) -> Proposal:
        """Return what the search proposes that is new: it knows the last experiments only."""
        while True:
            proposal = await self.search.propose(context)
            reason = await in_thread(self._caller.why_rejected, context, proposal)
            if reason is None:
                return proposal
            rejection = Rejection(proposal.description, reason)
            if rejection in context.rejections:
                raise UserError(f"The search has nothing new: {reason}")
            context = replace(context, rejections=(*context.rejections, rejection))

    async def _of_a_model(self, models: Sequence[Source], context: Context) -> Proposal | None:
        """Return the proposal of the first of the models that has one, the fallback after them."""
        for model in (*models, *self._fallback) if models else ():
            may_propose = self.availability.may_propose(model.name)
            if may_propose and await self._caller.may_call(model, context.run):
                context = await self._told(context)
                with suppress(UnavailableError):
                    proposal = await self._caller.call(model, context)
                    if proposal is not None:
                        return proposal
        return None

    async def _told(self, context: Context) -> Context:
        """Return the context, in one of three turns with what the search has learnt."""
        if context.search_state or context.number % STATE_EVERY:
            return context
        try:
            return replace(context, search_state=await self.describe(context))
        except UserError as error:
            log.warning("models are not told what the search has learnt: %s", error)
            return context

    def _in_turn(self, context: Context) -> tuple[list[Source], list[Source]]:
        """Return the models to call before the search and after it, in this order.

        Each source comes first as often as its share says: of exponential times with the shares as rates,
        each is the shortest in these proportions. The order depends on run and number alone, so that a
        restart changes nothing.
        """
        chance = random.Random(f"{context.run.id}/{context.number}")  # noqa: S311 - no secret hangs on it
        times = {model.name: chance.expovariate(model.weight) for model in self._sources}
        own = chance.expovariate(self.share) if self.share else math.inf
        order = sorted(self._sources, key=lambda model: times[model.name])
        first = [model for model in order if times[model.name] < own]
        return first, order[len(first) :]


def crash_to_repair(experiments: Sequence[Experiment], dropped: Collection[int] = ()) -> Experiment | None:
    """Return the older of the two last decided experiments that crashed and may be repaired.

    It may not if it is among the `dropped`, was repaired already, or is the last repair of its idea.
    """
    recent = [experiment for experiment in experiments if experiment.status is not None][-_RECENT:]
    done = {experiment.repairs for experiment in experiments}.union(dropped)
    crashes = (e for e in recent if e.status is Status.CRASH and e.number not in done)
    return next((crash for crash in crashes if _depth(crash, experiments) < REPAIRS), None)


def _depth(experiment: Experiment, experiments: Sequence[Experiment]) -> int:
    by_number = {other.number: other for other in experiments}
    depth = 0
    found: Experiment | None = experiment
    while found is not None and found.repairs is not None and depth < REPAIRS:
        depth += 1
        found = by_number.get(found.repairs)
    return depth


# Sentences for people, as clauses.


def stuck(count: int, since: int | None) -> str:
    last = f" since #{since}" if since else ""
    return f"no gain in {count} experiment{'s' if count > 1 else ''}{last}: switching to broader changes"


def no_program(name: str) -> str:
    return f"{name} proposed no valid program for it"
