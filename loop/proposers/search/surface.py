"""What the results say about every change of constants: a response surface, and how sure it is.

One result is partly chance, and a change of several constants does not say which of them it was. A
regression over all results does, the discarded ones too. The loss is a sum of one curve for each constant
over its ladder (Box and Wilson 1951), a slope and a curvature, for values without order a number each, and
of products of two constants, since a larger batch wants larger steps. It is Bayesian, so it also says how
sure that is. The scale of the curves is the one under which the results are most likely (MacKay 1992).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from loop.evaluation.noise import Noise
from loop.experiment import Goal
from loop.proposers.search.history import TrialResult
from loop.proposers.search.space import Axis, Key, Moves, Scalar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

# What is believed of a curve before any result, in multiples of a scale that the results tell: the present
# value is good and an end of the ladder is worse by one scale, as defaults are.
_SLOPE = 1.0  # spread; its mean is 0
_CURVATURE, _CURVATURE_SPREAD = 1.0, 0.5
_PRODUCT = 0.3  # spread of what two constants add together; its mean is 0
_USUAL = 0.002  # the scale before any result, as a share of the metric: what public logs have
_SCALES = (0.25, 0.5, 1.0, 2.0, 4.0, 10.0, 30.0, 100.0)  # candidates, in usual scales
_NOISES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # likewise, where the noise was not measured
_ERRORS = (0.6, 1.0, 1.6)  # of a measured noise: three trainings tell it no better
_QUIETEST = 1e-3  # of the usual scale: with none at all results would be certain
_FENCE = 1.5  # interquartile ranges above the upper quartile, beyond which worse does not count (Tukey 1977)
_CAUTION = 0.6  # of the spread of what is left possible: the whole of it explores more than a night can use
_TINY = 1e-300
_FEW = 8  # results that have no quartiles yet


class Columns:
    """Changes as rows of numbers, all 0 for the best program: a column a constant, or a value without order.

    1 is the farther end of a ladder.
    """

    def __init__(self, axes: Sequence[Axis]) -> None:
        self._columns: dict[tuple[Key, Scalar | None], int] = {}
        for axis in axes:
            others = [None] if axis.ordered else [value for value in axis.ladder if value != axis.current]
            for value in others:
                self._columns[axis.key, value] = len(self._columns)
        self._axes = {axis.key: axis for axis in axes}
        self._places: dict[tuple[Key, Scalar], float] = {}  # by value: most are looked for again and again

    def rows(self, changes: Sequence[Mapping[Key, Scalar]]) -> Array:
        import numpy as np

        rows = np.zeros((len(changes), len(self._columns)))
        for row, values in zip(rows, changes, strict=True):
            for key, value in values.items():
                axis = self._axes[key]
                if axis.ordered:
                    place = self._places.get((key, value))
                    if place is None:
                        place = self._places[key, value] = _place(axis, value)
                    row[self._columns[key, None]] = place
                elif (key, value) in self._columns:
                    row[self._columns[key, value]] = 1.0
        return rows


def _place(axis: Axis, value: Scalar) -> float:
    """Return how far a value is from the present one; off the ladder its steps go on as they end."""
    here, last = axis.ladder.index(axis.current), len(axis.ladder) - 1
    place = axis.place(value)
    if place is None:
        return 0.0
    if place in (0.0, last):
        end, before = (axis.ladder[i] for i in ((0, 1) if place == 0.0 else (-1, -2)))
        place += (-1 if place == 0.0 else 1) * _steps_beyond(_float(value), float(end), float(before), last)
    return (place - here) / max(here, last - here)


def _float(value: Scalar) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if isinstance(value, int) and value > 0 else -math.inf


def _steps_beyond(value: float, end: float, before: float, most: int) -> float:
    if abs(value) == math.inf:
        steps = math.inf
    elif end * before > 0 and value * end > 0:
        steps = math.log(value / end) / math.log(end / before)
    else:
        steps = (value - end) / (end - before)
    return min(max(steps, 0.0), float(most))


@dataclass(frozen=True)
class ResponseSurface:
    """Losses of changes of the best program, in units of the metric; smaller is better whichever the goal.

    `scale` is what a constant moves the metric by, `noise` the standard deviation of one result.
    """

    columns: Columns
    scale: float
    noise: float
    trained: Array  # a row a result
    turn: Array  # to where the results do not depend on each other
    variances: Array  # of the results, turned
    apart: Array  # by how much they are worse than was believed, turned

    def rows(self, changes: Sequence[Moves]) -> Array:
        return self.columns.rows([{axis.key: value for axis, value in moves} for moves in changes])

    def predict(self, rows: Array) -> tuple[Array, Array]:
        """Return the losses expected of changes, and their standard deviations."""
        import numpy as np

        both = _covariance(rows, self.trained, self.scale)
        seen = both @ self.turn / np.sqrt(self.variances)
        level = self._level / np.sqrt(self.variances)
        shared = (seen @ level) ** 2 / max(float(level @ level), _TINY)
        variance = _variance(rows, self.scale) - (seen**2).sum(axis=1) + shared
        loss = _mean(rows, self.scale) + both @ self._weights(self.apart)
        return loss, np.sqrt(np.maximum(variance, 0.0))

    def draw(self, seed: int) -> Callable[[Array], Array]:
        """Return the losses of changes on one of the surfaces that the results leave possible.

        It is a surface drawn before all results, corrected by what they would have been on it (Matheron).
        """
        import numpy as np

        chance = np.random.default_rng(seed)
        results, columns = self.trained.shape
        slopes = _SLOPE * chance.standard_normal(columns)
        curves = _CURVATURE_SPREAD * chance.standard_normal(columns)
        products = np.triu(_PRODUCT * chance.standard_normal((columns, columns)), 1)

        def drawn(rows: Array) -> Array:
            tied = ((rows @ products) * rows).sum(axis=1)
            losses: Array = self.scale * (rows @ slopes + rows**2 @ curves + tied)
            return losses

        noise = self.noise * chance.standard_normal(results)
        believed = self._weights(self.apart)
        imagined = self._weights(self.turn.T @ (drawn(self.trained) + noise))

        def loss(rows: Array) -> Array:
            both = _covariance(rows, self.trained, self.scale)
            return _mean(rows, self.scale) + both @ believed + _CAUTION * (drawn(rows) - both @ imagined)

        return loss

    @property
    def _level(self) -> Array:
        level: Array = self.turn.sum(axis=0)
        return level

    def _weights(self, apart: Array) -> Array:
        weights: Array = self.turn @ (_leveled(apart, self._level, self.variances) / self.variances)
        return weights


def _leveled(apart: Array, level: Array, variances: Array) -> Array:
    """Return `apart` without what all results have in common, which says nothing of changes."""
    square = max(float(level @ (level / variances)), _TINY)
    leveled: Array = apart - float(level @ (apart / variances)) / square * level
    return leveled


def _mean(rows: Array, scale: float) -> Array:
    losses: Array = scale * _CURVATURE * (rows**2).sum(axis=1)
    return losses


def _covariance(one: Array, other: Array, scale: float) -> Array:
    return _combine(one @ other.T, one**2 @ (other**2).T, scale)


def _variance(rows: Array, scale: float) -> Array:
    return _combine((rows**2).sum(axis=1), (rows**4).sum(axis=1), scale)


def _combine(slopes: Array, curves: Array, scale: float) -> Array:
    products = (slopes**2 - curves) / 2
    found: Array = scale**2 * (_SLOPE**2 * slopes + _CURVATURE_SPREAD**2 * curves + _PRODUCT**2 * products)
    return found


def fit_surface(
    axes: Sequence[Axis],
    results: Sequence[TrialResult],
    goal: Goal,
    noise: Noise | None,
    *,
    like: ResponseSurface | None = None,
) -> ResponseSurface:
    """Return the surface through these results; a crash counts as a bit worse than the worst.

    `noise` is as it was measured, None where it is unknown. One `like` another has its scale and noise.
    """
    import numpy as np

    columns = Columns(axes)
    losses = _losses(results, goal)
    usual = _USUAL * (abs(losses[0]) or 1.0) if len(losses) else 1.0
    trained = columns.rows([result.values for result in results])
    strengths, turn = np.linalg.eigh(_covariance(trained, trained, 1.0))
    level, measured, believed = turn.sum(axis=0), turn.T @ losses, turn.T @ _mean(trained, 1.0)
    noises = [usual * share for share in _NOISES]
    if noise is not None:
        noises = [max(noise.sigma, usual * _QUIETEST) * share for share in _ERRORS]
    scales = [usual * share for share in _SCALES]
    if like is not None:
        scales, noises = [like.scale], [like.noise]
    likeliest = -math.inf
    for scale, error in product(scales, noises):
        variances = scale**2 * np.maximum(strengths, 0.0) + error**2
        apart = measured - scale * believed
        leveled = _leveled(apart, level, variances)
        likelihood = -0.5 * float((leveled**2 / variances + np.log(variances)).sum())
        likelihood -= 0.5 * math.log(max(float(level @ (level / variances)), _TINY))
        likelihood -= 0.5 * math.log(scale / usual) ** 2
        if likelihood > likeliest:
            likeliest = likelihood
            surface = ResponseSurface(columns, scale, error, trained, turn, variances, apart)
    return surface


def _losses(results: Sequence[TrialResult], goal: Goal) -> Array:
    import numpy as np

    known = [goal.sign * result.value for result in results if result.value is not None]
    if not known:
        return np.zeros(len(results))
    worst = max(known)
    if len(known) > _FEW:
        low, high = np.quantile(known, (0.25, 0.75))
        worst = min(worst, float(high + _FENCE * (high - low)))
    crash = worst + _USUAL * abs(known[0])
    losses = [crash if result.value is None else min(goal.sign * result.value, worst) for result in results]
    return np.array(losses)
