"""Ideas of people that name constants and their values: they become an edit at once, without a model."""

from __future__ import annotations

import re
from collections.abc import Mapping

from loop.constants import Literal, find_constants, replace_constants
from loop.errors import LoopError
from loop.experiment import Family, Proposal
from loop.proposers.families import family_of
from loop.proposers.protocol import Context

_CHANGE = re.compile(r"([A-Z][A-Z0-9_]*)\s*(?:=|:|->|→|\bto\b)?\s*([^\s,;].*?)\s*(?:[,;]\s*(?=[A-Z])|$)")


def propose_idea(context: Context) -> Proposal | None:
    """Return the oldest idea that sets constants of the program, as an edit; None where there is none.

    The program may be so already: who judges proposals has the answer to that.
    """
    for idea in context.ideas:
        try:
            changes = _read_changes(idea.text)
            source = _set(context.source, changes)
        except LoopError:
            continue  # it waits for somebody who reads prose
        return Proposal(
            source=source,
            description=idea.text,
            rationale=f"An idea of {idea.author}.",
            proposer=idea.author,
            parent=context.parent,
            family=Family.COMBINATION if len(changes) > 1 else family_of(*changes),
            idea=idea.id,
        )
    return None


def is_prose(source: str, text: str) -> bool:
    """Tell whether an idea for this program takes somebody who can read."""
    try:
        _set(source, _read_changes(text))
    except LoopError:
        return True
    return False


def edit(source: str, text: str) -> str:
    """Return `source` with the constants set that `text` names: `DEPTH 9`, `DEPTH = 9, MATRIX_LR 0.05`.

    Raises:
        LoopError: the text names no constant of the program, or the program is so already.
    """
    edited = _set(source, _read_changes(text))
    if edited == source:
        raise LoopError("The program is so already.")
    return edited


def _set(source: str, changes: Mapping[str, str]) -> str:
    quoted = {constant.name for constant in find_constants(source) if isinstance(constant.value, str)}
    literals = {
        name: Literal(f'"{value}"' if name in quoted and value[0] not in "\"'" else value)
        for name, value in changes.items()
    }
    return replace_constants(source, literals)


def _read_changes(text: str) -> Mapping[str, str]:
    """Read the whole text as changes of constants; none is found in anything else."""
    changes: dict[str, str] = {}
    end = 0
    for match in _CHANGE.finditer(text.strip()):
        if match.start() != end:
            break
        changes[match[1]] = match[2]
        end = match.end()
    if not changes or end != len(text.strip()):
        raise LoopError("That names no constant and its value, such as EMBEDDING_LR 0.8.")
    return changes
