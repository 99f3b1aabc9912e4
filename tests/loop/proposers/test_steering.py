"""More like this and never again: what they rule, that everybody obeys, and that a restart keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from loop.evidence import Wish
from loop.experiment import Asker, EventKind, Experiment, Family, Proposal, Status
from loop.program.constants import find_constants
from loop.proposers.people import unwanted, why_unwanted
from loop.proposers.prompt.briefing import brief
from loop.proposers.search.space import find_axes
from loop.proposers.search.suggest import suggest
from loop.proposers.search.tries import moves_like
from loop.store.experiments import IdeaBox, Wished, Wishes
from loop.store.journal import Journal
from tests.loop.proposers.contexts import context_of, trial
from tests.loop.proposers.oracles import PROGRAM as TOY
from tests.loop.proposers.oracles import Institute, Oracle
from tests.loop.store.test_journal import make_experiment, make_run

PROGRAM = """\
DEPTH = 8
EMBEDDING_LR = 0.6
MATRIX_LR = 0.04
ADAM_BETAS = (0.8, 0.95)
USE_BIAS = True
WARMDOWN_RATIO = 0.5
"""
PRESENT = {constant.name: constant.value for constant in find_constants(PROGRAM)}


def wished(wish: Wish, **changed: tuple[object, object]) -> Wished:
    return Wished(wish, 12, "ann", "what it was", None, changed)


@pytest.mark.parametrize(
    ("changed", "after", "ruled_out"),
    [
        ({"MATRIX_LR": (0.04, 0.05)}, {"MATRIX_LR": 0.05}, True),
        ({"MATRIX_LR": (0.04, 0.05)}, {"MATRIX_LR": 0.08}, True),  # beyond
        ({"MATRIX_LR": (0.04, 0.05)}, {"MATRIX_LR": 0.045}, False),
        ({"MATRIX_LR": (0.04, 0.05)}, {"MATRIX_LR": 0.03}, False),  # the other way
        ({"MATRIX_LR": (0.04, 0.05)}, {"MATRIX_LR": 0.05, "DEPTH": 9}, True),  # with something else
        ({"MATRIX_LR": (0.04, 0.05), "DEPTH": (8, 9)}, {"MATRIX_LR": 0.05}, False),  # together or not at all
        ({"MATRIX_LR": (0.04, 0.05), "DEPTH": (8, 9)}, {"MATRIX_LR": 0.06, "DEPTH": 10}, True),
        ({"MATRIX_LR": (0.02, 0.04)}, {"DEPTH": 9}, False),  # the best program has it, and nobody moves it
        ({"MATRIX_LR": (0.02, 0.04)}, {"MATRIX_LR": 0.05}, True),  # further than the best program
        ({"MATRIX_LR": (0.02, 0.04)}, {"MATRIX_LR": 0.03}, False),
        ({"ADAM_BETAS": ([0.8, 0.95], [0.8, 0.97])}, {"ADAM_BETAS": (0.8, 0.98)}, True),
        ({"ADAM_BETAS": ([0.8, 0.95], [0.8, 0.97])}, {"ADAM_BETAS": (0.85, 0.95)}, False),
        ({"USE_BIAS": (True, False)}, {"USE_BIAS": False}, True),
        ({"USE_BIAS": (False, True)}, {"DEPTH": 9}, False),
        ({"GONE": (1, 2)}, {"DEPTH": 9}, False),
        ({}, {"DEPTH": 9}, False),  # a change of code: no constant says whether it is done again
    ],
)
def test_what_is_never_to_be_done_again(
    changed: Mapping[str, tuple[object, object]], after: Mapping[str, object], ruled_out: bool
) -> None:
    never = wished(Wish.NEVER, **changed)
    assert (unwanted([never], PRESENT, {**PRESENT, **after}) is never) is ruled_out
    assert unwanted([replace(never, wish=Wish.MORE)], PRESENT, {**PRESENT, **after}) is None


def test_a_person_may_have_an_idea_all_the_same() -> None:
    never = [wished(Wish.NEVER, DEPTH=(8, 9))]
    again = Proposal(PROGRAM.replace("DEPTH = 8", "DEPTH = 9"), "DEPTH 8 → 9")
    assert "#12" in (why_unwanted(never, PROGRAM, again) or "")
    assert why_unwanted(never, PROGRAM, replace(again, idea=3)) is None
    assert why_unwanted(never, PROGRAM, replace(again, source="DEPTH = oops")) is None


def test_more_goes_further_the_same_way_and_then_to_the_family() -> None:
    axes = find_axes(find_constants(PROGRAM), frozenset())
    told = [
        [(axis.constant.name, value) for axis, value in moves]
        for moves in moves_like(wished(Wish.MORE, MATRIX_LR=(0.03, 0.04), WARMDOWN_RATIO=(0.6, 0.5)), axes)
    ]
    assert told[:3] == [
        [("MATRIX_LR", 0.05), ("WARMDOWN_RATIO", 0.45)],
        [("MATRIX_LR", 0.05)],
        [("WARMDOWN_RATIO", 0.45)],
    ]
    assert {name for moves in told[5:] for name, _ in moves} <= {"EMBEDDING_LR", "ADAM_BETAS"}
    assert len(told) <= 7
    of_code = replace(wished(Wish.MORE), family=Family.OPTIMIZER)
    assert [moves[0][0].constant.name for moves in moves_like(of_code, axes)] == ["EMBEDDING_LR", "MATRIX_LR"]


def test_the_search_obeys_and_a_restart_changes_nothing() -> None:
    trials: list[Experiment] = [trial(0, "baseline", PRESENT, 1.0, Status.KEEP)]
    more, never = wished(Wish.MORE, MATRIX_LR=(0.05, 0.04)), wished(Wish.NEVER, DEPTH=(8, 9))
    shown = []
    for number in range(1, 16):
        context = replace(context_of(PROGRAM, *trials), wishes=(never, more))
        proposal = suggest(context)
        assert suggest(context) == proposal
        values = {constant.name: constant.value for constant in find_constants(proposal.source)}
        assert unwanted([never], PRESENT, values) is None
        shown.append(proposal.description)
        trials.append(trial(number, proposal.description, values, 1.1, Status.DISCARD))
    assert shown[:2] == ["MATRIX_LR 0.04 → 0.035", "MATRIX_LR 0.04 → 0.03"]
    assert any(description.startswith("DEPTH 8 → ") for description in shown)  # the other way


async def test_models_are_told_and_what_is_ruled_out_is_refused(institute: Institute) -> None:
    deeper = TOY.replace("DEPTH = 8", "DEPTH = 12")
    wider = TOY.replace("WIDTH = 64", "WIDTH = 128")
    oracle = Oracle("oracle", deeper, wider)
    never = replace(wished(Wish.NEVER, DEPTH=(8, 10)), description="DEPTH 8 → 10")
    context = replace(institute.context(), wishes=(never,))
    assert "#12 DEPTH 8 → 10: never again" in brief(context, 20_000).text
    proposal = await institute.researcher(oracle).propose(context)
    assert proposal.source == wider
    assert "never again to #12" in oracle.asked[1].rejections[0].reason
    box = IdeaBox(institute.journal)
    box.add(institute.run.id, "DEPTH 12", author="ann")
    asked = replace(context, ideas=box.waiting(institute.run.id))
    assert (await institute.researcher(oracle).propose(asked)).source == deeper


def test_wishes_outlive_the_bot_and_can_be_taken_back(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "state.db")) as journal:
        run = make_run(journal)
        first = replace(make_experiment(run, 0), commit="a" * 40, constants={"DEPTH": 8, "BETAS": [0.8, 0.9]})
        second = replace(
            make_experiment(run, 1),
            parent="a" * 40,
            constants={"DEPTH": 9, "BETAS": [0.8, 0.9], "NEW": 1},
            family=Family.ARCHITECTURE,
        )
        journal.record(replace(first, status=Status.KEEP))
        journal.record(replace(second, status=Status.DISCARD))
        assert Wishes(journal).put(second, Wish.NEVER, Asker("ann", "telegram:7"))
        assert not Wishes(journal).put(second, Wish.NEVER)
    with closing(Journal(tmp_path / "state.db")) as journal:
        (kept,) = Wishes(journal).read(run.id)
        assert (kept.wish, kept.number, kept.name, kept.changed) == (Wish.NEVER, 1, "ann", {"DEPTH": (8, 9)})
        assert kept.family is Family.ARCHITECTURE
        assert Wishes(journal).put(second, Wish.MORE)
        assert Wishes(journal).put(second, None)
        assert not Wishes(journal).put(second, None)
        assert Wishes(journal).read(run.id) == ()
        events = [event for event in journal.events_after(0) if event.kind is EventKind.WISHED]
        assert [event.data["wish"] for event in events] == ["never", "more", None]
