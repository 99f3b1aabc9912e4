from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import training
from loop.errors import UserError
from loop.experiment import Family
from loop.program.constants import Value, find_constants
from loop.proposers.people import MistypedIdeaError, edit, ideas_in_prose, propose_idea
from loop.proposers.protocol import Context
from loop.store.experiments import Idea
from tests.loop.proposers.contexts import context_of

PROGRAM = (
    'DEPTH = 8  # layers\nMATRIX_LR = 0.04\nWINDOW_PATTERN = "SSSL"\nTOTAL_BATCH_SIZE = 2**19\n'
    "ADAM_BETAS = (0.8, 0.95)  # two\nTIED = True\nSIZES = (1, 2)\n"
)
TEMPLATE = (Path(training.__file__).parent / "train.py").read_text()


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
        ("DEPTH -> 2 * 6", "DEPTH = 12  # layers"),
        ("DEPTH = -1", "DEPTH = -1  # layers"),
        ("WINDOW_PATTERN “SL”", 'WINDOW_PATTERN = "SL"'),
        ("WINDOW_PATTERN „S, L“.", 'WINDOW_PATTERN = "S, L"'),
        ("WINDOW_PATTERN to ‘SL’", 'WINDOW_PATTERN = "SL"'),
        ("WINDOW_PATTERN ''", 'WINDOW_PATTERN = ""'),
        ("WINDOW_PATTERN SL.", 'WINDOW_PATTERN = "SL"'),
        ("TIED false", "TIED = False"),
        ("ADAM_BETAS (0.9, 0.99)", "ADAM_BETAS = (0.9, 0.99)  # two"),
        ("ADAM_BETAS 0.9, 1", "ADAM_BETAS = (0.9, 1.0)  # two"),
        # A number is as whole as it was.
        ("DEPTH 9.", "DEPTH = 9  # layers"),
        ("DEPTH 9.0", "DEPTH = 9  # layers"),
        ("TOTAL_BATCH_SIZE 1e5", "TOTAL_BATCH_SIZE = 100000"),
        ("MATRIX_LR 1", "MATRIX_LR = 1.0"),
    ],
)
def test_a_name_and_a_value_become_an_edit(text: str, line: str) -> None:
    assert line in edit(PROGRAM, text).splitlines()


SMALL = (
    "lr = 0.1\nlr_decay = 0.5\nf(lr, lr_decay)\nconfig = {'depth': 8}\n"
    "parser.add_argument('--weight-decay', default=0.01)\n"
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("lr 0.05", "lr = 0.05"),
        ("lr=0.05, lr_decay 0.3 and config.depth 9", "config = {'depth': 9}"),
        ("config.depth → 9", "config = {'depth': 9}"),
        ("--weight-decay 0.1", "parser.add_argument('--weight-decay', default=0.1)"),
    ],
)
def test_names_of_every_form_are_read(text: str, line: str) -> None:
    assert line in edit(SMALL, text).splitlines()


@pytest.mark.parametrize("text", ["lr decay", "lr warmup of 0.1", "depth 9", "lr_2 0.1", "weight-decay 0.1"])
def test_small_words_are_prose_otherwise(text: str) -> None:
    with pytest.raises(UserError) as error:
        edit(SMALL, text)
    assert not isinstance(error.value, MistypedIdeaError)


def test_several_changes_are_one_edit() -> None:
    lines = edit(PROGRAM, "DEPTH 9, MATRIX_LR = 0.05").splitlines()
    assert lines[:2] == ["DEPTH = 9  # layers", "MATRIX_LR = 0.05"]
    for text in ("MATRIX_LR 0.05 and DEPTH 9", "MATRIX_LR 0.05; DEPTH 9.", "DEPTH 9, and MATRIX_LR 0,05"):
        assert edit(PROGRAM, text).splitlines() == lines


@pytest.mark.parametrize(
    ("text", "value"), [("0,8", 0.8), ("0,004", 0.004), ("17,5", 17.5), ("1000,125", 1000.125)]
)
def test_a_decimal_comma_is_read_where_it_can_be_nothing_else(text: str, value: float) -> None:
    assert constants_of(edit(PROGRAM, f"MATRIX_LR {text}"))["MATRIX_LR"] == value


@pytest.mark.parametrize(
    "text",
    [
        *("make it wider", "NO_SUCH 3", "DEPTH", "try DEPTH 9", "DEPTH print(1)", "DEPTH 9; x = 1"),
        *("WINDOW_PATTERN should have more full layers", "WINDOW_PATTERN S and make it wider"),
        *("WINDOW_PATTERN “SL", "WINDOW_PATTERN to", "WINDOW_PATTERN SL?"),
        *("DEPTH True", "DEPTH 9.5", "DEPTH 0,8", "DEPTH 10, 12", "DEPTH 1,000", "DEPTH nine", "DEPTH '9'"),
        *("DEPTH 9 # more", "DEPTH 10-12", "DEPTH 9, DEPTH 10", "DEPTH9"),
        *("DEPTH +1", "DEPTH -1", "DEPTH - 1"),  # one more, one less
        *("MATRIX_LR 1,000", "MATRIX_LR 0, 8", "MATRIX_LR True", "MATRIX_LR 10**400", "MATRIX_LR 1e999"),
        *("ADAM_BETAS 0,9", "ADAM_BETAS 0.9", "ADAM_BETAS (1, 2, 3)", "SIZES 1.5, 2", "TIED 1"),
    ],
)
def test_anything_else_takes_somebody_who_reads(text: str) -> None:
    with pytest.raises(UserError):
        edit(PROGRAM, text)


