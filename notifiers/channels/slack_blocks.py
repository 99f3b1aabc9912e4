"""A message as Slack's Block Kit shows it, every limit kept.

Text goes into `rich_text` blocks, which Slack shows as they are: no markup in it means anything there, so a
commit message with `<!channel>` or an odd asterisk is harmless. Only the copy for notifications is markup
and is escaped. The limits are those of https://docs.slack.dev/reference/block-kit/blocks; they are counted
in UTF-16 units, the strictest of the ways in which a platform may count.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from loop.text import clean, one_line
from notifiers.message import Button, Message
from notifiers.text.words import plural

BLOCK_TEXT = 3000
"""Units of text in one block."""
_TEXT = 6000  # of a message's text; with the block in fixed width well below the 12,000 of a whole message
_PLAIN = 3900  # of the copy for notifications; Slack cuts a message in pieces from 4,000
_NOTE = 300
_LABEL = 75
_ROW = 25  # buttons
_ROWS = 40  # with the blocks of text fewer than the 50 that a message may have
_LEFT_OUT = 40  # room for the line that says how much is left out

_HALF_ENTITY = re.compile(r"&[a-z]{0,3}$")

Block = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rendered:
    """Blocks, and the same as escaped plain text for notifications.

    `file` is the whole of what did not fit, empty where nothing is left out.
    """

    blocks: list[Block]
    text: str
    file: str = ""


def as_typed(message: Message, verbs: Collection[str]) -> Message:
    """Return the message with `/status` written as it is typed on Slack, `/autoresearch status`.

    Slack's own commands win over such names. `verbs` are those of our commands.
    """
    if not verbs:
        return message
    command = re.compile(rf"(?<![\w/.~-])/(?=(?:{'|'.join(map(re.escape, verbs))})\b(?!/|[.-]\w))")
    text, block = (command.sub("/autoresearch ", part) for part in (message.text, message.block))
    return replace(message, text=text, block=block)


def render(message: Message, *, note: str = "") -> Rendered:
    """Return a message in blocks; `note` is a small line under it, such as who asked."""
    text, fixed = clean(message.text).strip("\n"), clean(message.block).strip("\n")
    note = shorten(clean(note), _NOTE)
    shown_text, shown_fixed = shorten(text, _TEXT), shorten(fixed, BLOCK_TEXT)
    blocks = [_rich("rich_text_section", piece) for piece in _pieces(shown_text)]
    if shown_fixed.strip():
        blocks.append(_rich("rich_text_preformatted", shown_fixed))
    if note.strip():
        blocks.append({"type": "context", "elements": [_plain_text(note)]})
    rows = [row[start : start + _ROW] for row in message.buttons for start in range(0, len(row), _ROW)]
    blocks += [_actions(row, number) for number, row in enumerate(rows[:_ROWS])]
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
    return shorten(escaped, _PLAIN, unfinished=_HALF_ENTITY)


def shorten(text: str, limit: int, *, unfinished: re.Pattern[str] | None = None) -> str:
    """Return clean text of at most `limit` units; where it is cut, at the end of a line if there is one.

    The last line then says how many are left out. `unfinished` must not stand at the cut.
    """
    if _units(text) <= limit:
        return text
    head = _head(text, limit - _LEFT_OUT)
    left = text[len(head) :].strip("\n").count("\n") + 1
    if unfinished is not None:
        head = unfinished.sub("", head)
    return f"{head}\n… and {plural(left, 'more line')}"


def _pieces(text: str) -> list[str]:
    pieces = []
    while text.strip():
        pieces.append(_head(text, BLOCK_TEXT))
        text = text[len(pieces[-1]) :].removeprefix("\n")
    return pieces


def _head(text: str, limit: int) -> str:
    """Return the beginning of clean text, at most `limit` units: whole lines, or a part of the first."""
    if _units(text) <= limit:
        return text
    head = text.encode("utf-16-le")[: 2 * limit].decode("utf-16-le", "ignore")
    lines = head.rpartition("\n")[0]
    return lines if lines.strip() else head


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _rich(kind: str, text: str) -> Block:
    return {"type": "rich_text", "elements": [{"type": kind, "elements": [{"type": "text", "text": text}]}]}


def _plain_text(text: str) -> Block:
    return {"type": "plain_text", "text": text}


def _actions(row: Sequence[Button], number: int) -> Block:
    buttons = [
        {
            "type": "button",
            "action_id": f"command {number}.{column}",
            "text": _plain_text(_label(button)),
            "value": button.command,
        }
        for column, button in enumerate(row)
    ]
    return {"type": "actions", "elements": buttons}


def _label(button: Button) -> str:
    words = one_line(button.label) or one_line(button.command)
    return _head(words, _LABEL) or "…"
