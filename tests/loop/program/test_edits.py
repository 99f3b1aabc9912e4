from __future__ import annotations

import re
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from loop.program.edits import Edit, EditError, apply_edits, check_program, whole_file

PROGRAM = """\
import math

DEPTH = 8  # layers
LR = 0.04


class Block:
    def forward(self, x):
        if x is None:
            return self.norm(x)
        return self.norm(x)

    def norm(self, x):
        return x / math.sqrt(LR)
"""

words = st.text("ab =_(.", min_size=1, max_size=6)
lines = st.lists(words, min_size=1, max_size=12, unique_by=str.strip).filter(
    lambda each: all(map(str.strip, each))
)


def test_a_piece_that_is_there_once_is_replaced() -> None:
    edited = apply_edits(PROGRAM, [Edit("LR = 0.04\n", "LR = 0.05\nWARMUP = 3\n")])
    assert edited == PROGRAM.replace("LR = 0.04\n", "LR = 0.05\nWARMUP = 3\n")


def test_part_of_a_line_will_do() -> None:
    assert "DEPTH = 9  # layers\n" in apply_edits(PROGRAM, [Edit("DEPTH = 8", "DEPTH = 9")])


@pytest.mark.parametrize("search", ["EPTH = 8", "LR = 0", "LR = 0.0", "R = 0.04"])
def test_half_a_word_or_half_a_number_is_no_match(search: str) -> None:
    with pytest.raises(EditError):
        apply_edits(PROGRAM, [Edit(search, "x")])


def test_all_edits_are_searched_for_in_the_program_as_it_was() -> None:
    edits = [Edit("DEPTH = 8", "LR = 0.04"), Edit("LR = 0.04", "DEPTH = 8"), Edit("import math\n", "")]
    assert len({apply_edits(PROGRAM, order) for order in permutations(edits)}) == 1
    assert apply_edits(PROGRAM, edits).startswith("\nLR = 0.04  # layers\nDEPTH = 8\n")


def test_lines_that_are_indented_otherwise_are_found_and_replaced_as_they_stand() -> None:
    search = "\n\nif x is None:  \n    return self.norm(x)\n"
    edited = apply_edits(PROGRAM, [Edit(search, "if x is not None:\n    x = x + 1\n\n    y = x")])
    assert "        if x is not None:\n            x = x + 1\n\n            y = x\n        return" in edited
    deeper = "                def norm(self, x):\n                    return x / math.sqrt(LR)"
    edited = apply_edits(PROGRAM, [Edit(deeper, deeper.replace("norm", "scale"))])
    assert edited == PROGRAM.replace("def norm", "def scale")


def test_a_replacement_that_cannot_be_moved_is_refused() -> None:
    with pytest.raises(EditError):
        apply_edits("x = 1\ny = 2\n", [Edit("    x = 1\n    y = 2", "x = 3")])


def test_lines_are_not_joined_where_the_replacement_lacks_an_end() -> None:
    assert apply_edits("a = 1\nb = 2\nc = 3\n", [Edit("\nb = 2\n", "b = 4")]) == "a = 1\nb = 4\nc = 3\n"


@pytest.mark.parametrize(
    ("edits", "block", "matches", "words"),
    [
        ([Edit("LR = 0.04", "LR = 1"), Edit("GAIN = 1", "GAIN = 2")], 2, 0, "Block 2 is not in the program"),
        ([Edit("return self.norm(x)", "return x")], 1, 2, "found 2 times, at lines 10, 11"),
        ([Edit("  \n", "x")], 1, 0, "searches for nothing"),
    ],
)
def test_what_does_not_fit_is_told_and_nothing_is_applied(
    edits: list[Edit], block: int, matches: int, words: str
) -> None:
    with pytest.raises(EditError, match=words) as refused:
        apply_edits(PROGRAM, edits)
    assert str(refused.value).startswith(f"Block {block} ")
    assert ("is found" in str(refused.value)) is (matches > 1)


