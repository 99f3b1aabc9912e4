"""What the experiments so far tell a search over the constants: places, changes and crashes by axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loop.experiment import Experiment, Status
from loop.proposers.space import Axis, Key, Scalar


@dataclass(frozen=True, slots=True)
class Result:
    """A training as TPE is told of it: its places on the ladders, and its value.

    A crash has no value and is held only against what it changed.
    """

    places: Mapping[Key, float]
    value: float | None


@dataclass(frozen=True, slots=True)
class Trials:
    """The experiments as the search reads them.

    `changes` are the axes that each, by its number, moved away from the best of its time: from which value to
    which. `crashed` are the values of an axis at which a training crashed that had changed nothing else.
    """

    results: tuple[Result, ...]
    changes: Mapping[int, Mapping[Key, tuple[Scalar | None, Scalar]]]
    crashed: Mapping[Key, tuple[Scalar, ...]]

    def changed_at(self) -> Mapping[Key, int]:
        """Return the number of the last experiment that moved each axis."""
        return {key: number for number, changed in self.changes.items() for key in changed}

    def is_closed(self, axis: Axis, value: Scalar) -> bool:
        """Tell whether a training crashed at this value or, of an amount, at a smaller increase.

        Larger amounts need more memory: beyond one that did not fit, none will.
        """
        failures = self.crashed.get(axis.key, ())
        if value in failures or not axis.is_amount:
            return value in failures
        places = [axis.place(step) for step in (axis.current, value, *failures)]
        here, there, *others = (math.inf if place is None else place for place in places)
        return any(here < other < there for other in others)


def read_trials(experiments: Sequence[Experiment], axes: Sequence[Axis]) -> Trials:
    """Return what the experiments tell about these axes; what they have no value for is left out."""
    results: list[Result] = []
    changes: dict[int, Mapping[Key, tuple[Scalar | None, Scalar]]] = {}
    crashed: dict[Key, tuple[Scalar, ...]] = {}
    best: Mapping[str, object] | None = None
    for experiment in sorted(experiments, key=lambda experiment: experiment.number):
        values = {axis.key: value for axis in axes if (value := axis.read(experiment.constants)) is not None}
        places = {axis.key: axis.place(values[axis.key]) for axis in axes if axis.key in values}
        known = {key: place for key, place in places.items() if place is not None}
        changed = {
            axis.key: (axis.read(best), values[axis.key])
            for axis in axes
            if best is not None and axis.key in values and values[axis.key] != axis.read(best)
        }
        changes[experiment.number] = changed
        if experiment.status is Status.CRASH:
            results.append(Result({key: place for key, place in known.items() if key in changed}, None))
            if len(changed) == 1:
                (key,) = changed
                crashed[key] = (*crashed.get(key, ()), values[key])
        elif experiment.value is not None and math.isfinite(experiment.value):
            results.append(Result(known, experiment.value))
        if experiment.status is Status.KEEP:
            best = experiment.constants
    return Trials(tuple(results), changes, crashed)
