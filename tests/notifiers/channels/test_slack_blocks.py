from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loop.text import clean
from notifiers.channels.slack_blocks import Picture, as_typed, plain, render, shorten
from notifiers.message import COMMAND_BYTES, Button, Message
from tests.servers.slack_rules import faults, refusal, texts

HALVES = st.characters(categories=["Cs"])  # of characters, as a cut in the wrong place leaves them
ANY_TEXT = st.text(st.characters() | HALVES, max_size=200)
COMMANDS = st.text(max_size=COMMAND_BYTES // 4)
BUTTONS = st.builds(Button, label=ANY_TEXT, command=COMMANDS)
LONG = st.builds(lambda text, times: text * times, ANY_TEXT, st.integers(1, 400))
MESSAGES = st.builds(
    Message,
    text=ANY_TEXT | LONG,
    block=ANY_TEXT | LONG,
    buttons=st.lists(st.lists(BUTTONS, max_size=4).map(tuple), max_size=4).map(tuple),
)


PICTURES = st.lists(st.builds(Picture, st.just("F1"), ANY_TEXT | LONG), max_size=8)


@example(Message(""), "", [], "\ud800")  # half a character, in a command that was typed
@given(MESSAGES, ANY_TEXT, PICTURES, ANY_TEXT | LONG)
def test_slack_takes_any_message(message: Message, note: str, pictures: list[Picture], share: str) -> None:
    rendered = render(message, note=note, pictures=pictures, share=share)
    content = {"text": rendered.text, "blocks": rendered.blocks}
    assert list(faults(rendered.blocks)) == []
    assert refusal("chat.update", content) == ""
    assert refusal("chat.update", {"text": rendered.text}) == ""  # as it is sent where blocks are refused


@given(ANY_TEXT | LONG)
def test_no_text_means_anything_to_slack(text: str) -> None:
    assert not {"<", ">"} & set(plain(text))
    assert all(tail.startswith(("amp;", "lt;", "gt;")) for tail in plain(text).split("&")[1:])
    kinds = {element["type"] for block in render(Message(text, text)).blocks for element in block["elements"]}
    assert kinds <= {"rich_text_section", "rich_text_preformatted"}


@given(st.text(max_size=300), st.text(max_size=300))
def test_what_fits_is_shown_as_it_is(text: str, block: str) -> None:
    rendered = render(Message(text, block))
    shown = [clean(part).strip("\n") for part in (text, block)]
    assert list(texts(rendered.blocks)) == [part for part in shown if part.strip()]
    assert rendered.file == ""


@given(LONG, st.integers(60, 500))
def test_what_is_cut_says_how_many_lines_are_left_out(text: str, limit: int) -> None:
    whole = clean(text)
    short = shorten(whole, limit)
    assert len(short.encode("utf-16-le")) <= 2 * limit
    if short != whole:
        head, _, last = short.rpartition("\n")
        assert whole.startswith(head)
        left = whole[len(head) :].strip("\n").count("\n") + 1
        assert last == f"… and {left:,} more line{'' if left == 1 else 's'}"


def test_a_digest_is_one_block_and_its_buttons_another() -> None:
    message = Message(
        "Experiment #12: halve batch size\nval_bpb: 0.997900 → 0.986041 (-0.011859)\nStatus: keep",
        buttons=((Button("Diff", "/diff 12"), Button("Log", "/log 12")), (Button("Pause", "/pause"),)),
    )
    text, first, second = render(message).blocks
    assert text == {
        "type": "rich_text",
        "elements": [
            {"type": "rich_text_section", "elements": [{"type": "text", "text": message.text}]},
        ],
    }
    assert [(button["text"]["text"], button["value"]) for button in first["elements"]] == [
        ("Diff", "/diff 12"),
        ("Log", "/log 12"),
    ]
    assert [button["value"] for button in second["elements"]] == ["/pause"]


def test_markup_of_a_commit_message_is_shown_and_not_obeyed() -> None:
    rendered = render(Message("wake <!channel> *up* `now` & <@U123>"))
    assert list(texts(rendered.blocks)) == ["wake <!channel> *up* `now` & <@U123>"]
    assert rendered.text == "wake &lt;!channel&gt; *up* `now` &amp; &lt;@U123&gt;"


def test_a_long_block_is_cut_at_a_line_and_goes_whole_into_a_file() -> None:
    lines = [f"step {number:05d} loss 3.14159" for number in range(1000)]
    rendered = render(Message("Log of #12", block="\n".join(lines)))
    shown = list(texts(rendered.blocks))[1].split("\n")
    assert shown[:-1] == lines[: len(shown) - 1]
    assert shown[-1] == f"… and {1000 - len(shown) + 1:,} more lines"
    assert rendered.file == "\n".join(lines)


def test_a_long_text_takes_several_blocks_and_then_a_file() -> None:
    text = "\n".join(f"run mar{number}" for number in range(2000))
    rendered = render(Message(text, block="table"))
    shown = list(texts(rendered.blocks))
    assert len(shown) > 2
    assert text.startswith(shown[0])
    assert shown[-2].endswith("more lines")
    assert shown[-1] == "table"
    assert rendered.file == f"{text}\n\ntable"


def test_a_line_without_an_end_is_cut_in_the_middle() -> None:
    rendered = render(Message("", block="x" * 10_000))
    (shown,) = texts(rendered.blocks)
    assert shown.endswith("x\n… and 1 more line")


@pytest.mark.parametrize("nothing", ["", " ", "\n\n", "\x00\x1b"])
def test_an_empty_message_still_has_something_to_show(nothing: str) -> None:
    assert render(Message(nothing)).text == "…"
    assert render(Message(nothing)).blocks == []


def test_no_row_has_more_buttons_than_slack_takes() -> None:
    rows = tuple(tuple(Button(str(column), "/status") for column in range(60)) for _ in range(60))
    blocks = render(Message("many", buttons=rows)).blocks
    assert list(faults(blocks)) == []
    assert len(blocks) < 50


def test_a_note_stands_under_the_text() -> None:
    blocks = render(
        Message("Paused.", buttons=((Button("Resume", "/resume"),),)), note="alice: /pause"
    ).blocks
    assert [block["type"] for block in blocks] == ["rich_text", "context", "actions"]
    assert list(texts(blocks))[1] == "alice: /pause"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("start one with /start_run.", "start one with /autoresearch start_run."),
        ("/status", "/autoresearch status"),
        (
            "/statusfoo /status/x ./status a/status /status.log",
            "/statusfoo /status/x ./status a/status /status.log",
        ),
        ("Repository: /home/ann/status", "Repository: /home/ann/status"),
    ],
)
def test_commands_are_named_as_they_are_typed_on_slack(text: str, shown: str) -> None:
    assert as_typed(Message(text), ("status", "start_run")).text == shown
    assert as_typed(Message("", text), ("status", "start_run")).block == shown
    assert as_typed(Message(text), ()).text == text