def test_prose_takes_somebody_who_reads_and_what_sets_constants_does_not() -> None:
    ideas = context("make it wider", "DEPTH 8", "DEPTH 9", "DEPTH nine").ideas
    assert [idea.text for idea in ideas_in_prose(PROGRAM, ideas)] == ["make it wider", "DEPTH nine"]
    assert edit(PROGRAM, "DEPTH 8") == PROGRAM


PROSE = "That sets no constant: write its name and a value, such as DEPTH 8."


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Use a cosine schedule", PROSE),
        ("SwiGLU instead of relu", PROSE),
        ("DEPTH", PROSE),
        ("DEPTH nine", "DEPTH takes a whole number, such as DEPTH 8."),
        ("MATRIX_LR 0.03 and DEPTH nine", "DEPTH takes a whole number, such as DEPTH 8."),
        ("EMBEDDING_LR low", "EMBEDDING_LR takes a number, such as EMBEDDING_LR 0.9."),
        ("ADAM_BETAS 0.9", "ADAM_BETAS takes 2 numbers, such as ADAM_BETAS (0.8, 0.95)."),
        (
            "WINDOW_PATTERN should have more full layers",
            'WINDOW_PATTERN takes one word or a quoted text, such as WINDOW_PATTERN "SSSL".',
        ),
        ("DEPTH 9, DEPTH 10", "DEPTH is named twice: give it one value."),
    ],
)
def test_what_cannot_be_done_is_a_sentence_with_the_mend(text: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        edit(TEMPLATE, text)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("WARMDOWN_RATIO banana", "WARMDOWN_RATIO takes a number, such as WARMDOWN_RATIO 0.7."),
        ("DEPTH 9.5", "DEPTH takes a whole number, such as DEPTH 8."),
        ("NO_SUCH 3", "The program has no constant NO_SUCH."),
        ("WARMDOWN_RATOI = 0.3", "The program has no constant WARMDOWN_RATOI. Did you mean WARMDOWN_RATIO?"),
        ("DEPTH 9, NO_SUCH True", "The program has no constant NO_SUCH."),
        ("DEPTH 9, DEPTH 10", "DEPTH is named twice: give it one value."),
    ],
)
def test_a_mistyped_constant_is_an_error(text: str, told: str) -> None:
    with pytest.raises(MistypedIdeaError) as caught:
        edit(TEMPLATE, text)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    "text",
    ["DEPTH should follow the width", "GQA everywhere", "NO_SUCH thing", "DEPTH +1", "DEPTH 10, 12", "use 3"],
)
def test_what_may_be_prose_is_no_mistyped_constant(text: str) -> None:
    with pytest.raises(UserError) as caught:
        edit(TEMPLATE, text)
    assert not isinstance(caught.value, MistypedIdeaError)


def test_a_program_without_constants_has_no_example() -> None:
    with pytest.raises(UserError, match=r"^That sets no constant: write its name and a value\.$"):
        edit("x = 1\n", "deeper")


def constants_of(source: str) -> dict[str, Value]:
    return {constant.name: constant.value for constant in find_constants(source)}


def kinds_of(source: str) -> dict[str, object]:
    return {
        name: tuple(map(type, value)) if isinstance(value, tuple) else type(value)
        for name, value in constants_of(source).items()
    }


names = st.sampled_from([*constants_of(PROGRAM), "NO_SUCH", "Use"])
signs = st.sampled_from([" ", "=", " to ", " -> ", ": ", ""])
numbers = st.one_of(
    st.integers().map(str), st.floats().map(repr), st.from_regex(r"\d{1,4},\d{1,4}", fullmatch=True)
)
said = st.one_of(
    numbers,
    st.lists(numbers, max_size=3).map(", ".join),
    st.text("SL0.9,(*)-+/eE_ \"'“”#;", max_size=12),
    st.sampled_from(["True", "False", "None", "nine", "more layers", "2**19", "“SL”", "9.", "10**400"]),
)
between = st.sampled_from([", ", "; ", " and ", ", and ", " "])
ideas = st.lists(st.tuples(names, signs, said, between).map("".join), max_size=3).map("".join)


@given(st.one_of(st.text(), ideas))
def test_no_text_changes_more_than_values_of_the_same_kind(text: str) -> None:
    told = ""
    try:
        edited = edit(PROGRAM, text)
    except UserError as error:
        edited, told = PROGRAM, str(error)
    assert re.fullmatch(
        r"|That sets no constant.*\.|The program has no constant .*|[A-Z_]+ (?:takes|is named) .*\.", told
    )
    assert kinds_of(edited) == kinds_of(PROGRAM)
    assert len(edited.splitlines()) == len(PROGRAM.splitlines())


@given(st.text("SL'’“, .\\\n#", max_size=12))
def test_a_quoted_text_is_taken_letter_for_letter(text: str) -> None:
    if not set(text) & set('\n"“”'):
        edited = edit(PROGRAM, f"WINDOW_PATTERN “{text}”")
        assert constants_of(edited)["WINDOW_PATTERN"] == text


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