def test_overlapping_blocks_are_refused() -> None:
    with pytest.raises(EditError, match="Blocks 1 and 2 change the same lines"):
        apply_edits(PROGRAM, [Edit("LR = 0.04\n\n", "LR = 1\n"), Edit("DEPTH = 8  # layers\nLR = 0.04", "")])


def test_no_edits_are_no_edit() -> None:
    with pytest.raises(EditError, match="no edits"):
        apply_edits(PROGRAM, [])


@pytest.mark.parametrize(
    ("search", "closest"),
    [
        ("class Block:\n    def forward(self, y):", "    8 |     def forward(self, x):"),
        ("DEPHT = 8 # layers", "    3 | DEPTH = 8  # layers"),
        ("        return x / math.sqrt(LR) + 1", "   14 |         return x / math.sqrt(LR)"),
    ],
)
def test_the_closest_lines_are_shown_with_their_numbers(search: str, closest: str) -> None:
    with pytest.raises(EditError) as refused:
        apply_edits(PROGRAM, [Edit(search, "pass")])
    assert closest in str(refused.value).splitlines()


def test_where_nothing_is_alike_that_is_said() -> None:
    with pytest.raises(EditError, match="Nothing in the program looks like it"):
        apply_edits(PROGRAM, [Edit("qqqqqqqqqqqqq", "pass")])


def test_the_error_stays_short_and_quick_for_long_blocks() -> None:
    program = "".join(f"value_{number} = compute({number}, 'x' * {number})\n" for number in range(3000))
    with pytest.raises(EditError) as refused:
        apply_edits(program, [Edit(program.replace("compute", "calculate"), "pass")])
    assert len(str(refused.value)) < 5000


@settings(max_examples=50)
@given(lines, st.data(), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_only_the_lines_searched_for_change(
    texts: list[str], data: st.DataObject, end: str, ends_with_newline: bool
) -> None:
    source = end.join(texts) + (end if ends_with_newline else "")
    first = data.draw(st.integers(0, len(texts) - 1))
    last = data.draw(st.integers(first, len(texts) - 1))
    replacement = data.draw(st.lists(st.just("new line"), min_size=1, max_size=3))
    search = "\n".join(texts[first : last + 1])
    end = end if end in source else "\n"
    expected = end.join([*texts[:first], *replacement, *texts[last + 1 :]])
    try:
        edited = apply_edits(source, [Edit(search, "\n".join(replacement))])
    except EditError as error:  # a line may be found within another, or under another indentation
        assert re.search(r"is found \d+ times", str(error))  # noqa: PT017 - the property is about both ways
    else:
        assert edited == expected + (end if ends_with_newline else "")


def unindented(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().split("\n"))


@settings(max_examples=50)
@given(st.text("ab \n", max_size=40), st.text("ab \n", max_size=12))
def test_nothing_is_passed_over_in_silence(source: str, search: str) -> None:
    assume(search.strip() and search.strip() not in source)
    assume(unindented(search) not in unindented(source))  # spaces at the ends of lines do not matter
    with pytest.raises(EditError):
        apply_edits(source, [Edit(search, "x")])


@settings(max_examples=50)
@given(lines, st.data())
def test_where_line_ends_differ_each_line_keeps_its_own(texts: list[str], data: st.DataObject) -> None:
    ends = [data.draw(st.sampled_from(["\n", "\r\n"])) for _ in texts]
    number = data.draw(st.integers(0, len(texts) - 1))
    named = [f"line{index} {text}" for index, text in enumerate(texts)]
    source = "".join(map("".join, zip(named, ends, strict=True)))
    edited = apply_edits(source, [Edit(named[number], "another")])
    named[number] = "another"
    assert edited == "".join(map("".join, zip(named, ends, strict=True)))


@given(st.text(max_size=300), st.text(max_size=40), st.text(max_size=40))
def test_any_text_is_an_edit_or_an_error_with_lines_of_the_program(
    source: str, search: str, replace: str
) -> None:
    try:
        apply_edits(source, [Edit(search, replace)])
    except EditError as error:
        numbered = re.findall(r"^ *(\d+) \| (.*)$", str(error), re.MULTILINE)
        program = source.replace("\r\n", "\n").split("\n")
        assert all(program[int(number) - 1].startswith(text) for number, text in numbered)


def test_a_whole_file_takes_the_line_endings_of_the_old_one() -> None:
    assert whole_file("a\r\nb\r\n", "c\nd") == "c\r\nd\r\n"
    assert whole_file("a\nb", "c\r\nd\n") == "c\nd"


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (PROGRAM, "changes nothing"),
        (" \n", "would be empty"),
        ("x = 1\ny = (\n", "line 2: '\\(' was never closed: y = \\("),
        ("x = 1\n return", "line 2: unexpected indent"),
        ("x = '\0'", "would not parse"),
        ("x = " + "(" * 1000 + ")" * 1000, "would not parse"),
        ("x = " + "-" * 100_000 + "1", "would not parse"),
        ("return 1", "'return' outside function"),
        ("# " + "x" * 200_000, "200,002 bytes; at most 200,000"),
        ("x = '\ud800'", "would not parse"),
    ],
)
def test_what_is_no_other_program_is_refused(after: str, words: str) -> None:
    with pytest.raises(EditError, match=words):
        check_program(PROGRAM, after)


