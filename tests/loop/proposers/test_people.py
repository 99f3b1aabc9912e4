from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.constants import find_constants
from loop.errors import LoopError
from loop.experiment import Family
from loop.ideas import Idea
from loop.proposers.people import edit, is_prose, propose_idea
from loop.proposers.protocol import Context
from tests.loop.proposers.contexts import context_of

PROGRAM = 'DEPTH = 8  # layers\nMATRIX_LR = 0.04\nWINDOW_PATTERN = "SSSL"\nTOTAL_BATCH_SIZE = 2**19\n'


def context(*texts: str) -> Context:
    ideas = tuple(Idea(n, 1, text, "ann", "", "") for n, text in enumerate(texts, start=1))
    return context_of(PROGRAM, ideas=ideas)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("DEPTH 9", "DEPTH = 9  # layers"),
        ("DEPTH=9", "DEPTH = 9  # layers"),
        ("MATRIX_LR to 0.05", "MATRIX_LR = 0.05"),
        ("WINDOW_PATTERN SL", 'WINDOW_PATTERN = "SL"'),
        ('WINDOW_PATTERN "SL"', 'WINDOW_PATTERN = "SL"'),
        ("TOTAL_BATCH_SIZE → 2**18", "TOTAL_BATCH_SIZE = 2**18"),
    ],
)
def test_a_name_and_a_value_become_an_edit(text: str, line: str) -> None:
    assert line in edit(PROGRAM, text).splitlines()


def test_several_changes_are_one_edit() -> None:
    lines = edit(PROGRAM, "DEPTH 9, MATRIX_LR = 0.05").splitlines()
    assert lines[:2] == ["DEPTH = 9  # layers", "MATRIX_LR = 0.05"]


@pytest.mark.parametrize(
    "text",
    ["make it wider", "NO_SUCH 3", "DEPTH", "try DEPTH 9", "DEPTH print(1)", "DEPTH 9; x = 1"],
)
def test_anything_else_takes_somebody_who_reads(text: str) -> None:
    with pytest.raises(LoopError):
        edit(PROGRAM, text)
    assert is_prose(PROGRAM, text)


def test_what_the_program_is_already_is_neither_an_edit_nor_prose() -> None:
    with pytest.raises(LoopError):
        edit(PROGRAM, "DEPTH 8")
    assert not is_prose(PROGRAM, "DEPTH 8")
    assert not is_prose(PROGRAM, "DEPTH 9")


@given(st.text())
def test_no_text_changes_more_than_values(text: str) -> None:
    try:
        edited = edit(PROGRAM, text)
    except LoopError:
        return
    assert [c.name for c in find_constants(edited)] == [c.name for c in find_constants(PROGRAM)]


def test_the_oldest_idea_that_is_understood_comes_first() -> None:
    proposal = propose_idea(context("make it wider", "DEPTH 9", "DEPTH 10"))
    assert proposal is not None
    assert (proposal.idea, proposal.proposer, proposal.description) == (2, "ann", "DEPTH 9")
    assert (proposal.parent, proposal.family) == ("c0ffee", Family.ARCHITECTURE)


def test_several_changes_are_a_combination() -> None:
    proposal = propose_idea(context("DEPTH 9, MATRIX_LR 0.05"))
    assert proposal is not None
    assert proposal.family is Family.COMBINATION


def test_what_the_program_is_already_is_left_to_the_judge() -> None:
    proposal = propose_idea(context("DEPTH 8", "DEPTH 9"))
    assert proposal is not None
    assert (proposal.idea, proposal.source) == (1, PROGRAM)


def test_without_one_there_is_no_proposal() -> None:
    assert propose_idea(context("make it wider")) is None
