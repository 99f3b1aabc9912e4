from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.text import clean, one_line

ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text(
    "\x1b[]0;m\x07\\\x9b\x9c\n\r a\ud83d\ude42"
)


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bP+q544e\x1b\\dcs", "dcs"),
        ("\x9b2Jc1", "c1"),
        ("\x1bcreset\x1b(B", "reset"),
        ("unfinished \x1b]0;never closed", "unfinished 0;never closed"),
        ("nested \x1b[\x1b[31m2J", "nested 2J"),
        ("10%\r20%\r\n30%", "10%\n20%\n30%"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("a\x00\x07\x08\x7f\x85b", "ab"),
        ("ab\u202etxt.exe\u2066", "abtxt.exe"),
        ("a\ud83db\x00c\x1b[0m\r\n\td\U0001f600", "a\ufffdbc\n\td\U0001f600"),
        ("lone \udcff", "lone \ufffd"),
        ("two halves \ud83d\ude42 of one", "two halves 🙂 of one"),
        ("val_bpb: 0.99 → 0.98 é 漢 🙂", "val_bpb: 0.99 → 0.98 é 漢 🙂"),
    ],
)
def test_clean_text_has_nothing_to_obey(text: str, harmless: str) -> None:
    assert clean(text) == harmless


@given(ANY_TEXT)
def test_whatever_comes_clean_text_is_printable(text: str) -> None:
    harmless = clean(text)
    harmless.encode()
    assert not any((ord(char) < 32 and char not in "\n\t") or 127 <= ord(char) < 160 for char in harmless)
    assert clean(harmless) == harmless


@pytest.mark.parametrize("piece", ["\x1b]", "\x1b[", "\x9d", "\x1b[1;", "\x1bP\x1b"])
def test_a_megabyte_of_openings_is_taken_in_its_stride(piece: str) -> None:
    clean(piece * (1_000_000 // len(piece)))


@pytest.mark.parametrize(
    ("text", "limit", "line"),
    [
        ("halve\tthe\r\nbatch\u2028size", 40, "halve the batch size"),
        ("control\x00led\x0b\x85\x1c and \x1b[31mred\u202e", None, "control led and red"),
        ("halve the batch size", 20, "halve the batch size"),
        ("halve the batch size", 18, "halve the batch…"),
        ("halve the batch size", 16, "halve the batch…"),
        ("halve the batch size", 10, "halve the…"),
        ("halve the batch, twice", 19, "halve the batch…"),
        ("a " + "supercalifragilistic", 12, "a supercali…"),
        ("学習率を 0.04 に下げ、埋め込みを広げる", 15, "学習率を 0.04 に下げ、…"),
    ],
)
def test_a_line_is_cut_between_words_where_that_leaves_most_of_it(
    text: str, limit: int | None, line: str
) -> None:
    assert one_line(text, limit) == line


@given(ANY_TEXT, st.none() | st.integers(1, 50))
def test_whatever_comes_a_line_is_one_line_within_its_limit(text: str, limit: int | None) -> None:
    line = one_line(text, limit)
    line.encode()
    assert limit is None or len(line) <= limit
    assert len(line.splitlines()) <= 1
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in line)
    assert one_line(line, limit) == line
    assert clean(line) == line
