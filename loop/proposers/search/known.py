"""Whether a change makes a program that is no news."""

from __future__ import annotations

from collections.abc import Mapping

from loop.program.fingerprint import fingerprint
from loop.proposers.protocol import Context
from loop.proposers.search.changes import Change


class Known:
    """What was trained in this run, whatever became of it, and what was refused in this asking.

    Programs are compared only where all constants are the same, because that takes a while.
    """

    def __init__(self, context: Context) -> None:
        self._refused = {refusal.description for refusal in context.refusals}
        self._programs: dict[str, set[str]] = {}
        for experiment in context.experiments:
            self._programs.setdefault(_written(experiment.constants), set()).add(experiment.program)

    def has(self, change: Change) -> bool:
        """Tell whether this is no news."""
        programs = self._programs.get(_written(change.constants), set())
        return (
            change.description in self._refused
            or "" in programs  # of an experiment whose program is not known
            or (bool(programs) and fingerprint(change.write()) in programs)
        )


def _written(constants: Mapping[str, object]) -> str:
    """Return what is the same for equal constants, as they are here or as they come from JSON."""
    return repr(sorted((name, _canonical(value)) for name, value in constants.items()))


def _canonical(value: object) -> str:
    if isinstance(value, list | tuple):
        return repr([_canonical(element) for element in value])
    return f"{value:.9g}" if isinstance(value, float) else repr(value)
