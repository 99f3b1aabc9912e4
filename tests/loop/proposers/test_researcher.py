from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.errors import UserError
from loop.evidence import Rule, Severity
from loop.experiment import Actor, Cause, Cost, EventKind, Experiment, Reason, Status
from loop.proposers.calling import PAUSE, RETRIES, available_again, unavailable
from loop.proposers.prompt.context import Papers
from loop.proposers.protocol import EVERY, Context, NoProgramError, Rejection, SearchMode, UnavailableError
from loop.proposers.researcher import TRIES, no_program, stuck
from loop.store.experiments import IdeaBox
from tests.loop.proposers.contexts import trial
from tests.loop.proposers.oracles import HOPELESS, PROGRAM, Answer, Institute, Oracle

WIDER = "DEPTH = 8\nWIDTH = 128\n"
DEEPER = "DEPTH = 12\nWIDTH = 64\n"
DOWN = UnavailableError("It is down.")
DOWN_FOR_LONG: list[Answer] = [DOWN] * (3 * TRIES)


def discards(count: int) -> list[Experiment]:
    return [
        trial(0, "baseline", {}, 1.0, Status.KEEP),
        *(trial(number, "x", {}, 1.1, Status.DISCARD) for number in range(1, count + 1)),
    ]


def crash(number: int = 1, proposer: str = "oracle") -> Experiment:
    return replace(trial(number, "x", {}, None, Status.CRASH), proposer=proposer)


# People


async def test_a_constant_that_somebody_names_needs_no_model(institute: Institute) -> None:
    oracle = Oracle("oracle", WIDER)
    box = IdeaBox(institute.journal)
    box.add(institute.run.id, "make it wider", author="ann")
    idea = box.add(institute.run.id, "DEPTH 12", author="bob")
    context = replace(institute.context(), ideas=box.waiting(institute.run.id))
    proposal = await institute.researcher(oracle).propose(context)
    assert (proposal.source, proposal.proposer, proposal.idea) == (DEEPER, "bob", idea.id)
    assert oracle.asked == []


async def test_a_constant_that_was_trained_already_is_answered_with_its_result(institute: Institute) -> None:
    box = IdeaBox(institute.journal)
    box.add(institute.run.id, "DEPTH 12", author="ann")
    box.add(institute.run.id, "DEPTH 8", author="ann")
    later = box.add(institute.run.id, "WIDTH 128", author="bob")
    institute.rejections = {DEEPER: "It was tried in #3.", PROGRAM: "It is the best program as it is."}
    context = replace(institute.context(), ideas=box.waiting(institute.run.id))
    proposal = await institute.researcher().propose(context)
    assert (proposal.source, proposal.proposer) == (WIDER, "bob")
    assert institute.told() == [
        "idea #1 of ann is given up: It was tried in #3.",
        "idea #2 of ann is given up: It is the best program as it is.",
    ]
    assert box.waiting(institute.run.id) == (later,)


async def test_prose_goes_to_the_first_model_alone_and_without_a_mode(institute: Institute) -> None:
    first, second = Oracle("first", WIDER), Oracle("second", DEEPER)
    idea = IdeaBox(institute.journal).add(institute.run.id, "make it wider", author="ann")
    context = replace(institute.context(*discards(20)), ideas=(idea,))
    proposal = await institute.researcher(first, second, weights=(0.01, 99.0)).propose(context)
    assert (proposal.source, proposal.proposer, proposal.idea) == (WIDER, "first", idea.id)
    (asked,) = first.asked
    assert (asked.ideas, asked.search_mode, asked.device) == ((idea,), None, "an abacus")


async def test_prose_waits_where_nobody_reads(institute: Institute) -> None:
    idea = IdeaBox(institute.journal).add(institute.run.id, "make it wider", author="ann")
    context = replace(institute.context(), ideas=(idea,))
    assert (await institute.researcher().propose(context)).idea is None
    assert IdeaBox(institute.journal).waiting(institute.run.id) == (idea,)


async def test_lines_of_the_file_of_ideas_are_ideas(institute: Institute) -> None:
    (institute.folder / "ideas.md").write_text("- WIDTH 128\n")
    proposal = await institute.researcher().propose(institute.context())
    assert (proposal.source, proposal.proposer) == (WIDER, "ideas.md")
    (idea,) = IdeaBox(institute.journal).waiting(institute.run.id)
    assert proposal.idea == idea.id


