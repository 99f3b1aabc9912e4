"""Ideas that somebody writes into `ideas.md` beside the program: each becomes an idea of the run, once."""

from __future__ import annotations

import logging
import re

from loop.experiment import Run
from loop.store.ideas import Idea, IdeaBox

log = logging.getLogger(__name__)

NAME = "ideas.md"
"""In the user's own checkout, which is only ever read. Also the author of the ideas."""

IDEA_CHARACTERS = 1000
"""The longest idea, from a file or a chat; of a longer one the rest is left out."""

_BYTES = 100_000
_HIDDEN = re.compile(
    r"<!--.*?(?:-->|\Z)"
    r"|^[ \t]*(?:(?:[-*+]|\d+[.)])[ \t]+)?(`{3,}|~{3,})[^`\n]*$.*?(?:^[ \t]*\1[`~]*[ \t]*$|\Z)",
    re.DOTALL | re.MULTILINE,
)
"""Comments, and code between fences, in an item of a list or not."""

_DONE = re.compile(r"[-*+]?\s*\[[xX]\]\s")
_MARK = re.compile(r"(?:[-*+]|\d+[.)])\s+(?:\[ ?\]\s*)?|\[ ?\]\s*")


def read_ideas(text: str) -> tuple[str, ...]:
    """Return the ideas in the text: a line each, or an item of a list with the indented lines below it.

    Headings and comments (`#`, `<!-- -->`), code between fences, lines for the eye (`---`) and what is ticked
    (`- [x]`) are none.
    """
    lines = "\n".join(text.removeprefix("\ufeff").splitlines())
    ideas: list[list[str]] = []
    item: list[str] | None = None
    for line in _HIDDEN.sub("", lines).split("\n"):
        said = line.strip()
        if line and not line[0].isspace():
            item = None
        if not said or said.startswith("#"):
            continue
        mark = _MARK.match(said)
        if _DONE.match(said):
            item = []  # so are the lines below it
        elif mark is not None:
            item = [said[mark.end() :]]
            ideas.append(item)
        elif item is not None:
            item.append(said)
        else:
            ideas.append([said])
    told = (" ".join(parts)[:IDEA_CHARACTERS].strip() for parts in ideas)
    return tuple(dict.fromkeys(idea for idea in told if any(map(str.isalnum, idea))))


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
