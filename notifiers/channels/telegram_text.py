"""How Telegram shows a message: pages of HTML within its limits, and files for what is longer."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from html import escape

from loop.text import clean
from notifiers.message import Attachment, Message

# Limits of the Bot API, in UTF-16 code units of what remains after the markup is taken out.
TEXT_UNITS = 4096
CAPTION_UNITS = 1024

PAGES = 2
"""A text that needs more messages than this goes as a file."""

EMPTY = "(empty)"
REST_IS_IN_FILE = "… (all of it is in the file)"
CUT = "…"

# Nothing of these is seen, and Telegram refuses a text that has nothing else.
_UNSEEN_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Mn", "Me", "Zl", "Zp", "Zs"})
_UNSEEN = frozenset("\u115f\u1160\u2800\u3164\uffa0\ufffc")


@dataclass(frozen=True, slots=True)
class Page:
    """What one Telegram message holds: text, then a block in fixed width."""

    text: str
    block: str = ""

    @property
    def html(self) -> str:
        """The page as Telegram's HTML; tags are closed in it, whatever the text."""
        block = f"<pre>{_escape(self.block)}</pre>" if self.block else ""
        return "\n".join(filter(None, (_escape(self.text), block)))

    @property
    def plain(self) -> str:
        """The page without markup, for when Telegram does not like it."""
        return "\n".join(filter(None, (self.text, self.block)))

    @property
    def units(self) -> int:
        """Its length as Telegram counts it."""
        return units(self.plain)

    def note(self, line: str) -> Page:
        """Return the page with a line more at the end of its text."""
        return replace(self, text="\n".join(filter(None, (self.text, line))))


@dataclass(frozen=True, slots=True)
class Part:
    """One of the messages that Telegram gets for one of ours: a page, or a file with the page below it.

    Exactly one part of a message has its `buttons`, if there are any.
    """

    page: Page
    file: Attachment | None = None
    buttons: bool = False


def units(text: str) -> int:
    """Return the length in UTF-16 code units."""
    return len(text.encode("utf-16-le")) // 2


def visible(text: str) -> bool:
    """Say whether there is anything to be seen in a text."""
    return any(
        character not in _UNSEEN and unicodedata.category(character) not in _UNSEEN_CATEGORIES
        for character in text
    )


def lay_out(message: Message) -> list[Part]:
    """Divide a message into parts, one at least; what does not fit into `PAGES` pages becomes a file."""
    text, block, files = clean(message.text), clean(message.block), message.attachments
    pages = _pages(text, block)
    if len(pages) > PAGES and visible(block):
        files = (*files, Attachment(_file_name(block), block.encode()))
        pages = _pages(text, "")
    if len(pages) > PAGES:
        files = (*files, Attachment("message.txt", text.encode()))
        pages = [_shortened(text, "", TEXT_UNITS, REST_IS_IN_FILE)]
    if files and (not pages or (len(pages) == 1 and pages[0].units <= CAPTION_UNITS)):
        caption = pages[0] if pages else _alternative(files[0])
        return [Part(caption, files[0], buttons=True), *map(_file_part, files[1:])]
    *others, last = pages or [Page(EMPTY)]
    return [*map(Part, others), Part(last, buttons=True), *map(_file_part, files)]


def one_page(message: Message, limit: int = TEXT_UNITS) -> Page:
    """Return as much of a message as one page of `limit` units holds."""
    text, block = clean(message.text), clean(message.block)
    pages = _pages(text, block, limit) or [Page(EMPTY)]
    return pages[0] if len(pages) == 1 else _shortened(text, block, limit, CUT)


def _file_part(file: Attachment) -> Part:
    return Part(_alternative(file), file)


def _alternative(file: Attachment) -> Page:
    return one_page(Message(file.alt), CAPTION_UNITS) if visible(file.alt) else Page("")


def _shortened(text: str, block: str, limit: int, last_line: str) -> Page:
    page = _pages(text, block, limit - units(last_line) - 1)[0]
    return replace(page, block=f"{page.block}\n{last_line}") if page.block else page.note(last_line)


def _pages(text: str, block: str, limit: int = TEXT_UNITS) -> list[Page]:
    """Fill pages with the lines of the text, then with those of the block; none is without a visible sign."""
    pieces = _cut(text, limit, limit) if visible(text) else []
    pages = [Page(piece) for piece in pieces]
    if visible(block):
        room = limit - pages[-1].units - 1 if pages else limit
        first, *others = _cut(block, room, limit)
        pages = [*pages[:-1], replace(pages[-1], block=first)] if pages else [Page("", first)]
        pages += [Page("", piece) for piece in others]
    return [page for page in pages if visible(page.plain)]


def _cut(text: str, room: int, limit: int) -> list[str]:
    """Cut at line ends: a first piece of up to `room` units, perhaps empty, then others of up to `limit`.

    Only a line that is longer than `limit` is broken.
    """
    pieces: list[str] = []
    piece: list[str] = []
    used = 0
    for line in text.split("\n"):
        for part in _broken(line, limit):
            size = units(part) + bool(piece)
            if used + size > room:
                pieces.append("\n".join(piece))
                piece, used, size, room = [], 0, units(part), limit
            piece.append(part)
            used += size
    return [*pieces, "\n".join(piece)]


def _broken(line: str, limit: int) -> list[str]:
    data = line.encode("utf-16-le")
    parts = []
    while len(data) > 2 * limit:
        # Half of a surrogate pair at the cut is left to the next part.
        part = data[: 2 * limit].decode("utf-16-le", errors="ignore")
        parts.append(part)
        data = data[2 * units(part) :]
    return [*parts, data.decode("utf-16-le")]


def _escape(text: str) -> str:
    return escape(text, quote=False)


def _file_name(block: str) -> str:
    return "changes.diff" if block.startswith(("diff --git ", "--- ", "@@ ")) else "output.txt"