@pytest.mark.parametrize(
    ("after", "missing"),
    [
        (PROGRAM.replace("DEPTH = 8  # layers\n", "print(DEPTH)\n"), "DEPTH"),
        (PROGRAM + "def f(x):\n    return x * WIDTH + [y for y in z]\n", "WIDTH, z"),
        (PROGRAM + "class A(Base):\n    width = WIDTH\n", "Base, WIDTH"),
        (PROGRAM + "x = lambda y: y + w\n", "w"),
    ],
)
def test_a_program_defines_every_name_that_it_uses(after: str, missing: str) -> None:
    with pytest.raises(EditError, match=f"names that it does not define: {missing}\\.$"):
        check_program(PROGRAM, after)
    check_program(f"{after}\n", after)  # it was so before


@pytest.mark.parametrize(
    "more",
    [
        "def f(a, /, b, *c, d=1, **e):\n    return a, b, c, d, e, g\ng = f",
        "def f(x: Later) -> Later:\n    y: Later = x\n    return y",
        "def f():\n    global late\n    late = 1\nf()\nprint(late)",
        "try:\n    import torch\nexcept ImportError as error:\n    print(error)\nprint(torch)",
        "from a import b as c\nfor d, (e, *f) in c:\n    print(d, e, f)",
        "def f():\n    x = 1\n    def g():\n        nonlocal x\n        x = 2\n    return g, x, __file__",
        "match 1:\n    case [a, *b] | {'c': a, **b}:\n        print(a, b, __name__, len)",
        "class A:\n    w = 1\n    h = w\n    def f(self) -> 'Later':\n        return super().f(), __class__",
        "if (n := 3):\n    print([n for m in [n] if (k := m)], k)",
        "from tricks import *\nprint(anything)",
        "exec(open('configurator.py').read())\nprint(anything)",
    ],
)
def test_names_are_defined_in_many_ways(more: str) -> None:
    future = "from __future__ import annotations\n"
    check_program(PROGRAM, f"{future}{PROGRAM}{more}\n")


def test_a_program_may_have_odd_escapes() -> None:
    check_program(PROGRAM, PROGRAM + "x = '\\d'\n")


def test_a_program_may_begin_with_a_byte_order_mark() -> None:
    check_program("\ufeff" + PROGRAM, "\ufeff" + PROGRAM + "x = 1\n")


def test_the_template_can_be_edited() -> None:
    source = (Path(__file__).parents[3] / "training" / "train.py").read_text()
    line = next(line for line in source.splitlines() if line.startswith("EMBEDDING_LR = "))
    edited = apply_edits(source, [Edit(line, f"{line}, halved")])
    check_program(source, edited)
    changed = [
        pair for pair in zip(source.splitlines(), edited.splitlines(), strict=True) if pair[0] != pair[1]
    ]
    assert len(changed) == 1
