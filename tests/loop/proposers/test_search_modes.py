"""A run that is stuck gives its models a mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from loop.experiment import Status
from loop.proposers.prompt.context import Papers
from loop.proposers.protocol import EVERY, SearchMode
from loop.proposers.researcher import stuck
from tests.loop.proposers.contexts import trial
from tests.loop.proposers.oracles import WIDER, Institute, Oracle, discards


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