async def test_an_idea_that_no_program_can_be_made_of_is_given_up(institute: Institute) -> None:
    oracle = Oracle("oracle", *["def broken("] * (1 + RETRIES), DEEPER)
    idea = IdeaBox(institute.journal).add(institute.run.id, "do the impossible", author="ann")
    context = replace(institute.context(), ideas=(idea,))
    proposal = await institute.researcher(oracle).propose(context)
    assert (proposal.source, proposal.idea) == (DEEPER, None)
    assert IdeaBox(institute.journal).waiting(institute.run.id) == ()
    assert institute.told() == [f"idea #1 of ann is given up: {no_program('some:oracle')}"]


async def test_an_idea_is_given_up_only_when_no_model_is_left(institute: Institute) -> None:
    first, second = Oracle("first", NoProgramError("What?")), Oracle("second", WIDER, NoProgramError("What?"))
    box = IdeaBox(institute.journal)
    idea = box.add(institute.run.id, "make it wider", author="ann")
    context = replace(institute.context(), ideas=(idea,))
    researcher = institute.researcher(first, second)
    proposal = await researcher.propose(context)
    assert (proposal.proposer, proposal.idea, institute.told()) == ("second", idea.id, [])
    assert (await researcher.propose(context)).idea is None
    assert institute.told() == [f"idea #1 of ann is given up: {no_program('some:second')}"]
    assert sum(bool(asked.ideas) for asked in first.asked) == 1 + RETRIES


async def test_an_idea_outlives_an_outage(institute: Institute) -> None:
    oracle = Oracle("oracle", *DOWN_FOR_LONG, DEEPER, WIDER)
    idea = IdeaBox(institute.journal).add(institute.run.id, "make it wider", author="ann")
    researcher = institute.researcher(oracle)
    proposals = []
    for _ in range(3 * TRIES + 2):
        proposals.append(await researcher.propose(replace(institute.context(), ideas=(idea,))))
        institute.now += 3600
    assert [p.proposer for p in proposals] == ["search"] * (3 * TRIES) + ["oracle"] * 2
    assert [p.idea for p in proposals[-2:]] == [None, idea.id]  # first it is seen that the model is back


async def test_an_idea_that_breaks_a_model_again_and_again_is_given_up(institute: Institute) -> None:
    answers: list[Answer] = [DOWN, DEEPER] * TRIES
    oracle = Oracle("oracle", *answers, DEEPER)
    idea = IdeaBox(institute.journal).add(institute.run.id, "do the impossible", author="ann")
    researcher = institute.researcher(oracle)
    for _ in range(2 * TRIES):
        waiting = IdeaBox(institute.journal).waiting(institute.run.id)
        await researcher.propose(replace(institute.context(), ideas=waiting))
        institute.now += 3600
    assert [context.ideas for context in oracle.asked].count((idea,)) == TRIES
    assert "idea #1 of ann is given up: It is down." in institute.told()


async def test_one_outage_of_all_models_gives_up_no_idea(institute: Institute) -> None:
    models = [Oracle(name, DOWN) for name in ("first", "second", "third", "fourth")]
    idea = IdeaBox(institute.journal).add(institute.run.id, "make it wider", author="ann")
    context = replace(institute.context(), ideas=(idea,))
    assert (await institute.researcher(*models).propose(context)).proposer == "search"
    assert all(model.asked for model in models)
    assert IdeaBox(institute.journal).waiting(institute.run.id) == (idea,)


# Crashes


async def test_a_crash_is_repaired_by_who_made_it(institute: Institute) -> None:
    other, oracle = Oracle("other", DEEPER), Oracle("oracle", WIDER)
    context = institute.context(*discards(0), replace(crash(), idea=None))
    proposal = await institute.researcher(other, oracle).propose(context)
    assert (proposal.source, proposal.proposer, proposal.repairs) == (WIDER, "oracle", 1)
    assert oracle.mended[0].log == "RuntimeError: no such luck"


async def test_the_mended_experiment_answers_the_idea_of_the_crashed_one(institute: Institute) -> None:
    idea = IdeaBox(institute.journal).add(institute.run.id, "make it wider", author="ann")
    context = institute.context(*discards(0), replace(crash(), idea=idea.id))
    proposal = await institute.researcher(Oracle("oracle", WIDER)).propose(context)
    assert (proposal.repairs, proposal.idea) == (1, idea.id)


