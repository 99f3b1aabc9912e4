"""What crashes teach the search: which part of a change is to blame, and what to leave alone therefore.

A part is one axis that was moved, with all values beyond it. To blame is the smallest set of parts that no
training that ran to its end had: of several as small the one that more of the crashes share, and while these
do not tell either, all of them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

from loop.experiment import Ending, Experiment
from loop.logs.error_line import tells_of_full_memory
from loop.proposers.search.space import Axis, Key, Scalar

_MOST_SETS = 300  # of parts of one size that are looked at
_KILLED = (-9, 137)


@dataclass(frozen=True, slots=True)
class Part:
    """An axis at a value, and beyond it where `beyond` is 1 (larger) or -1."""

    key: Key
    value: Scalar
    beyond: int

    def holds(self, values: Mapping[Key, Scalar]) -> bool:
        value = values.get(self.key)
        if self.beyond and isinstance(value, int | float) and isinstance(self.value, int | float):
            return (value - self.value) * self.beyond >= 0
        return value == self.value


@dataclass(frozen=True, slots=True)
class CrashRegion:
    """Parts that crash together."""

    parts: tuple[Part, ...]

    def holds(self, values: Mapping[Key, Scalar]) -> bool:
        return all(part.holds(values) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Crash:
    """A training that crashed: its values, what it moved, and the parts that are more likely to blame."""

    values: Mapping[Key, Scalar]
    parts: tuple[Part, ...]
    likely: tuple[Part, ...]


def read_crash(
    experiment: Experiment,
    axes: Sequence[Axis],
    values: Mapping[Key, Scalar],
    changed: Mapping[Key, tuple[Scalar | None, Scalar]],
) -> Crash:
    """Return what an experiment that crashed had moved: from which value to which.

    A full memory, or a program that was too slow, is because of amounts that were raised; an exception is
    because of a size, a switch or a pattern rather than a rate.
    """
    parts, raised, discrete = [], [], []
    for axis in axes:
        if axis.key not in changed:
            continue
        before, after = changed[axis.key]
        part = Part(axis.key, after, _direction(before, after) if axis.ordered else 0)
        parts.append(part)
        if axis.is_amount and part.beyond > 0:
            raised.append(part)
        if not isinstance(after, float):
            discrete.append(part)
    likely = discrete if experiment.error and not _is_too_large(experiment) else raised or discrete
    return Crash(values, tuple(parts), tuple(likely))


def ran_out_of_memory(experiment: Experiment) -> bool:
    return tells_of_full_memory(experiment.error)


def _is_too_large(experiment: Experiment) -> bool:
    killed = experiment.ending in (Ending.DEADLINE, Ending.LIMIT) or experiment.exit_code in _KILLED
    return killed or ran_out_of_memory(experiment)


def _direction(before: Scalar | None, after: Scalar) -> int:
    if not isinstance(before, int | float) or not isinstance(after, int | float):
        return 0
    return (after > before) - (after < before)


def crash_regions(
    crashes: Sequence[Crash], trained: Sequence[Mapping[Key, Scalar]]
) -> tuple[CrashRegion, ...]:
    """Return what to leave alone, given the values of all trainings that ran to their end."""
    regions = (_region(crash, crashes, trained) for crash in crashes)
    return tuple(dict.fromkeys(region for region in regions if region is not None))


def _region(
    crash: Crash, crashes: Sequence[Crash], trained: Sequence[Mapping[Key, Scalar]]
) -> CrashRegion | None:
    ran = {part: {n for n, values in enumerate(trained) if part.holds(values)} for part in crash.parts}
    for parts in (crash.likely, crash.parts):
        for size in range(1, len(parts) + 1):
            if comb(len(parts), size) > _MOST_SETS:
                break
            sets = [each for each in combinations(parts, size) if not _common(ran[part] for part in each)]
            if sets:
                return _most_shared([CrashRegion(each) for each in sets], crashes)
    return None  # it ran another time


def _common(sets: Iterable[set[int]]) -> set[int]:
    first, *others = sets
    return first.intersection(*others)


def _most_shared(regions: Sequence[CrashRegion], crashes: Sequence[Crash]) -> CrashRegion:
    shares = [sum(region.holds(crash.values) for crash in crashes) for region in regions]
    top = [region for region, share in zip(regions, shares, strict=True) if share == max(shares)]
    return CrashRegion(tuple(dict.fromkeys(part for region in top for part in region.parts)))
