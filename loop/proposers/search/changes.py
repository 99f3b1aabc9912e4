"""What the search may do next, before it is written out: one change of the program after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from loop.experiment import Family
from loop.program.constants import Constant, find_constants, replace_constants, write_value
from loop.program.syntax import Value
from loop.proposers.search.space import Axis, Scalar

Move: TypeAlias = tuple[Axis, Scalar]
"""An axis and the value to set it to."""

Moves: TypeAlias = tuple[Move, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A change with its words. `constants` are those of the program that `write` returns."""

    description: str
    rationale: str
    family: Family | None
    constants: Mapping[str, Value]
    write: Callable[[], str]
    expected: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """The best program so far, and its constants."""

    source: str
    constants: tuple[Constant, ...]

    @classmethod
    def read(cls, source: str) -> Program:
        """Find the constants of a program.

        Raises:
            LoopError: it is not valid Python.
        """
        return cls(source, find_constants(source))

    def change(
        self, moves: Moves, rationale: str = "", family: Family | None = None, *, expected: str = ""
    ) -> Change:
        """Return the change that makes all `moves`."""
        present = {constant.name: constant.value for constant in self.constants}
        after: dict[str, Value] = {}
        for axis, value in moves:
            name = axis.constant.name
            after[name] = axis.moved(value, after.get(name, present[name]))
        return Change(
            description=_describe(self.constants, after),
            rationale=rationale,
            family=family,
            constants={**present, **after},
            write=partial(replace_constants, self.source, after),
            expected=expected,
        )


def shown(value: Value, constant: Constant) -> str:
    """Write a value as the program does, a string without quotes and on one line."""
    if isinstance(value, str):
        return value
    return write_value(value, like="" if isinstance(value, tuple) else constant.text)


def _describe(constants: Sequence[Constant], after: Mapping[str, Value]) -> str:
    return ", ".join(
        f"{constant.name} {shown(constant.value, constant)} → {shown(after[constant.name], constant)}"
        for constant in constants
        if constant.name in after
    )
