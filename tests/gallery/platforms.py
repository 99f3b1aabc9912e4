"""A message as each platform shows it, in text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import unescape
from typing import Any

from bot.local.terminal import render as render_for_terminal
from notifiers.channels.slack_blocks import Rendered, render
from notifiers.channels.telegram import Part, lay_out, one_page
from notifiers.message import Attachment
from tests.gallery.screen import Shown, Way
from tests.servers.slack_rules import as_read, form_as_read

_END = 12  # lines at either end of a long text


def on_terminal(shown: Shown) -> str:
    """Return what is printed; a terminal has no card, no pictures and no second thoughts."""
    absent = shown.way in (Way.CARD, Way.EDIT, Way.QUESTION) or shown.message.attachments or shown.view
    return "" if absent else render_for_terminal(shown.message)


def on_telegram(shown: Shown) -> list[Part]:
    """Return the messages that Telegram gets."""
    match shown.way:
        case Way.HERE | Way.HOME | Way.FORM:
            return []
        case Way.EDIT:
            return [Part(one_page(shown.message), None, True)]
        case _:
            return lay_out(shown.message)


def on_slack(shown: Shown) -> Rendered | None:
    """Return the message that Slack gets, if it gets one; an answer for everybody says who asked."""
    if shown.way is Way.HERE or shown.view:
        return None
    return render(shown.message, note=shown.asked if shown.way in (Way.ANSWER, Way.QUESTION) else "")


def describe(shown: Shown) -> Iterator[str]:
    """Yield all of it, line by line; what is the same in several places stands there once."""
    yield ", ".join(filter(None, (shown.way, shown.asked, "without a sound" * shown.message.silent)))
    places: dict[str, list[str]] = {}
    for place, text in _texts(shown):
        if text:
            places.setdefault(text, []).append(place)
    for text, names in places.items():
        yield f"  {' · '.join(names)}"
        yield from (f"  │ {line}".rstrip() for line in _ends(text.split("\n")))
    if shown.message.buttons:
        yield "  Buttons on Telegram and Slack"
        yield from (f"  │ {_row(button.label for button in row)}" for row in shown.message.buttons)


def _texts(shown: Shown) -> Iterator[tuple[str, str]]:
    """Yield each place and what is to be read there, buttons of messages apart."""
    if shown.view:
        yield "Slack", as_read(shown.view["blocks"]) if shown.way is Way.HOME else form_as_read(shown.view)
    yield "Terminal", on_terminal(shown)
    for part in on_telegram(shown):
        file = f"{_file(part.file)}\n" if part.file else ""
        yield "Telegram in HTML", file + part.page.html
        yield "Telegram as read", file + part.page.plain
    if rendered := on_slack(shown):
        whole = (Attachment("whole.txt", rendered.file.encode()),) if rendered.file else ()
        files = (*map(_file, whole), *(f"{_file(file)}: {file.alt}" for file in shown.message.attachments))
        yield "Slack in blocks", "\n".join((*filter(None, map(_block, rendered.blocks)), *files))
        yield "Slack as a notification", unescape(rendered.text)


def _ends(lines: list[str]) -> list[str]:
    """Return lines, of very many only the first and the last."""
    left_out = len(lines) - 2 * _END
    return lines if left_out < 2 else [*lines[:_END], f"⋮ ({left_out} lines)", *lines[-_END:]]


def _file(file: Attachment) -> str:
    return f"📎 {file.name}, {max(1, len(file.content) // 1024):,} kB"


def _block(block: dict[str, Any]) -> str:
    match block["type"]:
        case "actions":
            return ""
        case "context":
            return "\n".join(element["text"] for element in block["elements"])
        case _:
            (element,) = block["elements"]
            (text,) = element["elements"]
            fixed = element["type"] == "rich_text_preformatted"
            return "\n".join(f"▏ {line}" if fixed else line for line in text["text"].split("\n"))


def _row(labels: Iterable[str]) -> str:
    return "  ".join(f"[{label}]" for label in labels)
