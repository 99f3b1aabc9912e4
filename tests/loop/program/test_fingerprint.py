from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import training
from loop.program.constants import find_constants, replace_constants
from loop.program.fingerprint import fingerprint
from loop.proposers.search.space import find_axes

TEMPLATE = (Path(training.__file__).parent / "train.py").read_text()
PROGRAM = textwrap.dedent(
    '''
    """A training."""
    import random
    import torch

    LR = 0.6
    BATCH = 2**19  # tokens
    BETAS = (0.8, -0.95)
    SEED = 42

    class Model:
        """Holds the weights."""
        def __init__(self, width, *, seed=1, depth=3):
            self.width = width * (2 + 3)
            self.seed = 7
            torch.manual_seed(SEED)

        def step(self, x):
            """Go."""
            pass
            return x if x > 0.5 else -x

    options = {"seed": 5, "width": 4}
    model = Model(8, seed=11, depth=2)
    draw = random.Random(3).random()
    '''
)


def edited(*changes: tuple[str, str], source: str = PROGRAM) -> str:
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    return source


@pytest.mark.parametrize(
    "change",
    [
        ("LR = 0.6\n", "LR = 0.60  # faster\n\n\n"),
        ("2**19", "524288"),
        ("2**19", "524_288"),
        ("2**19", "(2 ** (20 - 1))"),
        ("(0.8, -0.95)", "(\n    0.8,\n    -(0.95),\n)"),
        ("2 + 3", "5"),
        ('"""A training."""', "'''Another.'''"),
        ('"""Holds the weights."""', ""),
        ("        pass\n", ""),
        ('"seed"', "'seed'"),
        ("x > 0.5", "(x) > .5"),
        ("\n", "\r\n"),
    ],
)
def test_what_only_looks_different_is_the_same(change: tuple[str, str]) -> None:
    assert fingerprint(edited(change)) == fingerprint(PROGRAM)


@pytest.mark.parametrize(
    "change",
    [
        ("SEED = 42", "SEED = 137"),
        ("SEED = 42", "SEED: int = 42\nSEED = 3"),
        ("seed=1,", "seed=2,"),
        ("self.seed = 7", "self.seed = int(time.time())"),
        ("manual_seed(SEED)", "manual_seed(137)"),
        ("torch.manual_seed(SEED)", "pass"),
        ("torch.manual_seed(SEED)", "torch.manual_seed(SEED); torch.cuda.manual_seed_all(8)"),
        ('"seed": 5', '"seed": 6'),
        ("seed=11", "seed=None"),
        ("Random(3)", "Random(4)"),
    ],
)
def test_another_seed_is_no_other_program(change: tuple[str, str]) -> None:
    if "SEED: int" in change[1]:  # one more statement is another program; the value of either is not
        assert fingerprint(edited(change)) == fingerprint(edited((change[0], "SEED: int = 1\nSEED = 2")))
    else:
        assert fingerprint(edited(change)) == fingerprint(PROGRAM)


@pytest.mark.parametrize(
    "change",
    [
        ("LR = 0.6", "LR = 0.61"),
        ("LR = 0.6", "RATE = 0.6"),
        ("2**19", "2**18"),
        ("2**19", "2.0**19"),
        ("-0.95", "0.95"),
        ("depth=2", "depth=True"),
        ("depth=2", "width=2"),
        ("depth=2", "depth=2, seeded=3"),
        ("else -x", "else +x"),
        ("x > 0.5", "x >= 0.5"),
        ("return x if", "x = x if"),
        ('"width": 4', '"width": "4"'),
        ("SEED = 42", "SEEDLINGS = 42"),
        ("    def step", "    @torch.no_grad()\n    def step"),
    ],
)
def test_another_program_is_another(change: tuple[str, str]) -> None:
    assert fingerprint(edited(change)) != fingerprint(PROGRAM)


def test_the_place_of_none_counts() -> None:
    programs = [
        "x[1:]",
        "x[:1]",
        "x[::1]",
        "{**a}",
        "{None: a}",
        "return_",
        "None",
        "f(None)",
        "f()",
        "{'None': a}",
    ]
    assert len({fingerprint(f"y = {program}") for program in programs}) == len(programs)


def test_the_template_printed_anew_is_the_same() -> None:
    printed = ast.unparse(ast.parse(TEMPLATE))
    assert printed.count("\n") < TEMPLATE.count("\n") - 50
    assert fingerprint(printed) == fingerprint(TEMPLATE)


@given(st.data())
def test_comments_and_blank_lines_between_statements_do_not_count(data: st.DataObject) -> None:
    places = [node.lineno for node in ast.walk(ast.parse(PROGRAM)) if isinstance(node, ast.stmt)]
    lines = PROGRAM.splitlines()
    for place in sorted(data.draw(st.sets(st.sampled_from(places))), reverse=True):
        lines.insert(place - 1, data.draw(st.sampled_from(["", "  # why\n", "#" * 70, "\f", "# größer 🙂"])))
    assert fingerprint("\n".join(lines)) == fingerprint(PROGRAM)


@given(st.data())
def test_any_other_number_counts(data: st.DataObject) -> None:
    numbers = list(re.finditer(r"0\.6|19|0\.8|0\.95|2 \+ 3|0\.5|4\}|8, s|depth=2", PROGRAM))
    match = data.draw(st.sampled_from(numbers))
    other = data.draw(st.floats(10, 1e6) | st.integers(10, 10**6))
    changed = re.sub(r"[\d.]+", repr(other), match[0], count=1)
    assert fingerprint(PROGRAM[: match.start()] + changed + PROGRAM[match.end() :]) != fingerprint(PROGRAM)


def test_whatever_the_search_may_try_is_another_program() -> None:
    constants = find_constants(PROGRAM)
    programs = {fingerprint(PROGRAM)}
    tried = 1
    for axis in find_axes(constants, ()):
        for value in axis.ladder:
            if value != axis.current:
                whole = axis.moved(value, axis.constant.value)
                programs.add(fingerprint(replace_constants(PROGRAM, {axis.constant.name: whole})))
                tried += 1
    assert len(programs) == tried > 30


@pytest.mark.parametrize(
    "text", ["def", "", "\ufeffx = 1", "x = '\ud800'", "x = 0x" + "f" * 9000, "x = " + "-" * 3000 + "1"]
)
def test_every_text_has_one(text: str) -> None:
    assert fingerprint(text) == fingerprint(text) != fingerprint("y = 1")


def test_what_is_no_python_is_known_by_its_text() -> None:
    assert fingerprint("def (") != fingerprint("def ((")
