"""How much the number of a training differs when the same program is trained again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from loop.experiment import Run
from loop.store.evidence.repeats import Repeats
from loop.store.journal import Journal

_FEWEST = 2  # repeats; the estimate of one alone is five times too small in every tenth run
_MEDIAN = 0.9539  # of the difference of two trainings, in their standard deviations: 0.6745 * sqrt(2)

BEYOND = 2.0
"""In sigmas: a smaller gain is within the noise.

Two trainings of one program differ by more in 5 of 100 cases where the noise is normal and sigma is known.
After two repeats it is 10 of 100, and 20 with the heavy tails of real trainings (tests/benchmarks/LOG.md).
"""


@dataclass(frozen=True, slots=True)
class Noise:
    """The standard deviation `sigma` of one training's number, estimated from so many repeats.

    A program that was trained n times has n - 1 repeats. It is the noise of most trainings: with heavy tails
    a few are off by many sigmas. It is 0 for trainings that come out the same to the last digit.
    """

    sigma: float
    repeats: int


def noise_of(groups: Iterable[Sequence[float]]) -> Noise | None:
    """Estimate the noise from the numbers of programs that were trained several times; None if too few were.

    It is the median difference of two trainings of one program. Each program counts by its repeats, so that
    one with many pairs does not outvote the others. A mean, or the usual standard deviation, would be that of
    the few large differences: they reach ten times the median. Of three trainings the median is the larger
    gap, which makes the first estimate 20 % too large, the safe side.
    """
    differences: list[tuple[float, float]] = []
    repeats = 0
    for group in groups:
        values = [value for value in group if math.isfinite(value)]
        repeats += max(0, len(values) - 1)
        differences += [(abs(one - other), 2 / len(values)) for one, other in combinations(values, 2)]
    if repeats < _FEWEST:
        return None
    return Noise(_weighted_median(differences) / _MEDIAN, repeats)


def read_noise(journal: Journal, run: Run) -> Noise | None:
    values = Repeats(journal).values(run.id, run.metric)
    believed = [each.number for each in journal.experiments_at(run.id, values) if each.is_believed]
    return noise_of(values[number] for number in believed)


def in_sigmas(gain: float, noise: Noise) -> float:
    """Return how large a gain is, measured once before and once after, in what chance makes of the two.

    That is sigma * sqrt(2), the standard deviation of the difference of two trainings. Infinite where there
    is no noise at all.
    """
    if not noise.sigma:
        return math.copysign(math.inf, gain) if gain else 0.0
    return gain / (noise.sigma * math.sqrt(2))


def _weighted_median(weighted: list[tuple[float, float]]) -> float:
    half = math.fsum(weight for _, weight in weighted) / 2
    below = 0.0
    ordered = sorted(weighted)
    for place, (value, weight) in enumerate(ordered):
        below += weight
        if math.isclose(below, half) and place + 1 < len(ordered):
            return (value + ordered[place + 1][0]) / 2
        if below >= half:
            return value
    return ordered[-1][0]
