from __future__ import annotations

import ast
import contextlib
import gc
import math
import sys
import textwrap
import threading
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loop.errors import UserError
from loop.program.constants import (
    Literal,
    Number,
    Value,
    find_constants,
    replace_constants,
    syntax_tree,
    write_value,
)

PROGRAM = textwrap.dedent(
    '''
    """A training program. Größe, 学習率, 🙂."""

    import math

    # Modell — größer ist langsamer
    DEPTH = 8               # Schichten
    TOTAL_BATCH_SIZE = 2**19 # ≈ 524K
    LR: float = 0.004; WINDOW_PATTERN = "SSSL"  # zwei 🙂 auf einer Zeile
    ADAM_BETAS = (
        0.8,   # β₁
        0.95,  # β₂
    )
    USE_VALUE_EMBEDDINGS = True
    PAIR = 0.8, 1e-3
    ROTARY_BASE = 10_000
    OFFSET = -1.5
    NOTE = 'größe'

    def train():
        DEPTH = 3
        return DEPTH
    '''
)

numbers = st.integers(-(2**200), 2**200) | st.floats(allow_nan=False, allow_infinity=False)
values: st.SearchStrategy[Value] = (
    numbers | st.booleans() | st.text() | st.lists(numbers, min_size=1, max_size=4).map(tuple)
)


def values_of(source: str) -> dict[str, Value]:
    return {constant.name: constant.value for constant in find_constants(source)}


def replaced(line: str, value: Value | Literal) -> str:
    """The line `NAME = …` with a new value."""
    return replace_constants(line, {line.split(maxsplit=1)[0]: value})


