"""What a coding agent is told beside the state of the run, and what is read from its last message.

The message is untrusted text: it is read line by line, nothing in it is ever obeyed, and all of it may be
missing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from loop.experiment import Family
from loop.proposers.prompt.fencing import LINE, PROSE
from loop.text import one_line

_TASK = """\
{brief}

---
You are in a throw-away copy of the repository. Do what is asked above, but by editing the file `{editable}`
there, and that file only: whatever else you change is thrown away. Do not train and do not install anything;
the program is trained when you have ended. Nobody will answer a question.{give_up}

End with a message of these lines and no others:

Description: what you changed, in at most 80 characters
Rationale: why it should help, in one or two sentences
Expected: the effect that you hope for
Family: one of {families}
"""

_GIVE_UP = " To give the idea up, leave the file as it is."

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
    labelled = {label[1].lower(): text[label.end() : end] for label, end in zip(labels, ends, strict=False)}
    description = labelled.get("description", "" if labels else text)
    family = undressed(labelled.get("family", ""), LINE).lower().replace("_", " ").replace("-", " ")
    return Message(
        description=next((said for each in description.splitlines() if (said := undressed(each, LINE))), ""),
        rationale=undressed(labelled.get("rationale", ""), PROSE),
        expected=undressed(labelled.get("expected", ""), LINE),
        family=next((known for known in Family if family.startswith(known)), None),
    )


def undressed(text: str, limit: int) -> str:
    """Return untrusted text as one line of at most `limit` characters, without Markdown around it."""
    return one_line(_DRESS.sub("", one_line(text)), limit)
