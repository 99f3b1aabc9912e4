from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loop.text import clean
from notifiers.channels.telegram import (
    CAPTION_UNITS,
    CUT,
    EMPTY,
    REST_IS_IN_FILE,
    TEXT_UNITS,
    lay_out,
    one_page,
    visible,
)
from notifiers.message import Attachment, Message, units
from tests.servers.telegram_rules import CAPTION_LIMIT, TEXT_LIMIT, check_text

FILE = Attachment("chart.png", b"png")

# Anything, much of it markup, and often long enough to be cut; 😀 counts twice.
pieces = st.one_of(
    st.text(st.characters(), max_size=20),
    st.sampled_from(
        [
            "<b>",
            "</pre>",
            "&lt;",
            "&",
            "<!channel>",
            "_*`[",
            "\n",
            "\n\n",
            "😀",
            " ",
            "\u200b",
            "\r\n",
            "\ud800",
        ]
    ),
)
texts = st.builds(
    lambda parts, times: "".join(parts) * times,
    st.lists(pieces, max_size=8),
    st.sampled_from([1, 1, 1, 50, 300, 1000]),
)


@given(texts, texts, st.sampled_from([(), (FILE,), (FILE, FILE)]))
def test_any_message_is_accepted(text: str, block: str, files: tuple[Attachment, ...]) -> None:
    parts = lay_out(Message(text, block, attachments=files))
    assert sum(part.buttons for part in parts) == 1
    for part in parts:
        limit = TEXT_LIMIT if part.file is None else CAPTION_LIMIT
        for source, mode in ((part.page.html, "HTML"), (part.page.plain, None)):
            check_text(source, mode, limit=limit)
        assert part.file is None or part.file.content


@given(texts, texts)
def test_nothing_is_left_out(text: str, block: str) -> None:
    parts = lay_out(Message(text, block))
    shown = "".join(part.page.plain for part in parts)
    shown += "".join(part.file.content.decode() for part in parts if part.file)
    for original in (text, block):
        assert _essence(original) in _essence(shown)


@given(texts, texts, st.sampled_from([CAPTION_UNITS, TEXT_UNITS]))
def test_one_page_is_accepted_whatever_the_message(text: str, block: str, limit: int) -> None:
    page = one_page(Message(text, block), limit)
    for source, mode in ((page.html, "HTML"), (page.plain, None)):
        assert check_text(source, mode, limit=limit) or limit == CAPTION_LIMIT


def test_a_short_message_is_one_page_of_escaped_text_and_a_block() -> None:
    [part] = lay_out(Message("a < b & c", "<pre>\n1\t2"))
    assert part.page.html == "a &lt; b &amp; c\n<pre>&lt;pre&gt;\n1\t2</pre>"
    assert part.page.plain == "a < b & c\n<pre>\n1\t2"
    assert part.buttons


def test_pages_are_cut_at_line_ends_and_each_closes_its_block() -> None:
    lines = [f"{number:04} {'x' * 75}" for number in range(80)]
    first, second = lay_out(Message("The log:", "\n".join(lines)))
    assert first.page.html.startswith("The log:\n<pre>0000 ")
    assert second.page.html.startswith("<pre>0050 ")
    assert first.page.html.endswith("</pre>")
    assert second.page.html.endswith("</pre>")
    assert f"{first.page.block}\n{second.page.block}".split("\n") == lines
    assert [first.buttons, second.buttons] == [False, True]


def test_length_is_counted_as_telegram_counts() -> None:
    assert units("a😀&") == 4
    [part] = lay_out(Message("&" * TEXT_UNITS))
    assert part.file is None
    assert len(lay_out(Message("😀" * (TEXT_UNITS // 2)))) == 1
    assert len(lay_out(Message("😀" * (TEXT_UNITS // 2) + "x"))) == 2


def test_a_line_is_broken_only_where_it_is_longer_than_a_page() -> None:
    assert [part.page.text for part in lay_out(Message(f"short\n{'y' * 4096}"))] == ["short", "y" * 4096]
    assert [part.page.text for part in lay_out(Message("x" + "😀" * 2048))] == ["x" + "😀" * 2047, "😀"]


def test_a_long_block_goes_as_a_file_below_its_text() -> None:
    diff = "diff --git a/train.py b/train.py\n" + "+x = 1\n" * 3000
    [part] = lay_out(Message("Experiment #3", diff))
    assert part.page.plain == "Experiment #3"
    assert part.file == Attachment("changes.diff", diff.encode())
    [part] = lay_out(Message("The log:", "step\n" * 3000))
    assert part.file is not None
    assert part.file.name == "output.txt"


def test_a_long_text_goes_as_a_file_after_its_beginning() -> None:
    text = "\n".join(f"line {number}" for number in range(3000))
    first, second = lay_out(Message(text))
    assert first.page.text.startswith("line 0\nline 1\n")
    assert first.page.text.endswith(f"\n{REST_IS_IN_FILE}")
    assert first.buttons
    assert second.file == Attachment("message.txt", text.encode())


def test_a_text_too_long_for_a_caption_goes_before_its_picture() -> None:
    chart = Attachment("chart.png", b"png", alt="the progress")
    short, long = "x" * CAPTION_UNITS, "x" * (CAPTION_UNITS + 1)
    [part] = lay_out(Message(short, attachments=(chart,)))
    assert (part.page.text, part.file, part.buttons) == (short, chart, True)
    first, second = lay_out(Message(long, attachments=(chart,)))
    assert (first.page.text, first.file, first.buttons) == (long, None, True)
    assert (second.page.text, second.file, second.buttons) == ("the progress", chart, False)


def test_a_message_without_anything_to_see_says_so() -> None:
    for text in ("", " \n\t", "\u200b\ufeff", "\u2800", "\x00\x07"):
        [part] = lay_out(Message(text, block=text))
        assert part.page.plain == EMPTY


def test_one_page_says_that_it_was_cut() -> None:
    page = one_page(Message("head\n" + "line\n" * 3000))
    assert page.text.startswith("head\nline\n")
    assert page.text.endswith(f"\nline\n{CUT}")
    assert one_page(Message("head", "line\n" * 3000)).block.endswith(f"\nline\n{CUT}")


def _essence(text: str) -> str:
    cleaned = clean(text)
    return cleaned.translate({ord(letter): None for letter in set(cleaned) if not visible(letter)})
