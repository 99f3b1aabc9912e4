"""Where the money for models is spent, the search goes on or the run pauses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loop.experiment import Actor, Cause, Cost, EventKind, Reason
from loop.proposers.protocol import UnavailableError
from loop.store.experiments import IdeaBox
from tests.loop.proposers.oracles import DEEPER, WIDER, Institute, Oracle, crash


async def test_an_agent_that_is_ended_at_work_every_time_is_paid_and_runs_out(institute: Institute) -> None:
    agent = Oracle("agent", DEEPER, cost=Cost(dollars=0.4))
    await institute.researcher(agent, a_run=1.0).propose(institute.context())
    agent.answers = [UnavailableError("It was ended.", cut_off=True)]
    for _ in range(4):
        await institute.researcher(agent, a_run=1.0).propose(institute.context())
        institute.now += 86400
    assert len(agent.asked) == 2  # another one would cost too much
    assert institute.books().of_run(institute.run.id).dollars == pytest.approx(0.8)


async def test_when_the_money_is_spent_the_run_goes_on_with_search(institute: Institute) -> None:
    oracle = Oracle("oracle", WIDER, cost=Cost(dollars=0.4))
    idea = IdeaBox(institute.journal).add(institute.run.id, "make it wider", author="ann")
    made = []
    for _ in range(5):
        researcher = institute.researcher(oracle, a_run=1.0)
        made.append((await researcher.propose(institute.context())).proposer)
    assert made == ["oracle"] * 2 + ["search"] * 3
    await researcher.propose(replace(institute.context(), ideas=(idea,)))
    assert IdeaBox(institute.journal).waiting(institute.run.id) == (idea,)
    assert len(institute.told()) == 2  # nearly, and spent
    assert institute.pauses == []


async def test_an_idea_that_the_money_ran_out_over_waits_for_more(institute: Institute) -> None:
    oracle = Oracle("oracle", "def broken(", WIDER, cost=Cost(dollars=0.6))
    idea = IdeaBox(institute.journal).add(institute.run.id, "make it wider", author="ann")
    researcher = institute.researcher(oracle, a_day=1.0)
    for expected in (None, idea.id):
        proposal = await researcher.propose(replace(institute.context(), ideas=(idea,)))
        assert proposal.idea == expected
        institute.now += 86_400
    assert not any("given up" in reason for reason in institute.told())


async def test_a_crash_that_the_money_ran_out_over_waits_for_more(institute: Institute) -> None:
    oracle = Oracle("oracle", "def broken(", WIDER, cost=Cost(dollars=0.6))
    researcher = institute.researcher(oracle, a_day=1.0)
    for expected in (None, 1):
        assert (await researcher.propose(institute.context(crash()))).repairs == expected
        institute.now += 86_400


async def test_or_it_is_paused_once(institute: Institute) -> None:
    oracle = Oracle("oracle", WIDER, cost=Cost(dollars=0.5))
    for _ in range(5):
        await institute.researcher(oracle, a_run=1.0, pauses=True).propose(institute.context())
    (reason,) = institute.pauses
    assert reason == Reason(Actor.BUDGET, cause=Cause.BUDGET, facts={"setting": "LLM_BUDGET_USD"})
    (told,) = institute.told(EventKind.NEEDS_ATTENTION)
    assert told.startswith("$1.00 of the $1.00")
    assert "/resume" in told
