"""What asking one model costs: time and money."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from loop.experiment import Cost, Proposal
from loop.proposers.calling import RETRIES, BudgetGuard, ModelCaller, Source, price_unknown
from loop.proposers.protocol import Context, NoProgramError
from loop.store.experiments import IdeaBox
from tests.loop.proposers.oracles import Institute, Oracle

NOTHING = NoProgramError("What?")


class Slow(Oracle):
    """A model that takes its time, by the institute's clock."""

    def __init__(self, institute: Institute, seconds: float) -> None:
        super().__init__("slow", NOTHING)
        self._institute = institute
        self._seconds = seconds

    async def propose(self, context: Context) -> Proposal:
        self._institute.now += self._seconds
        return await super().propose(context)


class Endless(Oracle):
    """A model that never answers."""

    def __init__(self) -> None:
        super().__init__("endless", "")
        self.is_at_work = asyncio.Event()

    async def propose(self, context: Context) -> Proposal:
        self.is_at_work.set()
        await asyncio.Event().wait()
        raise AssertionError


def caller(institute: Institute, *, a_run: float | None = None) -> ModelCaller:
    return ModelCaller(
        budget=BudgetGuard(institute.books(a_run=a_run), institute.notes),
        availability=institute.availability(),
        check=lambda proposal, context: None,
        clock=lambda: institute.now,
    )


@pytest.mark.parametrize(("seconds", "asked"), [(0.3, 1 + RETRIES), (0.4, 3), (0.5, 2), (1.0, 1), (3.0, 1)])
async def test_who_takes_longer_than_a_training_is_not_asked_again(
    institute: Institute, seconds: float, asked: int
) -> None:
    slow = Slow(institute, seconds * institute.run.time_budget)
    assert await caller(institute).call(Source("slow", slow), institute.context()) is None
    assert len(slow.asked) == asked


async def test_an_idea_of_a_person_may_take_longer(institute: Institute) -> None:
    slow = Slow(institute, 2 * institute.run.time_budget)
    idea = IdeaBox(institute.journal).add(institute.run.id, "make it wider", author="ann")
    context = replace(institute.context(), ideas=(idea,))
    assert await caller(institute).call(Source("slow", slow), context, idea=idea) is None
    assert len(slow.asked) == 1 + RETRIES


async def test_a_call_that_is_given_up_is_paid_like_the_last_ones(institute: Institute) -> None:
    institute.books().pay(institute.run.id, "endless", Cost(dollars=0.5))
    endless = Endless()
    call = asyncio.create_task(caller(institute).call(Source("endless", endless), institute.context()))
    await endless.is_at_work.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert institute.books().of_run(institute.run.id).dollars == 1.0


async def test_who_never_says_what_it_costs_is_told_of_where_there_is_a_limit(
    institute: Institute,
) -> None:
    secret = Source("agent", Oracle("agent", "DEPTH = 9\n"))
    for _ in range(3):
        assert await caller(institute, a_run=1.0).call(secret, institute.context())
    (told,) = institute.told()
    assert told == price_unknown("agent")
    assert institute.books().of_run(institute.run.id) == Cost(dollars=None)
