"""What the experiments so far teach the search: what each changed, what crashes, and a response surface.

One result is mostly chance, and an experiment that changes four constants does not say which of them it was.
A regression over all results does, the discarded ones too, because each constant was changed in many of them.
The loss is taken as a sum of one curve a constant over its ladder (Box and Wilson 1951): a slope and a
curvature, and for values without order a number each. It is Bayesian (Bishop 2006, section 3.3), so it also
says how sure that is, and a draw from what it leaves possible explores where little is known (Thompson 1933).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

from loop.experiment import Experiment, Goal, Status
from loop.program.fingerprint import fingerprint
from loop.proposers.protocol import Context
from loop.proposers.search.crashes import Crash, CrashRegion, crash_regions, ran_out_of_memory, read_crash
from loop.proposers.search.memory import UNKNOWN, MemoryModel, Training, fit_memory
from loop.proposers.search.space import Axis, Change, Key, Program, Scalar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vector = npt.NDArray[np.float64]

_LATEST = 1000  # results that are looked at: older ones were of programs far from the best one

# What is believed of a curve before any result, in multiples of a scale that the results tell: the present
# value is good and far from it is worse, as defaults are, by about one scale at the end of the ladder.
_SLOPE = (0.0, 1.0)  # mean, standard deviation
_CURVATURE = (1.0, 0.5)
_OTHER = (0.5, 1.0)  # of each other value, where there is no order
_SCALES = (0.03, 0.06, 0.12, 0.25, 0.5, 1.0)  # candidates, in standard deviations of all results
_NOISES = (0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
_FENCE = 1.5  # interquartile ranges above the upper quartile, beyond which worse does not count (Tukey 1977)
_CAUTION = 0.6  # of the spread of what is left possible: the whole of it explores more than a night can use


@dataclass(frozen=True, slots=True)
class Result:
    """A training: its places on all ladders, and its value, None for a crash.

    An unknown constant counts as being where it is now.
    """

    places: Mapping[Key, float]
    value: float | None


@dataclass(frozen=True, slots=True)
class SearchHistory:
    """The experiments as the search reads them.

    `changes` are the axes that each, by number, moved from the best of its time: from which value to which.
    `present` are the values of the best program now. Without a `program`, nothing is known of its text.
    """

    results: tuple[Result, ...]
    changes: Mapping[int, Mapping[Key, tuple[Scalar | None, Scalar]]]
    crash_regions: tuple[CrashRegion, ...]
    present: Mapping[Key, Scalar]
    program: Program | None = None
    memory: MemoryModel = UNKNOWN

    def is_open(self, moves: Iterable[tuple[Axis, Scalar]]) -> bool:
        """Tell whether these moves can be trained, as far as is known, and each of them does something."""
        moves = tuple(moves)
        values = {**self.present, **{axis.key: value for axis, value in moves}}
        if any(region.holds(values) for region in self.crash_regions):
            return False
        if self.program is None:
            return True
        after = self.program.after(moves)
        unlimited = self.memory.limit == math.inf
        return after is not None and (unlimited or self.memory.fits(self.program.size(after)))


def read_history(
    experiments: Sequence[Experiment],
    axes: Sequence[Axis],
    program: Program | None = None,
    device_mb: float | None = None,
) -> SearchHistory:
    """Return what the experiments tell about these axes of a program, on a device with so many MiB.

    The gain of a kept change of code, which moved no axis, is taken off all results that follow.
    """
    present = {axis.key: axis.current for axis in axes}
    results: list[Result] = []
    changes: dict[int, Mapping[Key, tuple[Scalar | None, Scalar]]] = {}
    crashes: list[Crash] = []
    trained = [present]
    best: Experiment | None = None
    level = 0.0
    for experiment in sorted(experiments, key=lambda experiment: experiment.number):
        values = {axis.key: value for axis in axes if (value := axis.read(experiment.constants)) is not None}
        changed = {
            axis.key: (before, values[axis.key])
            for axis in axes
            if best and axis.key in values and (before := axis.read(best.constants)) is not None
            # Else it is new: no move, but other code, or a constant that older releases did not see.
            if values[axis.key] != before
        }
        changes[experiment.number] = changed
        if experiment.value is not None:
            trained.append(values)
        value = experiment.value if experiment.is_believed else None
        if experiment.status is Status.CRASH:
            if changed:
                results.append(Result(_places(axes, values), None))
                crashes.append(read_crash(experiment, axes, values, changed))
        elif value is not None and math.isfinite(value):
            if experiment.status is Status.KEEP and best and best.value is not None and not changed:
                level += value - best.value
            if changed or experiment.status is Status.KEEP:
                results.append(Result(_places(axes, values), value - level))
        if experiment.status is Status.KEEP:
            best = experiment
    regions = crash_regions(crashes, trained)
    memory = _read_memory(experiments, best, program, device_mb) if program else UNKNOWN
    return SearchHistory(tuple(results[-_LATEST:]), changes, regions, present, program, memory)


def _read_memory(
    experiments: Sequence[Experiment], best: Experiment | None, program: Program, device_mb: float | None
) -> MemoryModel:
    def training(experiment: Experiment) -> Training:
        full = ran_out_of_memory(experiment)
        return Training(
            program.size_then(experiment.constants), None if full else 1024 * experiment.memory_gb
        )

    told = [training(each) for each in experiments if each.memory_gb > 0 or ran_out_of_memory(each)]
    return fit_memory(told, training(best) if best and best.memory_gb > 0 else None, device_mb)


def _places(axes: Sequence[Axis], values: Mapping[Key, Scalar]) -> dict[Key, float]:
    places = {}
    for axis in axes:
        place = axis.place(values[axis.key]) if axis.key in values else None
        places[axis.key] = float(axis.ladder.index(axis.current)) if place is None else place
    return places


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


# The surface


@dataclass(frozen=True)
class ResponseSurface:
    """The curves: `mean` and `root`, a square root of the covariance, of all coefficients.

    A loss is in the units of the metric, relative to the best program, and smaller is better whichever the
    goal.
    """

    axes: tuple[Axis, ...]
    mean: Vector
    root: Vector

    @cached_property
    def _starts(self) -> Mapping[Key, int]:
        starts, start = {}, 0
        for axis in self.axes:
            starts[axis.key] = start
            start += len(_beliefs(axis))
        return starts

    def draw(self, seed: int) -> ResponseSurface:
        """Return one of the surfaces that the results leave possible, without doubt about it."""
        import numpy as np

        normal = np.random.default_rng(seed).standard_normal(len(self.mean))
        return ResponseSurface(self.axes, self.mean + _CAUTION * self.root @ normal, np.zeros_like(self.root))

    def loss(self, axis: Axis, value: Scalar) -> float:
        curve = _curve(axis, axis.place(value))
        start = self._starts[axis.key]
        return float(sum(w * c for w, c in zip(self.mean[start : start + len(curve)], curve, strict=True)))

    def doubt(self, moves: Sequence[tuple[Axis, Scalar]]) -> float:
        import numpy as np

        row = np.zeros_like(self.mean)
        for axis, value in moves:
            curve = _curve(axis, axis.place(value))
            start = self._starts[axis.key]
            row[start : start + len(curve)] = curve
        return float(np.linalg.norm(row @ self.root))


def fit_surface(axes: Sequence[Axis], results: Sequence[Result], goal: Goal) -> ResponseSurface:
    """Return the surface through these results; a crash counts as the worst.

    The scale of the curves and the noise are those under which the results are most likely (MacKay 1992).
    """
    import numpy as np

    beliefs = np.array([belief for axis in axes for belief in _beliefs(axis)])
    mean, spread = beliefs[:, 0], beliefs[:, 1]
    losses = _losses(results, goal)
    total = float(np.std(losses)) if losses else 0.0
    if not total > 0:
        return ResponseSurface(tuple(axes), mean, np.diag(spread))
    curves: dict[tuple[Key, float], list[float]] = {}
    for result in results:
        for axis in axes:
            pair = axis.key, result.places[axis.key]
            if pair not in curves:
                curves[pair] = _curve(axis, pair[1])
    rows = np.array([[c for pair in result.places.items() for c in curves[pair]] for result in results])
    # The level is not asked for: only differences tell.
    rows = rows - rows.mean(axis=0)
    values = np.array(losses) - np.mean(losses)
    gram, seen = rows.T @ rows, rows.T @ values
    likeliest = -math.inf
    for scale, noise in product(_SCALES, _NOISES):
        prior, variance = total * scale * spread, (total * noise) ** 2
        believed = total * scale * mean
        root = np.linalg.cholesky(gram / variance + np.diag(prior**-2.0))
        pull = (seen - gram @ believed) / variance
        half = np.linalg.solve(root, pull)
        apart = values - rows @ believed
        likelihood = 0.5 * float(half @ half - apart @ apart / variance)
        likelihood -= float(np.log(np.diag(root)).sum() + np.log(prior).sum())
        likelihood -= 0.5 * (len(values) - 1) * math.log(variance)
        if likelihood > likeliest:
            likeliest = likelihood
            inverse = np.linalg.inv(root).T
            surface = ResponseSurface(tuple(axes), believed + inverse @ half, inverse)
    return surface


def _losses(results: Sequence[Result], goal: Goal) -> list[float]:
    import numpy as np

    sign = 1 if goal is Goal.MINIMIZE else -1
    known = [sign * result.value for result in results if result.value is not None]
    if not known:
        return []
    low, high = np.quantile(known, (0.25, 0.75))
    worst = min(max(known), float(high + _FENCE * (high - low)))
    return [worst if result.value is None else min(sign * result.value, worst) for result in results]


def _beliefs(axis: Axis) -> list[tuple[float, float]]:
    if axis.ordered:
        return [_SLOPE, _CURVATURE]
    return [_OTHER] * (len(axis.ladder) - 1)


def _curve(axis: Axis, place: float | None) -> list[float]:
    """Return what multiplies the coefficients of an axis at a place; at the present value all are 0."""
    here = axis.ladder.index(axis.current)
    if axis.ordered:
        distance = 0.0 if place is None else 2 * (place - here) / (len(axis.ladder) - 1)
        return [distance, distance**2]
    return [float(step == place) for step in range(len(axis.ladder)) if step != here]
