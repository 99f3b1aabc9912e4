"""What people ask for comes first, and is given up only for a reason that they are told."""

from __future__ import annotations

from dataclasses import replace

from loop.proposers.calling import RETRIES
from loop.proposers.protocol import NoProgramError
from loop.proposers.researcher import TRIES, no_program
from loop.store.experiments import IdeaBox
from tests.loop.proposers.oracles import (
    DEEPER,
    DOWN,
    PROGRAM,
    WIDER,
    Answer,
    Institute,
    Oracle,
    discards,
)

DOWN_FOR_LONG: list[Answer] = [DOWN] * (3 * TRIES)


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
