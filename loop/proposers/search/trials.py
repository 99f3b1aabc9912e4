"""What the experiments so far tell a search over the constants: results, changes and crashes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from loop.experiment import Experiment, Status
from loop.proposers.search.space import Axis, Key, Scalar

_LATEST = 1000  # results that are looked at: older ones were of programs far from the best one


@dataclass(frozen=True, slots=True)
class Result:
    """A training as the search learns from it: its places on all ladders, and its value, None for a crash.

    A constant that is not known, or that the program did not have yet, counts as being where it is now.
    """

    places: Mapping[Key, float]
    value: float | None


@dataclass(frozen=True, slots=True)
class Wall:
    """Where a training crashed: what it had changed.

    Where it had raised `amounts`, they are to blame, because larger ones need more memory: beyond those that
    did not fit, none will.
    """

    changed: Mapping[Key, Scalar]
    amounts: Mapping[Key, float]

    def holds(self, values: Mapping[Key, Scalar]) -> bool:
        """Tell whether a program with these values has to crash as well."""
        if self.amounts:
            return all(_number(values.get(key)) >= least for key, least in self.amounts.items())
        return all(values.get(key) == value for key, value in self.changed.items())


@dataclass(frozen=True, slots=True)
class Trials:
    """The experiments as the search reads them.

    `changes` are the axes that each, by its number, moved away from the best of its time: from which value to
    which. `present` are the values of the best program now.
    """

    results: tuple[Result, ...]
    changes: Mapping[int, Mapping[Key, tuple[Scalar | None, Scalar]]]
    walls: tuple[Wall, ...]
    present: Mapping[Key, Scalar]

    def is_open(self, moves: Iterable[tuple[Axis, Scalar]]) -> bool:
        """Tell whether no crash says that the best program with these moves crashes too."""
        values = {**self.present, **{axis.key: value for axis, value in moves}}
        return not any(wall.holds(values) for wall in self.walls)


def read_trials(experiments: Sequence[Experiment], axes: Sequence[Axis]) -> Trials:
    """Return what the experiments tell about these axes.

    What a kept change gained that moved no axis, a change of the code, is taken off all results that follow:
    it says nothing about constants.
    """
    present = {axis.key: axis.current for axis in axes}
    results: list[Result] = []
    changes: dict[int, Mapping[Key, tuple[Scalar | None, Scalar]]] = {}
    walls: list[Wall] = []
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
        value = experiment.value
        if experiment.status is Status.CRASH:
            if changed:
                results.append(Result(_places(axes, values), None))
                walls.append(_wall(axes, changed))
        elif value is not None and math.isfinite(value):
            if experiment.status is Status.KEEP and best and best.value is not None and not changed:
                level += value - best.value
            if changed or experiment.status is Status.KEEP:
                results.append(Result(_places(axes, values), value - level))
        if experiment.status is Status.KEEP:
            best = experiment
    # The best program is proof that a wall through it does not stand.
    standing = tuple(wall for wall in walls if not wall.holds(present))
    return Trials(tuple(results[-_LATEST:]), changes, standing, present)


def _places(axes: Sequence[Axis], values: Mapping[Key, Scalar]) -> dict[Key, float]:
    places = {}
    for axis in axes:
        place = axis.place(values[axis.key]) if axis.key in values else None
        places[axis.key] = float(axis.ladder.index(axis.current)) if place is None else place
    return places


def _wall(axes: Sequence[Axis], changed: Mapping[Key, tuple[Scalar | None, Scalar]]) -> Wall:
    amounts = {
        axis.key: _number(after)
        for axis in axes
        if axis.is_amount and axis.key in changed
        for before, after in (changed[axis.key],)
        if _number(after) > _number(before)
    }
    return Wall({key: after for key, (_, after) in changed.items()}, amounts)


def _number(value: Scalar | None) -> float:
    """Return a value as a number that compares with none where it is none."""
    return value if isinstance(value, int | float) else math.nan
