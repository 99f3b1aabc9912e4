"""How much trainings of one program differ: the noise of their numbers, and the drift of their speed.

Is the machine slower than it was? Then a training saw less data, and its number is worse for that. Trainings
are compared that have as many parameters and as large a batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby, takewhile
from statistics import median

from loop.experiment import Run
from loop.store.evidence.repeats import Repeats, measured_before
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


SLOW = 0.03  # of the median speed
_SPREADS = 3.0  # standard deviations of speeds that are chance
_MEDIAN_OF = 5  # trainings, at least
_RECENT = 20  # that it is of at most: after a while a slower machine is what is usual
_ALIKE = 0.05  # difference of batches: the tokens of a summary are rounded
_READ = 200


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training of experiment `number` printed."""

    number: int
    numbers: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Drift:
    """That a training was slower than usual, by a `share` of the usual speed.

    `streak` is how many experiments just before it were slow too: their programs differ, so the machine is.
    `again` says whether its experiment was not trained again for this yet.
    """

    share: float
    streak: int
    again: bool

    def __str__(self) -> str:
        return f"{100 * self.share:.0f} % fewer steps per second than usual in this run"


def speed(numbers: Mapping[str, float]) -> float | None:
    steps, seconds = numbers.get("num_steps"), numbers.get("training_seconds")
    return steps / seconds if steps and seconds and steps > 0 and seconds > 0 else None


def drift_of(trained: Trained, before: Sequence[Trained]) -> Drift | None:
    """Return how a training was slower than those `before` it, the newest first; None where it was not.

    It is not slower by what speeds usually differ, nor by a step more or less. Where FLOPs end a training
    its speed says nothing of its number.
    """
    if trained.numbers.get("training_tflops"):
        return None
    own = speed(trained.numbers)
    alike = [
        (other.number, pace)
        for other in before
        if other.number != trained.number
        and _is_alike(other.numbers, trained.numbers)
        and (pace := speed(other.numbers)) is not None
    ][:_RECENT]
    if own is None or len(alike) < _MEDIAN_OF:
        return None
    usual = median(pace for _, pace in alike)
    spread = 1.4826 * median(abs(pace - usual) for _, pace in alike) / usual
    chance = max(SLOW, _SPREADS * spread, 1 / trained.numbers["num_steps"])

    def is_slow(pace: float) -> bool:
        return 1 - pace / usual > chance

    if not is_slow(own):
        return None
    last = ([pace for _, pace in paces] for _, paces in groupby(alike, key=lambda each: each[0]))
    streak = sum(1 for _ in takewhile(lambda paces: is_slow(paces[0]), last))
    return Drift(1 - own / usual, streak, all(other.number != trained.number for other in before))


def read_drift(
    journal: Journal, run_id: int, number: int, k: int, numbers: Mapping[str, float]
) -> Drift | None:
    """Return the drift of training `k` of an experiment, by what the run has trained before."""
    trained = measured_before(journal, run_id, number, k, most=_READ)
    return drift_of(Trained(number, numbers), [Trained(*each) for each in trained])


def _is_alike(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    if one.get("num_params_M") is None or one.get("num_params_M") != other.get("num_params_M"):
        return False
    batch, other_batch = _tokens_per_step(one), _tokens_per_step(other)
    return (batch is None) is (other_batch is None) and abs((batch or 1) / (other_batch or 1) - 1) < _ALIKE


def _tokens_per_step(numbers: Mapping[str, float]) -> float | None:
    tokens, steps = numbers.get("total_tokens_M"), numbers.get("num_steps")
    return tokens / steps if tokens and steps else None
