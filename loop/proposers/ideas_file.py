"""Ideas that somebody writes into `ideas.md` beside the program: each becomes an idea of the run, once."""

from __future__ import annotations

import logging
import re

from loop.experiment import Run
from loop.ideas import Idea, IdeaBox

log = logging.getLogger(__name__)

NAME = "ideas.md"
"""In the user's own checkout, which is only ever read. Also the author of the ideas."""

IDEA_CHARACTERS = 1000
"""The longest idea, from a file or a chat; of a longer one the rest is left out."""

_BYTES = 100_000
_DONE = re.compile(r"[-*+]?\s*\[[xX]\]\s")
_MARK = re.compile(r"(?:[-*+]|\d+[.)])\s+(?:\[ ?\]\s*)?|\[ ?\]\s*")


def read_ideas(text: str) -> tuple[str, ...]:
    """Return the ideas in the text: a line each, with or without a list's mark.

    Headings and comments (`#`), lines for the eye (`---`) and what is ticked (`- [x]`) are none.
    """
    ideas = []
    for line in map(str.strip, text.removeprefix("\ufeff").splitlines()):
        if line.startswith(("#", "<!--")) or _DONE.match(line):
            continue
        idea = _MARK.sub("", line, count=1) if _MARK.match(line) else line
        if any(character.isalnum() for character in idea):
            ideas.append(idea[:IDEA_CHARACTERS])
    return tuple(dict.fromkeys(ideas))


def take_in(run: Run, box: IdeaBox) -> tuple[Idea, ...]:
    """Add to the box what the file has that nobody said in this run before; return what was added.

    Blocks for the file and SQLite.
    """
    path = run.repository / NAME
    if not path.is_file():
        return ()
    try:
        with path.open("rb") as file:
            text = file.read(_BYTES).decode("utf-8", "replace")
    except OSError as error:
        log.info("%s cannot be read: %s", path, error.strerror)
        return ()
    known = box.texts(run.id)
    return tuple(box.add(run.id, idea, author=NAME) for idea in read_ideas(text) if idea not in known)
