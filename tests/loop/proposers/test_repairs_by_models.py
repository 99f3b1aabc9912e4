"""A crash is repaired by the model that made it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loop.proposers.protocol import NoProgramError, Rejection
from loop.store.experiments import IdeaBox
from tests.loop.proposers.oracles import (
    DEEPER,
    HOPELESS,
    WIDER,
    Institute,
    Oracle,
    crash,
    discards,
)


async def test_a_crash_is_repaired_by_who_made_it(institute: Institute) -> None:
    other, oracle = Oracle("other", DEEPER), Oracle("oracle", WIDER)
    context = institute.context(*discards(0), replace(crash(), idea=None))
    proposal = await institute.researcher(other, oracle).propose(context)
    assert (proposal.source, proposal.proposer, proposal.repairs) == (WIDER, "oracle", 1)
    assert oracle.repaired[0].log == "RuntimeError: no such luck"


async def test_the_mended_experiment_answers_the_idea_of_the_crashed_one(institute: Institute) -> None:
    idea = IdeaBox(institute.journal).add(institute.run.id, "make it wider", author="ann")
    context = institute.context(*discards(0), replace(crash(), idea=idea.id))
    proposal = await institute.researcher(Oracle("oracle", WIDER)).propose(context)
    assert (proposal.repairs, proposal.idea) == (1, idea.id)


@pytest.mark.parametrize("proposer", ["search", "ann", "a model of another night"])
async def test_what_no_model_made_is_not_mended(institute: Institute, proposer: str) -> None:
    oracle = Oracle("oracle", DEEPER)
    await institute.researcher(oracle).propose(institute.context(*discards(0), crash(proposer=proposer)))
    assert (len(oracle.repaired), len(oracle.asked)) == (0, 1)


async def test_a_crash_not_worth_mending_is_paid_and_dropped(institute: Institute) -> None:
    oracle = Oracle("oracle", HOPELESS, DEEPER)
    researcher = institute.researcher(oracle)
    for _ in range(2):
        proposal = await researcher.propose(institute.context(*discards(0), crash()))
        assert (proposal.source, proposal.repairs) == (DEEPER, None)
    assert len(oracle.repaired) == 1
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
