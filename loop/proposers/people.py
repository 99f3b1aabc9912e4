"""Ideas of people come first; another proposer has the floor while there is none that can be understood."""

from __future__ import annotations

import re
from collections.abc import Mapping

from loop.constants import Literal, find_constants, replace_constants
from loop.errors import LoopError
from loop.experiment import Proposal
from loop.proposers.protocol import Context, Failure, Proposer

_CHANGE = re.compile(r"([A-Z][A-Z0-9_]*)\s*(?:=|:|->|→|\bto\b)?\s*([^\s,;].*?)\s*(?:[,;]\s*(?=[A-Z])|$)")


class PeopleFirst:
    """Proposes what people asked for by name and value (`EMBEDDING_LR 0.8`), else what `other` proposes."""

    def __init__(self, other: Proposer) -> None:
        self._other = other

    @property
    def name(self) -> str:
        """The name of the proposer behind the people."""
        return self._other.name

    async def propose(self, context: Context) -> Proposal:
        """Return the oldest idea that can be made an edit of, else a proposal of the other proposer."""
        for idea in context.ideas:
            try:
                source = edit(context.source, idea.text)
            except LoopError:
                continue  # it waits for somebody who reads prose, or for another best
            return Proposal(
                source=source,
                description=idea.text,
                rationale=f"An idea of {idea.author}.",
                proposer=idea.author,
                parent=context.parent,
                idea=idea.id,
            )
        return await self._other.propose(context)

    async def repair(self, context: Context, failure: Failure) -> Proposal | None:
        """Leave it to the other proposer."""
        return await self._other.repair(context, failure)


def edit(source: str, text: str) -> str:
    """Return `source` with the constants set that `text` names: `DEPTH 9`, `DEPTH = 9, MATRIX_LR 0.05`.

    Raises:
        LoopError: the text names no constant of the program, or the program is so already.
    """
    changes = _read_changes(text)
    quoted = {constant.name for constant in find_constants(source) if isinstance(constant.value, str)}
    literals = {
        name: Literal(f'"{value}"' if name in quoted and value[0] not in "\"'" else value)
        for name, value in changes.items()
    }
    edited = replace_constants(source, literals)
    if edited == source:
        raise LoopError("The program is so already.")
    return edited


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
