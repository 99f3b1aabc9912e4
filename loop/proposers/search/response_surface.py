"""What all results together say of every constant: a response surface (Box and Wilson 1951).

One result is mostly chance, and an experiment that changes four constants does not say which of them it was.
A regression over all results does, the discarded ones too, because each constant was changed in many of them.
The loss is taken as a sum of one curve a constant over its ladder: a slope and a curvature, and for values
without order a number each. It is Bayesian (Bishop 2006, section 3.3), so it also says how sure that is, and
a draw from what it leaves possible explores where little is known (Thompson 1933).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

from loop.experiment import Goal
from loop.proposers.search.changes import Result
from loop.proposers.search.space import Axis, Key, Scalar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vector = npt.NDArray[np.float64]

# What is believed of a curve before any result, in multiples of a scale that the results tell: the present
# value is good and far from it is worse, as defaults are, by about one scale at the end of the ladder.
_SLOPE = (0.0, 1.0)  # mean, standard deviation
_CURVATURE = (1.0, 0.5)
_OTHER = (0.5, 1.0)  # of each other value, where there is no order
_SCALES = (0.03, 0.06, 0.12, 0.25, 0.5, 1.0)  # candidates, in standard deviations of all results
_NOISES = (0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
_FENCE = 1.5  # interquartile ranges above the upper quartile, beyond which worse does not count (Tukey 1977)
_CAUTION = 0.6  # of the spread of what is left possible: the whole of it explores more than a night can use


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
        """Return the standard deviation of what these moves cost together."""
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
