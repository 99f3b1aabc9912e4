"""What crashes teach the search: which changes to leave alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loop.proposers.search.space import Axis, Key, Scalar


@dataclass(frozen=True, slots=True)
class CrashRegion:
    """What a training that crashed had changed.

    If it had raised `amounts`, they are the cause: larger ones need more memory, so beyond them none fits.
    """

    changed: Mapping[Key, Scalar]
    amounts: Mapping[Key, float]

    def holds(self, values: Mapping[Key, Scalar]) -> bool:
        if self.amounts:
            return all(_number(values.get(key)) >= least for key, least in self.amounts.items())
        return all(values.get(key) == value for key, value in self.changed.items())


def crash_region(axes: Sequence[Axis], changed: Mapping[Key, tuple[Scalar | None, Scalar]]) -> CrashRegion:
    amounts = {
        axis.key: _number(after)
        for axis in axes
        if axis.is_amount and axis.key in changed
        for before, after in (changed[axis.key],)
        if _number(after) > _number(before)
    }
    return CrashRegion({key: after for key, (_, after) in changed.items()}, amounts)


def _number(value: Scalar | None) -> float:
    """Return a value as a number that compares with none where it is none."""
    return value if isinstance(value, int | float) else math.nan
