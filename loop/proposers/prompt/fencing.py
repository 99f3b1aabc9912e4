"""Texts for a model: how long they are, how they are cut, how material is kept apart from instructions."""

from __future__ import annotations

import math
import re

from loop.text import one_line

BYTES_PER_TOKEN = 2.5
"""Bytes of UTF-8 that a token stands for at least, on average.

English and code come to 3 to 4.5 in the vocabularies of today, tables of numbers to 2.5 and a little less. An
estimate on the safe side: what a provider counts is known only afterwards.
"""

SEPARATOR = "\n\n"

LINE = 200
"""Characters of a description, at most."""

PROSE = 1000
"""Characters of a rationale, at most."""

SAID = 300
"""Characters of what a provider or an agent says of its trouble, at most."""

_LEFT_OUT = "[… the rest is left out]"
_LABEL = 80  # characters
_DIGITS = 4  # tokens kept free for the number of a fence, where 1 is taken
# Less than `clean` takes out: what a model changes it must quote letter by letter.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0d-\x1f\x7f]")


def tokens(text: str) -> int:
    """Return an estimate of how many tokens the text has, rather too many than too few.

    That of two texts together is never above the sum of both.
    """
    return math.ceil(len(text.encode(errors="replace")) / BYTES_PER_TOKEN)


def cut(text: str, room: int, *, tail: bool = False) -> str:
    """Return the text if it has at most `room` tokens, else its first (or last) lines and a note."""
    if tokens(text) <= room:
        return text
    most = int(room * BYTES_PER_TOKEN) - len(f"{_LEFT_OUT}\n".encode())
    if most <= 0:
        return ""
    whole = text.encode(errors="replace")
    if tail:
        end = whole[-most:].decode(errors="ignore")
        return "\n".join([_LEFT_OUT, end.partition("\n")[2] or end])
    start = whole[:most].decode(errors="ignore")
    return "\n".join([start.rpartition("\n")[0] or start, _LEFT_OUT])


def fenced(kind: str, label: str, text: str) -> str:
    """Return the text between `<kindN of="label">` and `</kindN>`, with an N that the text cannot name.

    So no text can end its fence. `kind` is a word of letters. The text stays as it is, but for characters
    that no terminal shows.
    """
    text = _CONTROL.sub("", text).encode(errors="replace").decode()
    label = re.sub(r'[<>"]', "'", one_line(label, _LABEL))
    lower = text.lower()
    number = 1
    while f"{kind}{number}" in lower:
        number += 1
    return "\n".join([f'<{kind}{number} of="{label}">', text.strip("\n"), f"</{kind}{number}>"])


class Room:
    """A number of tokens that texts are fitted into, the most useful first, to be joined by `SEPARATOR`."""

    def __init__(self, room: int) -> None:
        self.left = max(0, room)

    def take(self, text: str, *, most: int | None = None) -> str:
        """Return the text as far as it fits, into `most` tokens too."""
        limit = self._limit(most)
        return self._taken(cut(text, limit - tokens(SEPARATOR)), limit)

    def fence(self, kind: str, label: str, text: str, *, most: int | None = None, tail: bool = False) -> str:
        """Return the text in its fence, as far as it fits; nothing where not a line of it does."""
        limit = self._limit(most)
        frame = tokens(fenced(kind, label, "")) + tokens(SEPARATOR) + _DIGITS
        body = cut(text, limit - frame, tail=tail) if text.strip() else ""
        return self._taken(fenced(kind, label, body) if body else "", limit)

    def _limit(self, most: int | None) -> int:
        return self.left if most is None else min(self.left, most)

    def _taken(self, text: str, limit: int) -> str:
        size = tokens(text + SEPARATOR) if text else 0
        if size > limit:
            return ""
        self.left -= size
        return text


def joined(*texts: str) -> str:
    """Return the texts that there are, one after the other."""
    return SEPARATOR.join(text for text in texts if text)