@pytest.mark.parametrize("proposer", ["search", "ann", "a model of another night"])
async def test_what_no_model_made_is_not_mended(institute: Institute, proposer: str) -> None:
    oracle = Oracle("oracle", DEEPER)
    await institute.researcher(oracle).propose(institute.context(*discards(0), crash(proposer=proposer)))
    assert (len(oracle.mended), len(oracle.asked)) == (0, 1)


async def test_a_crash_not_worth_mending_is_paid_and_dropped(institute: Institute) -> None:
    oracle = Oracle("oracle", HOPELESS, DEEPER)
    researcher = institute.researcher(oracle)
    for _ in range(2):
        proposal = await researcher.propose(institute.context(*discards(0), crash()))
        assert (proposal.source, proposal.repairs) == (DEEPER, None)
    assert len(oracle.mended) == 1
    assert institute.books().of_run(institute.run.id) == HOPELESS.cost
    assert institute.told() == []


async def test_a_crash_that_does_not_fit_what_was_kept_since_is_dropped(institute: Institute) -> None:
    oracle = Oracle("oracle", WIDER)
    older, later = institute.context(crash()), institute.context(crash(), crash(2))
    institute.misfits = {older.parent}
    researcher = institute.researcher(oracle)
    assert (await researcher.propose(older)).repairs is None
    institute.misfits = set()
    assert (await researcher.propose(later)).repairs == 2


async def test_a_refused_mending_is_asked_for_again_with_the_reason(institute: Institute) -> None:
    oracle = Oracle("oracle", NoProgramError("It parses not.", description="repaired"), WIDER)
    proposal = await institute.researcher(oracle).propose(institute.context(*discards(0), crash()))
    assert (proposal.source, proposal.repairs) == (WIDER, 1)
    assert oracle.asked[-1].rejections == (Rejection("repaired", "It parses not."),)


# The sources' own ideas


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
    mended = await researcher.propose(institute.context(*discards(0), crash()))
    assert (mended.proposer, mended.repairs) == ("oracle", 1)
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


@settings(max_examples=30)
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


# Money


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


# Being stuck


async def test_a_stuck_run_has_a_mode_and_says_so_once(institute: Institute) -> None:
    oracle = Oracle("oracle", WIDER)
    for count in range(4 + 4 * EVERY):
        await institute.researcher(oracle, stuck_after=5).propose(institute.context(*discards(count)))
    urges = [context.search_mode for context in oracle.asked]
    assert urges[:5] == [None] * 5
    assert list(dict.fromkeys(urges[5:])) == list(SearchMode)
    assert institute.told() == [stuck(5, None)]
    gain = trial(99, "x", {}, 0.9, Status.KEEP)
    await institute.researcher(oracle, stuck_after=5).propose(institute.context(*discards(9), gain))
    assert oracle.asked[-1].search_mode is None


class Library(Papers):
    async def _fetch(self, papers: Sequence[str]) -> dict[str, str]:
        return dict.fromkeys(papers, "Muon is scalable")


async def test_who_rereads_is_given_the_papers(institute: Institute) -> None:
    institute.papers = Library()
    oracle = Oracle("oracle", WIDER)
    for count in (5, 5 + EVERY):
        context = institute.context(*discards(count))
        context = replace(context, files={"program.md": "See https://arxiv.org/abs/2502.16982."})
        await institute.researcher(oracle, stuck_after=5).propose(context)
    assert [(c.search_mode, c.papers) for c in oracle.asked] == [
        (SearchMode.COMBINATION, ()),
        (SearchMode.REREADING, ("Muon is scalable",)),
    ]


async def test_what_the_guard_finds_goes_with_the_proposal(institute: Institute) -> None:
    institute.search = Oracle("search", "import subprocess\nDEPTH = 9\nsubprocess.run(['true'])\n")
    proposal = await institute.researcher(search=1.0).propose(institute.context())
    found = {(each.rule, each.line) for each in proposal.findings}
    assert (Rule.PROCESS, 3) in found
    assert {each.severity for each in proposal.findings} == {Severity.FLAG}