class TestFinding:
    def test_every_kind_of_literal(self) -> None:
        assert values_of(PROGRAM) == {
            "DEPTH": 8,
            "TOTAL_BATCH_SIZE": 2**19,
            "LR": 0.004,
            "WINDOW_PATTERN": "SSSL",
            "ADAM_BETAS": (0.8, 0.95),
            "USE_VALUE_EMBEDDINGS": True,
            "PAIR": (0.8, 1e-3),
            "ROTARY_BASE": 10_000,
            "OFFSET": -1.5,
            "NOTE": "größe",
        }

    def test_the_span_holds_the_text_of_the_value(self) -> None:
        data = PROGRAM.encode()
        for constant in find_constants(PROGRAM):
            assert data[constant.start : constant.end].decode() == constant.text
            assert ast.literal_eval(constant.text.replace("2**19", "524288")) == constant.value

    @pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    def test_any_newline_and_a_byte_order_mark(self, newline: str, mark: str) -> None:
        source = mark + 'TEXT = "\u2028\x0b\x1c"\n\x0cDEPTH = 8  # ü\nLAST = 1\n'.replace("\n", newline)
        expected = source.replace("8", "9").replace("LAST = 1", "LAST = 2")
        assert replace_constants(source, {"DEPTH": 9, "LAST": 2}) == expected

    @pytest.mark.parametrize(
        ("expression", "value"),
        [
            ("40 * 524288", 40 * 524288),
            ("(1 + 2) / 4", 0.75),
            ("7 // 2 - 1", 2),
            ("-2**-1", -0.5),
            ("+3", 3),
            ("(2**4)", 16),
            ("1.5e3", 1500.0),
            ('"S" "L"', "SL"),
            ("(1,)", (1,)),
            ("0x10", 16),
        ],
    )
    def test_arithmetic(self, expression: str, value: Value) -> None:
        assert values_of(f"X = {expression}") == {"X": value}

    @pytest.mark.parametrize(
        "expression",
        [
            "None",
            "...",
            "b'x'",
            "1j",
            "(-8) ** 0.5",
            "1 / 0",
            "1e999",
            "10.0 ** 999",
            "9 ** 9 ** 9 ** 9",
            "2 ** 99999999999",
            "2 ** -99999999999",
            "True + 1",
            "-True",
            "'a' * 3",
            "()",
            "(1, 'a')",
            "(True, 1)",
            "[1, 2]",
            "{}",
            "DEPTH",
            "DEPTH * 2",
            "math.pi",
            "f'{1}'",
            "1 % 2",
            "1 << 200000",
            "not 1",
        ],
    )
    def test_what_is_no_literal_is_left_out(self, expression: str) -> None:
        assert values_of(f"DEPTH = 8\nX = {expression}") == {"DEPTH": 8}

    @pytest.mark.parametrize(
        "source",
        [
            "X = 1\nX = 2",
            "X = 1\nX += 1",
            "X = 1\nif True:\n    X = 2",
            "X = 1\nfor X in range(3): pass",
            "X = 1\ndel X",
            "X = 1\ndef f():\n    global X\n    X = 2",
            "X = Y = 1",
            "X, Y = 1, 2",
            "X: int",
            "if True:\n    X = 1",
            "class A:\n    X = 1",
            "x = 1\nXx = 2\n_X = 3\n__X__ = 4",
            "a.X = 1",
        ],
    )
    def test_what_is_not_assigned_once_at_top_level_is_left_out(self, source: str) -> None:
        assert find_constants(source) == ()

    @pytest.mark.parametrize("inner", ["X = 2", "for X in y: pass", "return lambda X: X"])
    def test_a_local_name_does_not_count(self, inner: str) -> None:
        assert values_of(f"X = 1\ndef f():\n    {inner}") == {"X": 1}

    def test_an_odd_escape_gives_no_warning(self) -> None:
        assert values_of('X = 1\nPATTERN = "\\d"') == {"X": 1, "PATTERN": "\\d"}

    def test_invalid_python_is_named_with_its_line(self) -> None:
        with pytest.raises(UserError, match=r"not valid Python \(line 2\)"):
            find_constants("X = 1\nY = = 2\n")

    @pytest.mark.parametrize(
        "source", ["X = 1\0", "X = '\ud800'", "X = " + "(" * 5000, "X = " + "-" * 50_000 + "1"]
    )
    def test_what_cannot_be_parsed_is_a_sentence(self, source: str) -> None:
        with pytest.raises(UserError, match="Python"):
            find_constants(source)

    def test_a_long_sum_is_no_danger(self) -> None:
        assert values_of("X = " + "+".join(["1"] * 500)) == {"X": 500}
        with contextlib.suppress(UserError):
            find_constants("X = " + "+".join(["1"] * 20_000))

    @given(st.text())
    def test_any_text_gives_constants_or_a_sentence(self, source: str) -> None:
        with contextlib.suppress(UserError):
            find_constants(source)


class TestReplacing:
    @given(name=st.sampled_from(sorted(values_of(PROGRAM))), value=values)
    @example("ADAM_BETAS", (0.9, 0.95))
    @example("LR", -0.0)
    @example("NOTE", "\\")
    @example("NOTE", "\ud800")
    def test_only_the_value_changes_and_reads_back(self, name: str, value: Value) -> None:
        constant = next(constant for constant in find_constants(PROGRAM) if constant.name == name)
        result = replace_constants(PROGRAM, {name: value})

        assert values_of(result) == values_of(PROGRAM) | {name: value}
        data, before = result.encode(), PROGRAM.encode()
        assert data[: constant.start] == before[: constant.start]
        assert data[len(data) - (len(before) - constant.end) :] == before[constant.end :]

    @given(st.dictionaries(st.sampled_from(sorted(values_of(PROGRAM))), values))
    def test_several_at_once(self, changes: dict[str, Value]) -> None:
        assert values_of(replace_constants(PROGRAM, changes)) == values_of(PROGRAM) | changes

    def test_setting_what_is_there_changes_nothing(self) -> None:
        assert replace_constants(PROGRAM, values_of(PROGRAM)) == PROGRAM

    def test_comments_inside_a_tuple_stay(self) -> None:
        result = replace_constants(PROGRAM, {"ADAM_BETAS": (0.8, 0.99)})
        assert result == PROGRAM.replace("0.95,  # β₂", "0.99,  # β₂")

    def test_ready_text_is_written_as_it_stands(self) -> None:
        result = replace_constants(PROGRAM, {"DEPTH": Literal("2 * 6"), "WINDOW_PATTERN": Literal("'SL'")})
        assert result == PROGRAM.replace("DEPTH = 8 ", "DEPTH = 2 * 6 ").replace('"SSSL"', "'SL'")

    @pytest.mark.parametrize(
        "text",
        ["", "1; Y = 2", "1\nY = 2", "1  # half", "nan", "None", "print()", "1)", "(1", "8 if True else 9"],
    )
    def test_ready_text_must_be_one_literal(self, text: str) -> None:
        with pytest.raises(
            UserError, match=r"(?s)^X = .* cannot be written as constants: give a plain literal"
        ):
            replace_constants("X = (8)  # layers\nZ = 3\n", {"X": Literal(text)})

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_value_without_a_literal_is_refused(self, value: float) -> None:
        with pytest.raises(UserError, match="LR = "):
            replace_constants(PROGRAM, {"LR": value})

    def test_a_missing_name_is_named(self) -> None:
        with pytest.raises(UserError, match="no constant WIDTH"):
            replace_constants(PROGRAM, {"WIDTH": 3})


