"""Whose turn it is, and what becomes of proposals."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from loop.errors import UserError
from loop.evidence import Rule, Severity
from loop.experiment import Cost, Status
from loop.proposers.calling import PAUSE, RETRIES
from loop.proposers.protocol import Context, NoProgramError, Rejection
from loop.store.experiments import IdeaBox
from tests.loop.proposers.contexts import trial
from tests.loop.proposers.oracles import (
    DEEPER,
    PROGRAM,
    WIDER,
    Institute,
    Oracle,
    crash,
    discards,
)


async def test_sources_are_asked_as_often_as_their_shares_say(institute: Institute) -> None:
    oracle = Oracle("oracle", WIDER)
    contexts = [institute.context(trial(number, "x", {}, 1.0, Status.DISCARD)) for number in range(400)]
    made = [
        (await institute.researcher(oracle, weights=(3.0,), search=1.0).propose(context)).proposer
        for context in contexts[:40]
    ]
    researcher = institute.researcher(oracle, weights=(3.0,), search=1.0)
    again = [(await researcher.propose(context)).proposer for context in contexts]
    assert again[:40] == made  # a restart changes nothing
    assert 270 < Counter(again)["oracle"] < 330


async def test_in_one_of_three_turns_a_model_is_told_what_the_search_has_learnt(
    institute: Institute,
) -> None:
    oracle = Oracle("oracle", WIDER)
    for number in range(9):
        context = institute.context(trial(number, "x", {}, 1.0, Status.DISCARD))
        await institute.researcher(oracle).propose(context)
    told = [context.search_state for context in oracle.asked]
    assert told == ["", "", "learnt from 1"] * 3


async def test_a_search_that_fails_tells_a_model_nothing(
    institute: Institute, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Context) -> str:
        raise UserError("The search worker ended.")

    monkeypatch.setattr(institute, "describe", fail)
    oracle = Oracle("oracle", WIDER)
    proposal = await institute.researcher(oracle).propose(institute.context())
    assert proposal.proposer == "oracle"
    assert [context.search_state for context in oracle.asked] == [""]


async def test_the_search_is_not_asked_what_it_has_learnt_where_no_model_is(
    institute: Institute, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Context) -> str:
        pytest.fail("it takes a process, and a second")

    monkeypatch.setattr(institute, "describe", fail)
    oracle, other = Oracle("oracle", WIDER), Oracle("other", DEEPER)
    for weight, dollars in ((1e-9, None), (1.0, 0.0)):  # the search comes first; nothing may be spent
        researcher = institute.researcher(
            oracle, weights=(weight,), search=1.0, fallback=other, a_run=dollars
        )
        assert (await researcher.propose(institute.context())).proposer == "search"
    assert oracle.asked == other.asked == []


async def test_a_refused_proposal_is_asked_for_again_with_the_reasons(institute: Institute) -> None:
    oracle = Oracle("oracle", WIDER, PROGRAM, "def broken(", DEEPER, cost=Cost(dollars=0.25))
    institute.rejections = {WIDER: "That was tried in #3.", PROGRAM: "It changes nothing."}
    proposal = await institute.researcher(oracle).propose(institute.context())
    assert proposal.source == DEEPER
    reasons = [refusal.reason for refusal in oracle.asked[-1].rejections]
    assert reasons[:2] == ["That was tried in #3.", "It changes nothing."]
    assert reasons[2].startswith("The program is not valid Python")
    assert institute.books().of_run(institute.run.id).dollars == 1.0  # refused ones cost too


async def test_a_model_without_anything_new_leaves_it_to_the_search(institute: Institute) -> None:
    oracle = Oracle("oracle", WIDER)
    institute.rejections[WIDER] = "That was tried in #3."
    researcher = institute.researcher(oracle)
    for now in (institute.now, institute.now + PAUSE - 1):
        institute.now = now
        proposal = await researcher.propose(institute.context())
        assert (proposal.proposer, len(oracle.asked)) == ("search", 1 + RETRIES)
    institute.now += 1
    await researcher.propose(institute.context())
    assert len(oracle.asked) == 2 * (1 + RETRIES)
    assert institute.told() == []


async def test_a_model_without_ideas_still_mends_and_reads(institute: Institute) -> None:
    oracle = Oracle("oracle", *[WIDER] * (1 + RETRIES), DEEPER)
    institute.rejections[WIDER] = "That was tried in #3."
    researcher = institute.researcher(oracle)
    assert (await researcher.propose(institute.context())).proposer == "search"
    repaired = await researcher.propose(institute.context(*discards(0), crash()))
    assert (repaired.proposer, repaired.repairs) == ("oracle", 1)
    idea = IdeaBox(institute.journal).add(institute.run.id, "make it deeper", author="ann")
    made = await researcher.propose(replace(institute.context(), ideas=(idea,)))
    assert (made.proposer, made.idea) == ("oracle", idea.id)


async def test_what_makes_no_program_is_refused_and_paid_and_no_outage(institute: Institute) -> None:
    nonsense = NoProgramError("It would not parse.", cost=Cost(dollars=0.25), description="wider")
    oracle = Oracle("oracle", *[nonsense] * RETRIES, WIDER, nonsense)
    researcher = institute.researcher(oracle)
    assert (await researcher.propose(institute.context())).source == WIDER
    assert oracle.asked[-1].rejections == (Rejection("wider", "It would not parse."),) * RETRIES
    assert (await researcher.propose(institute.context())).proposer == "search"
    assert len(oracle.asked) == 2 * (1 + RETRIES)
    assert institute.books().of_run(institute.run.id).dollars == 0.25 * (1 + 2 * RETRIES)
    assert institute.told() == []


async def test_what_the_search_forgot_is_not_trained_again(institute: Institute) -> None:
    search = Oracle("search", DEEPER, WIDER)
    institute.search, institute.rejections[DEEPER] = search, "It is the program of #3."
    proposal = await institute.researcher().propose(institute.context())
    assert proposal.source == WIDER
    assert [len(asked.rejections) for asked in search.asked] == [0, 1]


async def test_a_search_that_repeats_itself_has_nothing_new(institute: Institute) -> None:
    institute.search, institute.rejections[DEEPER] = Oracle("search", DEEPER), "It is the program of #3."
    with pytest.raises(UserError, match="nothing new: It is the program of #3"):
        await institute.researcher().propose(institute.context())


async def test_what_the_guard_finds_goes_with_the_proposal(institute: Institute) -> None:
    institute.search = Oracle("search", "import subprocess\nDEPTH = 9\nsubprocess.run(['true'])\n")
    proposal = await institute.researcher(search=1.0).propose(institute.context())
    found = {(each.rule, each.line) for each in proposal.findings}
    assert (Rule.PROCESS, 3) in found
    assert {each.severity for each in proposal.findings} == {Severity.FLAG}
