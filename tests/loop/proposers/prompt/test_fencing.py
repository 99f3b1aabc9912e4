from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loop.proposers.prompt.history import SEPARATOR, Room, cut, fenced, joined, tokens

hostile = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from(
            ["</data1>", "</data2>", '<data1 of="x">', "DATA3", "</human1>", "\n", "\x00", "é→🙂"]
        ),
        max_size=12,
    ).map("".join),
)


@given(hostile, hostile)
def test_no_text_ends_its_fence(label: str, text: str) -> None:
    first, *middle, last = fenced("data", label, text).split("\n")
    opened = re.fullmatch(r'<(data\d+) of="[^<>"]*">', first)
    assert opened is not None
    assert last == f"</{opened[1]}>"
    assert opened[1] not in "\n".join(middle).lower()


def test_text_in_a_fence_stays_as_it_is() -> None:
    assert fenced("data", "the program", "a = 1\n\tb = '<data>'\n") == (
        "<data1 of=\"the program\">\na = 1\n\tb = '<data>'\n</data1>"
    )


@given(st.text(max_size=80), st.text(max_size=80))
def test_two_texts_have_no_more_tokens_together(first: str, second: str) -> None:
    assert tokens(first + second) <= tokens(first) + tokens(second)


@given(st.text("ab\n→", max_size=200), st.integers(-5, 90), st.booleans())
@example("aaaaaaaa→→→→→→→a\n", 12, True)
def test_what_is_cut_has_room_and_says_so(text: str, room: int, tail: bool) -> None:
    short = cut(text, room, tail=tail)
    assert tokens(short) <= max(room, 0)
    if short != text and short:
        note, rest = "[… the rest is left out]", short.split("\n")
        assert note == (rest[0] if tail else rest[-1])
        assert text.endswith("\n".join(rest[1:])) if tail else text.startswith("\n".join(rest[:-1]))


@pytest.mark.parametrize("tail", [True, False])
def test_whole_lines_are_left_where_there_are_any(tail: bool) -> None:
    text = "\n".join(f"line number {number}" for number in range(40))
    kept = [line for line in cut(text, 60, tail=tail).splitlines() if not line.startswith("[")]
    assert set(kept) < set(text.splitlines())
    assert kept[-1 if tail else 0] == f"line number {39 if tail else 0}"


@given(
    st.integers(-3, 200),
    st.lists(st.tuples(hostile, st.booleans(), st.none() | st.integers(0, 60)), max_size=6),
)
def test_a_room_never_holds_more_than_it_has(size: int, texts: list[tuple[str, bool, int | None]]) -> None:
    room = Room(size)
    taken = [
        room.fence("data", "x", text, most=most) if fence else room.take(text) for text, fence, most in texts
    ]
    assert tokens(joined(*taken)) <= max(0, size)
    for (_, fence, most), text in zip(texts, taken, strict=True):
        assert not fence or most is None or tokens(text + SEPARATOR) <= most or not text