class TestForm:
    @pytest.mark.parametrize(
        ("line", "value", "expected"),
        [
            ("X = 2**19", 2**18, "X = 2**18"),
            ("X = 2 ** 19", 2**20, "X = 2 ** 20"),
            ("X = 2**19", 3 * 2**18, "X = 786432"),
            ("X = 10**4", 10**5, "X = 10**5"),
            ("X = 2**3", 1, "X = 2**0"),
            ("X = 2**3", 0, "X = 0"),
            ("X = 10_000", 200_000, "X = 200_000"),
            ("X = 8", 9, "X = 9"),
            ("X = 8", -1, "X = -1"),
            ("X = 0.004", 0.006, "X = 0.006"),
            ("X = 0.0001", 0.00005, "X = 0.00005"),
            ("X = 1e-3", 0.002, "X = 2e-3"),
            ("X = 3E-4", 0.00015, "X = 1.5e-4"),
            ("X = 1e-3", 0.0, "X = 0.0"),
            ("X = 10.0", 20.0, "X = 20.0"),
            ("X = 1.0", 1e300, "X = 1e+300"),
            ("X = 0.5", 1, "X = 1"),
            ("X = True", False, "X = False"),
            ('X = "SSSL"', "SL", 'X = "SL"'),
            ("X = 'SSSL'", "SL", "X = 'SL'"),
            ("X = (0.8, 0.95)", (0.8, 0.99), "X = (0.8, 0.99)"),
            ("X = 0.8, 1e-3", (0.9, 0.002), "X = 0.9, 2e-3"),
            ("X = (1, 2)", (1, 2, 3), "X = (1, 2, 3)"),
            ("X = (1)", 2, "X = (2)"),
        ],
    )
    def test_a_value_keeps_the_form_of_the_old_one(self, line: str, value: Value, expected: str) -> None:
        assert replaced(line, value) == expected

    @given(number=numbers, like=st.sampled_from(["", "8", "2**19", "0.004", "1e-3", "10_000", "0x10"]))
    def test_a_number_reads_back_exactly(self, number: Number, like: str) -> None:
        (constant,) = find_constants(f"X = {write_value(number, like=like)}")
        assert (type(constant.value), constant.value) == (type(number), number)


class _Yields:
    """Lets other threads go on when it is collected, as anything may in the middle of a parse."""

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        time.sleep(0)


def test_programs_are_read_in_several_threads_at_once() -> None:
    text = "".join(f"X{number} = [{number}, (2 ** {number}, -1)]\n" for number in range(500))
    problems: list[Exception] = []

    def read() -> None:
        for _ in range(20):
            _Yields()
            try:
                syntax_tree(text)
            except SystemError as error:
                problems.append(error)

    threshold, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(200)
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)
    assert not problems
