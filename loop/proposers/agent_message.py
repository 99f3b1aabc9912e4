"""What a coding agent is told beside the state of the run, and what is read from its last message.

The message is untrusted text: it is read line by line, nothing in it is ever obeyed, and all of it may be
missing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from loop.experiment import Family

LINE = 120
"""Characters of a description at most."""

PROSE = 600
"""Characters of a rationale, or of what went wrong, at most."""

_TASK = """\
{brief}

---
You are in a throw-away copy of the repository. Do what is asked above, but by editing the file `{editable}`
there, and that file only: whatever else you change is thrown away. Do not train and do not install anything;
the program is trained when you have ended. Nobody will answer a question.{give_up}

Instead of the answer described above, end with a message of these lines and no others:

Description: what you changed, in at most 80 characters
Rationale: why it should help, in one or two sentences
Expected: the effect that you hope for
Family: one of {families}
"""

_GIVE_UP = " If the idea is not worth another training, leave the file as it is."

_LABEL = re.compile(
    r"^[^\w\n]{0,8}(description|rationale|expected|family)[^\w\n]{0,8}:", re.IGNORECASE | re.MULTILINE
)


_DRESS = re.compile(r"^(?:[*#> ]|- )+|(?<!\*)\*\*$")  # of Markdown


@dataclass(frozen=True, slots=True)
class Message:
    """What the last message says, in plain lines; empty where it says nothing of the kind."""

    description: str = ""
    rationale: str = ""
    expected: str = ""
    family: Family | None = None


def task(brief: str, editable: str, *, may_give_up: bool = False) -> str:
    """Return the whole prompt: the brief, how to work and how to end."""
    give_up = _GIVE_UP if may_give_up else ""
    return _TASK.format(brief=brief.strip(), editable=editable, give_up=give_up, families=", ".join(Family))


def read_message(text: str) -> Message:
    """Read what follows each label; without a description, the first line is taken for one."""
    labels = list(_LABEL.finditer(text))
    ends = [*(label.start() for label in labels), len(text)][1:]
    said = {label[1].lower(): text[label.end() : end] for label, end in zip(labels, ends, strict=False)}
    description = said.get("description", "" if labels else text)
    family = plain(said.get("family", ""), PROSE).lower().replace("_", " ").replace("-", " ")
    return Message(
        description=next((line for each in description.splitlines() if (line := plain(each, LINE))), ""),
        rationale=plain(said.get("rationale", ""), PROSE),
        expected=plain(said.get("expected", ""), PROSE),
        family=next((known for known in Family if family.startswith(known)), None),
    )


def plain(text: str, most: int) -> str:
    """Return the text as one line of at most `most` printable characters, without Markdown around it."""
    letters = "".join(letter if letter.isprintable() else " " for letter in text)
    line = _DRESS.sub("", " ".join(letters.split()))
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"
