"""Which constants mattered: what moving each of them did to the metric, by all experiments of a run.

An experiment may move several constants, so the effects are those of a regression over all of them: each
constant has one number for being raised and one for being lowered, against the best of its time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from loop.evaluation.certification import student
from loop.evaluation.noise import Noise
from loop.experiment import Experiment, Goal, Status
from loop.store.experiments import Tried

_MOST = 60  # moves that are told apart, the most tried first
_FREEDOM = 3  # degrees of it, with fewer the spread says nothing
_RIDGE = 1e-3  # moves that were only made together share their effect, with a wide interval
_FENCE = 10  # interquartile ranges beyond the quartile, where what is worse counts as diverged
_FEW = 8  # results that have no quartiles yet


class Way(StrEnum):
    RAISED = "raised"
    LOWERED = "lowered"
    CHANGED = "changed"  # of what has no order


@dataclass(frozen=True, slots=True)
class Try:
    """One experiment that moved a constant: to which value, and by how much the metric changed."""

    value: float
    change: float
    kept: bool


@dataclass(frozen=True, slots=True)
class Move:
    """What moving constant `name` one way did to the metric: its change, with the 95 % interval if known.

    `tries` are in the order of the experiments; without numbers where the values are none.
    """

    name: str
    way: Way
    tried: int
    effect: float
    half: float | None
    tries: tuple[Try, ...]

    @property
    def is_certain(self) -> bool:
        return self.half is not None and abs(self.effect) > self.half


def moves_of(experiments: Sequence[Experiment | Tried], goal: Goal, noise: Noise | None = None) -> list[Move]:
    """Return the moves of a run, those with a certain effect first, of these the largest."""
    made = [(each, flat(each.constants)) for each in sorted(experiments, key=lambda each: each.number)]
    programs = {each.commit: constants for each, constants in made}
    found: list[tuple[dict[tuple[str, Way], object], float, bool]] = []
    head: Mapping[str, object] = {}
    for each, constants in made:
        before = programs.get(each.parent, head)
        if each.is_believed and each.value is not None and each.best_before is not None:
            moved = _moved(before, constants)
            if moved and math.isfinite(each.value):
                found.append((moved, each.value - each.best_before, each.status is Status.KEEP))
        if each.status is Status.KEEP:
            head = constants
    worst = _usual([change for _, change, _ in found], goal)
    found = [each for each in found if goal.sign * each[1] <= worst]
    tries: dict[tuple[str, Way], list[Try]] = {}
    for moved, change, kept in found:
        for key, value in moved.items():
            tries.setdefault(key, []).append(Try(_number(value), change, kept))
    names = sorted(tries, key=lambda key: -len(tries[key]))[:_MOST]
    places = {name: place for place, name in enumerate(names)}
    effects = _regression(
        [[places[key] for key in moved if key in places] for moved, _, _ in found],
        [change for _, change, _ in found],
        len(names),
        noise,
    )
    moves = [
        Move(name, way, len(tries[name, way]), effect, half, tuple(tries[name, way]))
        for (name, way), (effect, half) in zip(names, effects, strict=True)
    ]
    return sorted(moves, key=lambda move: (not move.is_certain, -abs(move.effect)))


def flat(constants: Mapping[str, object]) -> dict[str, object]:
    """Return constants by name, an element of a tuple as in `ADAM_BETAS[1]`."""
    values: dict[str, object] = {}
    for name, value in constants.items():
        if isinstance(value, list | tuple):
            values |= {f"{name}[{index}]": element for index, element in enumerate(value)}
        else:
            values[name] = value
    return values


def _moved(old: Mapping[str, object], new: Mapping[str, object]) -> dict[tuple[str, Way], object]:
    changed = {name: value for name, value in new.items() if name in old and old[name] != value}
    return {(name, _way(old[name], value)): value for name, value in changed.items()}


def _way(before: object, after: object) -> Way:
    first, last = _number(before), _number(after)
    if math.isnan(first) or math.isnan(last):
        return Way.CHANGED
    return Way.RAISED if last > first else Way.LOWERED


def _number(value: object) -> float:
    """Return a value as a number, not one where it is none, or has no order."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e100:
        return math.nan
    return float(value)


def _usual(changes: Sequence[float], goal: Goal) -> float:
    """Return how bad a change may be to be told: what diverged says nothing about usual effects."""
    worse = sorted(goal.sign * change for change in changes)
    quarter, three = (worse[share * len(worse) // 4] for share in (1, 3)) if worse else (0.0, 0.0)
    return math.inf if len(worse) < _FEW or quarter == three else three + _FENCE * (three - quarter)


def _regression(
    rows: list[list[int]], values: list[float], width: int, noise: Noise | None
) -> list[tuple[float, float | None]]:
    """Return the coefficients of a linear regression, and half of the 95 % interval of each, if known.

    A row has the places of those that are 1 in it; all others are 0.
    """
    products = [[_RIDGE * (i == j) for j in range(width)] for i in range(width)]
    sums = [0.0] * width
    for row, value in zip(rows, values, strict=True):
        for i in row:
            sums[i] += value
            for j in row:
                products[i][j] += 1.0
    inverse = _inverse(products)
    found = [math.fsum(map(math.prod, zip(line, sums, strict=True))) for line in inverse]
    left = [value - sum(found[i] for i in row) for row, value in zip(rows, values, strict=True)]
    used = math.fsum(1 - _RIDGE * inverse[i][i] for i in range(width))
    freedom = round(len(rows) - used)
    if freedom >= _FREEDOM:
        sigma = max(math.sqrt(math.fsum(error**2 for error in left) / freedom), noise.sigma if noise else 0.0)
        half = student(freedom) * sigma
    elif noise:
        half = student(noise.repeats) * math.sqrt(2) * noise.sigma  # of the result and of the best before it
    else:
        return [(effect, None) for effect in found]
    return [(effect, half * math.sqrt(inverse[i][i])) for i, effect in enumerate(found)]


def _inverse(matrix: list[list[float]]) -> list[list[float]]:
    """Return the inverse of a symmetric positive definite matrix (Gauss and Jordan)."""
    size = len(matrix)
    rows = [[*line, *(float(i == j) for j in range(size))] for i, line in enumerate(matrix)]
    for i in range(size):
        pivot = rows[i][i]
        rows[i] = [value / pivot for value in rows[i]]
        for j in range(size):
            if j != i and (factor := rows[j][i]):
                rows[j] = [value - factor * base for value, base in zip(rows[j], rows[i], strict=True)]
    return [line[size:] for line in rows]
