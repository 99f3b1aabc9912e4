"""What the experiments so far teach the search: what each changed, what it came to, and what crashes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from loop.experiment import Experiment, Status
from loop.program.fingerprint import fingerprint
from loop.proposers.protocol import Context
from loop.proposers.search.space import Axis, Change, Key, Scalar

_LATEST = 300  # results that are looked at: older ones were of programs far from the best one


@dataclass(frozen=True, slots=True)
class Result:
    """A training: the values of the axes that it had, and its number, None for a crash."""

    values: Mapping[Key, Scalar]
    value: float | None


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


@dataclass(frozen=True, slots=True)
class SearchHistory:
    """The experiments as the search reads them.

    `changes` are the axes that each, by number, moved from the best of its time: from which value to which.
    `present` are the values of the best program now.
    """

    results: tuple[Result, ...]
    changes: Mapping[int, Mapping[Key, tuple[Scalar | None, Scalar]]]
    crash_regions: tuple[CrashRegion, ...]
    present: Mapping[Key, Scalar]

    def is_open(self, moves: Iterable[tuple[Axis, Scalar]]) -> bool:
        values = {**self.present, **{axis.key: value for axis, value in moves}}
        return not any(wall.holds(values) for wall in self.crash_regions)


def read_history(experiments: Sequence[Experiment], axes: Sequence[Axis]) -> SearchHistory:
    """Return what the experiments tell about these axes.

    The gain of a kept change of code, which moved no axis, is taken off all results that follow.
    """
    present = {axis.key: axis.current for axis in axes}
    results: list[Result] = []
    changes: dict[int, Mapping[Key, tuple[Scalar | None, Scalar]]] = {}
    crash_regions: list[CrashRegion] = []
    best: Experiment | None = None
    level = 0.0
    for experiment in sorted(experiments, key=lambda experiment: experiment.number):
        values = {axis.key: value for axis in axes if (value := axis.read(experiment.constants)) is not None}
        changed = {
            axis.key: (axis.read(best.constants), values[axis.key])
            for axis in axes
            if best and axis.key in values and values[axis.key] != axis.read(best.constants)
        }
        changes[experiment.number] = changed
        value = experiment.value if experiment.is_believed else None
        if experiment.status is Status.CRASH:
            if changed:
                results.append(Result(values, None))
                crash_regions.append(_wall(axes, changed))
        elif value is not None and math.isfinite(value):
            if experiment.status is Status.KEEP and best and best.value is not None and not changed:
                level += value - best.value
            if changed or experiment.status is Status.KEEP:
                results.append(Result(values, value - level))
        if experiment.status is Status.KEEP:
            best = experiment
    # The best program is proof that a wall through it does not stand.
    standing = tuple(wall for wall in crash_regions if not wall.holds(present))
    return SearchHistory(tuple(results[-_LATEST:]), changes, standing, present)


def _wall(axes: Sequence[Axis], changed: Mapping[Key, tuple[Scalar | None, Scalar]]) -> CrashRegion:
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


class TrainedPrograms:
    """What was trained in this run, and what was rejected just now.

    Programs are compared only where all constants are the same, because that is slow.
    """

    def __init__(self, context: Context) -> None:
        self._refused = {refusal.description for refusal in context.rejections}
        self._programs: dict[str, set[str]] = {}
        for experiment in context.experiments:
            self._programs.setdefault(_written(experiment.constants), set()).add(experiment.program)

    def has(self, change: Change) -> bool:
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
