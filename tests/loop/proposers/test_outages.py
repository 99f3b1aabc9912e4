"""Models that are unreachable or fail: the others, the fallback and the search go on."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.errors import UserError
from loop.experiment import Cost
from loop.proposers.calling import PAUSE, RETRIES, available_again, unavailable
from loop.proposers.protocol import NoProgramError, UnavailableError
from loop.store.experiments import IdeaBox
from tests.loop.proposers.oracles import (
    DEEPER,
    DOWN,
    WIDER,
    Answer,
    Institute,
    Oracle,
    crash,
    discards,
)


async def test_while_a_model_is_out_of_reach_the_others_go_on(institute: Institute) -> None:
    first = Oracle("first", UnavailableError("It is down.", cost=Cost(dollars=0.5)))
    second = Oracle("second", WIDER)
    researcher = institute.researcher(first, second, weights=(1e9, 1.0))
    for _ in range(3):
        assert (await researcher.propose(institute.context())).proposer == "second"
    assert len(first.asked) == 1
    second.answers = [DOWN]
    for _ in range(3):
        assert (await researcher.propose(institute.context())).proposer == "search"
    institute.now += 60
    first.answers = [DEEPER]
    assert (await researcher.propose(institute.context())).proposer == "first"
    assert institute.told() == [
        unavailable("some:first", "It is down."),
        unavailable("some:second", "It is down."),
        available_again("some:first"),
    ]
    assert institute.books().of_run(institute.run.id).dollars == 0.5


async def test_the_fallback_is_called_where_a_model_gave_nothing(institute: Institute) -> None:
    first, second = Oracle("first", DOWN), Oracle("second", WIDER, cost=Cost(dollars=0.25))
    researcher = institute.researcher(first, fallback=second)
    assert (await researcher.propose(institute.context())).proposer == "second"
    first.answers = [NoProgramError("What?", cost=Cost(dollars=0.5))]
    institute.now += 60
    assert (await researcher.propose(institute.context())).proposer == "second"
    assert len(first.asked) == 1 + 1 + RETRIES
    assert institute.told() == [unavailable("some:first", "It is down."), available_again("some:first")]
    assert institute.books().of_run(institute.run.id).dollars == 2 * 0.25 + (1 + RETRIES) * 0.5
    assert institute.books().price("some:second") == 0.25  # each model is paid under its own name
    first.answers, institute.now = [DEEPER], institute.now + PAUSE
    assert (await researcher.propose(institute.context())).proposer == "first"
    assert len(second.asked) == 2


async def test_the_fallback_reads_ideas_and_repairs_crashes_of_a_model_that_is_down(
    institute: Institute,
) -> None:
    first, second = Oracle("first", DOWN), Oracle("second", WIDER)
    idea = IdeaBox(institute.journal).add(institute.run.id, "make it wider", author="ann")
    researcher = institute.researcher(first, fallback=second)
    made = await researcher.propose(replace(institute.context(), ideas=(idea,)))
    assert (made.proposer, made.idea) == ("second", idea.id)
    for author in ("first", "second"):
        repaired = await researcher.propose(institute.context(*discards(0), crash(proposer=author)))
        assert (repaired.proposer, repaired.repairs) == ("second", 1)
    assert len(first.asked) == 1


async def test_the_fallback_proposes_nothing_where_it_is_the_turn_of_the_search(institute: Institute) -> None:
    second = Oracle("second", WIDER)
    researcher = institute.researcher(Oracle("first", DOWN), weights=(1e-9,), search=1.0, fallback=second)
    assert (await researcher.propose(institute.context())).proposer == "search"
    alone = institute.researcher(fallback=second)  # PROPOSER=search
    idea = IdeaBox(institute.journal).add(institute.run.id, "make it wider", author="ann")
    assert (await alone.propose(replace(institute.context(), ideas=(idea,)))).proposer == "search"
    assert second.asked == []


async def test_any_failure_of_a_model_leaves_it_to_the_search(institute: Institute) -> None:
    researcher = institute.researcher(Oracle("oracle", UserError("The disk is full.")))
    assert (await researcher.propose(institute.context())).proposer == "search"
    assert institute.told() == [unavailable("some:oracle", "The disk is full.")]


async def test_only_where_nobody_has_anything_there_is_nothing(institute: Institute) -> None:
    institute.search = Oracle("search", UserError("All was tried."))
    oracle = Oracle("oracle", WIDER)
    researcher = institute.researcher(oracle, weights=(1e-9,), search=1.0)
    assert (await researcher.propose(institute.context())).proposer == "oracle"
    oracle.answers = [DOWN]
    with pytest.raises(UserError, match="All was tried"):
        await researcher.propose(institute.context())


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(st.sampled_from(["good", "refused", "nonsense", "down", "broken"]), st.integers(0, 2000)),
        max_size=12,
    )
)
def test_whatever_a_model_does_there_is_a_proposal_and_every_call_is_paid(
    tmp_path_factory: pytest.TempPathFactory, story: list[tuple[str, int]]
) -> None:
    institute = Institute(tmp_path_factory.mktemp("institute"))
    institute.rejections[WIDER] = "That was tried in #3."
    cost = Cost(1, 0, 1, 0.125)
    oracle = Oracle("oracle", DEEPER, cost=cost)
    answers: dict[str, Answer] = {
        "good": DEEPER,
        "refused": WIDER,
        "nonsense": NoProgramError("It would not parse.", cost=cost),
        "down": UnavailableError("It is down.", cost=cost),
        "broken": UserError("The disk is full."),
    }
    researcher = institute.researcher(oracle)
    free = 0
    for kind, seconds in story:
        before = len(oracle.asked)
        oracle.answers = [answers[kind]]
        proposal = asyncio.run(researcher.propose(institute.context()))
        asked = len(oracle.asked) - before
        free += asked if kind == "broken" else 0
        assert asked in ((0, 1 + RETRIES) if kind in ("refused", "nonsense") else (0, 1))
        assert proposal.proposer == ("oracle" if kind == "good" and asked else "search")
        institute.now += seconds
    assert institute.books().of_run(institute.run.id).input_tokens == len(oracle.asked) - free
    again = available_again("some:oracle")
    told = ["back" if reason == again else "out" for reason in institute.told()]
    assert told == ["out", "back"] * (len(told) // 2) + ["out"] * (len(told) % 2)
    institute.journal.close()
