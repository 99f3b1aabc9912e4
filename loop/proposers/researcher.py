"""The proposer of a run: people first, then a crash worth mending, then one of the run's sources of ideas.

Nothing is remembered here that a restart may not forget: what was tried, told and spent is in the journal.
"""

from __future__ import annotations

import logging
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from loop.errors import UserError
from loop.experiment import Actor, Cause, Experiment, Proposal, Reason, Run
from loop.process.worker import in_thread
from loop.proposers.asking import Asking, BudgetWatch, Check, Outages, Source
from loop.proposers.people import propose_idea, prose, take_in
from loop.proposers.policy import idle, last_gain, to_repair, urge
from loop.proposers.prompt.context import INSTRUCTIONS
from loop.proposers.prompt.papers import Papers
from loop.proposers.protocol import Context, Failure, OutOfReachError, Proposer, Refusal, Urge
from loop.store.events import Notes
from loop.store.experiments import Idea, IdeaBox
from loop.store.journal import Journal

log = logging.getLogger(__name__)

TRIES = 3
"""How often an idea may put a model out of reach that had answered before; then it is given up."""


class Researcher:
    """Composes the sources of a run.

    `models` read prose and can mend, and may cost money or be out of reach; the first of them that can be
    asked is given the ideas of people. `search` does without all that: it has its `share`, which may be zero,
    and every experiment that no model makes. `failure` reads a crash as it is on top of a commit and may
    block, as may `device`, which names what trainings run on. `pause` rests the run when the money is spent;
    None: it goes on with search.
    """

    name = "researcher"

    def __init__(
        self,
        *,
        search: Proposer,
        share: float,
        models: Sequence[Source] = (),
        journal: Journal,
        failure: Callable[[Experiment, str], Failure],
        check: Check,
        budget: BudgetWatch,
        outages: Outages,
        papers: Papers,
        device: Callable[[], str],
        stuck_after: int,
        pause: Callable[[Run, Reason], Awaitable[None]] | None = None,
    ) -> None:
        self._search = search
        self._share = share
        self._models = tuple(models)
        self._ideas = IdeaBox(journal)
        self._notes = Notes(journal)
        self._failure = failure
        self._budget = budget
        self._asking = Asking(budget=budget, outages=outages, check=check)
        self._papers = papers
        self._device = device
        self._stuck_after = stuck_after
        self._pause = pause
        self._tries: Counter[tuple[int, str]] = Counter()  # by idea and model
        self._dropped: set[int] = set()  # crashes that are not worth mending

    async def propose(self, context: Context) -> Proposal:
        """Return the next program to train.

        Raises:
            UserError: not even the search has anything to propose.
        """
        context = await in_thread(self._complete, context)
        proposal = await self._of_constants(context)
        if proposal is not None:
            return proposal
        await self._look_at_money(context.run)
        return (
            await self._from_prose(context)
            or await self._mended(replace(context, ideas=(), urge=None))
            or await self._of_their_own(replace(context, ideas=()))
        )

    def _complete(self, context: Context) -> Context:
        """Add what the reader of contexts does not know, and tell people if the run is stuck."""
        run, experiments = context.run, context.experiments
        stuck = urge(experiments, after=self._stuck_after)
        if stuck is not None:
            number = last_gain(experiments)
            since = f" since #{number}" if number else ""
            count = idle(experiments)
            tried = f"{count} experiment{'s' if count > 1 else ''}"
            reason = f"no gain in {tried}{since}: it looks further afield from now on"
            self._notes.tell(run.id, Cause.STUCK, str(number or ""), reason)
        ideas = (*context.ideas, *take_in(run, self._ideas))
        return replace(context, ideas=ideas, urge=stuck, device=context.device or self._device())

    async def _look_at_money(self, run: Run) -> None:
        names = [model.name for model in self._models]
        pauses = self._pause is not None
        setting = await in_thread(self._budget.close, run.id, names, pauses=pauses)
        if setting is not None and self._pause is not None:
            try:
                await self._pause(run, Reason(Actor.BUDGET, cause=Cause.BUDGET, facts={"setting": setting}))
            except UserError as error:  # somebody has ended it
                log.info("run %s is not paused: %s", run.tag, error)

    # Ideas that are edits as they stand

    async def _of_constants(self, context: Context) -> Proposal | None:
        """Return the oldest idea that sets constants and is new; the others are answered with the reason."""
        while (proposal := await in_thread(propose_idea, context)) is not None:
            reason = await in_thread(self._asking.refusal, context, proposal)
            if reason is None:
                return proposal
            idea = next(idea for idea in context.ideas if idea.id == proposal.idea)
            await in_thread(self._ideas.give_up, idea, reason)
            context = replace(context, ideas=tuple(each for each in context.ideas if each != idea))
        return None

    # Ideas that take reading

    async def _from_prose(self, context: Context) -> Proposal | None:
        """Let a model make a program of the oldest idea that takes reading and that a model can be given."""
        for idea in await in_thread(prose, context.source, context.ideas):  # the others are answered already
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
        """Say whether to give the model an idea.

        One that may have put a model out of reach waits until the model has answered something else.
        """
        tries = self._tries[idea.id, model.name]
        if tries >= TRIES or (tries and not self._asking.is_healthy(model)):
            return False
        return await self._asking.may_ask(model, run)

    async def _try(self, idea: Idea, model: Source, context: Context) -> tuple[Proposal | None, str]:
        """Let the model make a program of the idea; without one, return why not."""
        this = idea.id, model.name
        healthy = self._asking.is_healthy(model)
        try:
            asked = replace(context, ideas=(idea,), urge=None)
            proposal = await self._asking.ask(model, asked, idea=idea)
        except OutOfReachError as error:
            self._tries[this] += healthy
            return None, str(error)
        if proposal is not None or await self._asking.may_ask(model, context.run):
            self._tries[this] = 0 if proposal is not None else TRIES
        # Else the money ran out over it: it waits.
        return proposal, f"{model.name} made no program of it"

    # Crashes

    async def _mended(self, context: Context) -> Proposal | None:
        """Let the model whose program crashed mend it, if that can be asked now."""
        crashed = to_repair(context.experiments, self._dropped)
        maker = next((m for m in self._models if crashed and crashed.proposer in m.signs), None)
        if crashed is None or maker is None or not await self._asking.may_ask(maker, context.run):
            return None
        try:
            failure = await in_thread(self._failure, crashed, context.parent)
        except UserError as error:
            log.info("experiment #%d is not mended: %s", crashed.number, error)
            self._dropped.add(crashed.number)
            return None
        mended = None
        with suppress(OutOfReachError):
            mended = await self._asking.ask(maker, context, failure=failure)
            if mended is None and await self._asking.may_ask(maker, context.run):
                self._dropped.add(crashed.number)
        return mended

    # Ideas of the sources' own

    async def _of_their_own(self, context: Context) -> Proposal:
        """Ask the sources by their shares, and the search where no other has anything."""
        if context.urge is Urge.REREADING and self._models:
            texts = (context.source, context.files.get(INSTRUCTIONS, ""))
            context = replace(context, papers=await self._papers.abstracts(texts))
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
        """Return what the search proposes that is new: it knows the last experiments only.

        Raises:
            UserError: it has nothing else.
        """
        while True:
            proposal = await self._search.propose(context)
            reason = await in_thread(self._asking.refusal, context, proposal)
            if reason is None:
                return proposal
            refusal = Refusal(proposal.description, reason)
            if refusal in context.refusals:
                raise UserError(f"The search has nothing new: {reason}")
            context = replace(context, refusals=(*context.refusals, refusal))

    async def _of_a_model(self, models: Sequence[Source], context: Context) -> Proposal | None:
        """Return the idea of the first of the models that has one."""
        for model in models:
            if self._asking.may_have_ideas(model) and await self._asking.may_ask(model, context.run):
                with suppress(OutOfReachError):
                    proposal = await self._asking.ask(model, context)
                    if proposal is not None:
                        return proposal
        return None

    def _in_turn(self, context: Context) -> tuple[list[Source], list[Source]]:
        """Return the models to ask before the search and after it, in this order.

        Each source comes first as often as its share says. The order hangs on run and number alone, so that a
        restart changes nothing. Clocks that ring after exponential times with the shares as their rates ring
        first in these proportions.
        """
        number = context.experiments[-1].number + 1 if context.experiments else 0
        chance = random.Random(f"{context.run.id}/{number}")  # noqa: S311 - no secret hangs on it
        rings = {model.name: chance.expovariate(model.weight) for model in self._models}
        own = chance.expovariate(self._share) if self._share else math.inf
        order = sorted(self._models, key=lambda model: rings[model.name])
        first = [model for model in order if rings[model.name] < own]
        return first, order[len(first) :]
