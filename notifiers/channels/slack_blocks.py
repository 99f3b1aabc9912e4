"""A message in Slack's blocks, and as plain text: within Slack's limits, and with no markup obeyed."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from loop.text import clean, one_line
from notifiers.message import Button, Message, first_units, units
from notifiers.text.words import plural

Block: TypeAlias = dict[str, Any]

BLOCK_TEXT = 3000  # UTF-16 units in one block, as all lengths of text here
_TEXT = 6000  # of a message; with the block in fixed width well below the 12,000 of a whole message
_PLAIN = 3900  # of the copy for notifications; Slack splits a message from 4,000
_NOTE = 300
_LABEL = 75  # of a button
_VALUE = 2000  # of what a button gives back
_ALT = 2000  # of what a picture shows
_LEFT_OUT = 40  # for the line that says how much is left out
_ROW = 25  # buttons
_ROWS = 35  # with the blocks of text and pictures fewer than the 50 that a message may have
_PICTURES = 5
HALF_ENTITY = re.compile(r"&[a-z]{0,3}$")

SHARE = "share"  # the action of the button that shows everybody what only one person sees


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that Slack has, by the id of its file, and what it shows."""

    file: str
    alt: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """Blocks, the same as escaped plain text for notifications, and all of a text that did not fit."""

    blocks: list[Block]
    text: str
    file: str = ""


def as_typed(message: Message, verbs: Collection[str]) -> Message:
    """Return the message with `/status` as it is typed on Slack: `/autoresearch status`."""
    if not verbs:
        return message
    command = re.compile(rf"(?<![\w/.~-])/(?=(?:{'|'.join(map(re.escape, verbs))})\b(?!/|[.-]\w))")
    text, block = (command.sub("/autoresearch ", part) for part in (message.text, message.block))
    return replace(message, text=text, block=block)


def render(
    message: Message, *, note: str = "", pictures: Sequence[Picture] = (), share: str = ""
) -> Rendered:
    """Return a message in blocks, with those of its pictures that Slack has.

    `note` is a small line below it, such as who asked. `share` is a command whose answer only one person
    sees: a button shows it to all.
    """
    text, fixed = clean(message.text).strip("\n"), clean(message.block).strip("\n")
    note, share = shorten(clean(note), _NOTE), clean(share)
    shown_text, shown_fixed = shorten(text, _TEXT), shorten(fixed, BLOCK_TEXT)
    blocks = [_rich("rich_text_section", piece) for piece in _pieces(shown_text)]
    if shown_fixed.strip():
        blocks.append(_rich("rich_text_preformatted", shown_fixed))
    blocks += map(_image, pictures[:_PICTURES])
    if note.strip():
        blocks.append({"type": "context", "elements": [{"type": "plain_text", "text": note}]})
    rows = [row[start : start + _ROW] for row in message.buttons for start in range(0, len(row), _ROW)]
    blocks += [_actions(row, number) for number, row in enumerate(rows[:_ROWS])]
    if share and units(share) <= _VALUE:
        blocks.append({"type": "actions", "elements": [_button("Show to all", share, SHARE)]})
    cut = [fixed] if shown_fixed != fixed else []
    if shown_text != text:
        cut = [text, fixed]
    copy = "\n".join(filter(str.strip, (text, shown_fixed, note)))
    return Rendered(blocks, plain(copy), "\n\n".join(cut).strip("\n"))


def plain(text: str) -> str:
    """Return text escaped as Slack's markup asks (`&`, `<` and `>`, nothing else), cut, never empty."""
    escaped = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if not escaped.strip():
        return "…"
    return shorten(escaped, _PLAIN, unfinished=HALF_ENTITY)


def shorten(text: str, limit: int, *, unfinished: re.Pattern[str] | None = None) -> str:
    """Return clean text of at most `limit` units, cut at the end of a line where possible.

    The last line then says how many are left out. What `unfinished` finds before the cut is dropped.
    """
    if units(text) <= limit:
        return text
    head = cut(text, limit - _LEFT_OUT)
    left = text[len(head) :].strip("\n").count("\n") + 1
    if unfinished is not None:
        head = unfinished.sub("", head)
    return f"{head}\n… and {plural(left, 'more line')}"


def _pieces(text: str) -> list[str]:
    pieces = []
    while text.strip():
        pieces.append(cut(text, BLOCK_TEXT))
        text = text[len(pieces[-1]) :].removeprefix("\n")
    return pieces


def cut(text: str, limit: int) -> str:
    if units(text) <= limit:
        return text
    head = first_units(text, limit)
    lines = head.rpartition("\n")[0]
    return lines if lines.strip() else head


def _rich(kind: str, text: str) -> Block:
    return {"type": "rich_text", "elements": [{"type": kind, "elements": [{"type": "text", "text": text}]}]}


def _image(picture: Picture) -> Block:
    alt = cut(one_line(picture.alt), _ALT) or "…"
    return {"type": "image", "slack_file": {"id": picture.file}, "alt_text": alt}


def _actions(row: Sequence[Button], number: int) -> Block:
    elements = [
        _button(_label(button), button.command, f"command {number}.{column}")
        for column, button in enumerate(row)
    ]
    return {"type": "actions", "elements": elements}


def _button(label: str, value: str, action: str) -> Block:
    return {
        "type": "button",
        "action_id": action,
        "text": {"type": "plain_text", "text": label},
        "value": value,
    }


def _label(button: Button) -> str:
    return cut(one_line(button.label) or one_line(button.command), _LABEL) or "…"
