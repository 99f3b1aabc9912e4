"""How much of a night's gain is certain: head and baseline trained anew, alternately, and the interval."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, stdev

from loop.evaluation.noise import BEYOND, Noise, in_sigmas
from loop.evidence import Certified
from loop.experiment import Goal

MOST_PAIRS = 6  # beyond these the interval hardly narrows: the time is better spent on leaving keeps out
# The 97.5 % quantile of Student's t for 1, 2, 3, … degrees of freedom.
_STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145),
    *(2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048),
)


def student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t with so many degrees of freedom, at least one."""
    return _STUDENT[min(freedom, len(_STUDENT)) - 1]


def certified(baseline: Sequence[float], head: Sequence[float], goal: Goal) -> Certified | None:
    """Return the gain of the head, by new trainings of both; None with fewer than two pairs.

    The first number of each are a pair, and so on. Of the programs' older numbers none may be among them: the
    head was chosen because its number was good.

    The interval is Student's of the paired differences. In simulated nights with the tails of real trainings
    it covers the true gain in 94 to 99 of 100, also where one program has many times the noise of the other,
    as one that was chosen for a lucky number may have (tests/benchmarks/LOG.md). There the noise of both
    programs and of the run together covers 88, and a bootstrap of so few never more than 86. Welch's is as
    wide, and does not see that drift and seed are a pair's own.
    """
    pairs = zip(baseline, head, strict=False)
    gains = [goal.sign * (before - after) for before, after in pairs]
    if len(gains) < 2:
        return None
    return _interval(fmean(gains), stdev(gains) / math.sqrt(len(gains)), len(gains) - 1, len(gains))


def own_gain(
    without: Sequence[float], head: Sequence[float], goal: Goal, noise: Noise | None
) -> Certified | None:
    """Return what a keep brings: how much better the head is than without it.

    None with fewer than two trainings of either. The programs differ by one change, so their noise is taken
    as equal, and that of the run counts as one repeat more: two trainings without the keep already say
    something.
    """
    repeats = min(len(without), len(head))
    if repeats < 2:
        return None
    squares, freedom = _squares(without) + _squares(head), len(without) + len(head) - 2
    if noise is not None:
        squares, freedom = squares + noise.sigma**2, freedom + 1
    gain = goal.sign * (fmean(without) - fmean(head))
    error = math.sqrt(squares / freedom * (1 / len(without) + 1 / len(head)))
    return _interval(gain, error, freedom, repeats)


def mean_of(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of two or more trainings of one program, and Student's 95 % interval of it."""
    middle, error = fmean(values), stdev(values) / math.sqrt(len(values))
    half = student(len(values) - 1) * error
    return middle, middle - half, middle + half


def _squares(values: Sequence[float]) -> float:
    middle = fmean(values)
    return math.fsum((value - middle) ** 2 for value in values)


def _interval(gain: float, error: float, freedom: int, repeats: int) -> Certified:
    half = student(freedom) * error
    return Certified(gain, gain - half, gain + half, repeats)


class Side(StrEnum):
    """Which program of a certification is trained."""

    HEAD = "head"
    BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class Turn:
    """A training of a certification. Both turns of a `pair`, counted from 0, get the same seed."""

    side: Side
    pair: int


def turns(pairs: int, lanes: int, *, seed: int) -> tuple[Turn, ...]:
    """Return which program trains next, and next, …, each `pairs` times.

    Each lane takes turns, because devices differ, and so do neighbouring lanes, which train at the same time.
    Chance decides who begins; after both had their turn it is reversed, so that a steady drift hits both
    equally. So never more than two trainings of one program follow each other on a lane.
    """
    chance = random.Random(seed)  # noqa: S311
    made: list[Side] = []
    first = False
    for place in range(2 * pairs):
        turn, lane = divmod(place, lanes)
        if lane == 0 and turn % 2 == 0:
            first = chance.random() < 0.5 if turn % 4 == 0 else not first
        made.append(Side.HEAD if first ^ (turn % 2 == 1) ^ (lane % 2 == 1) else Side.BASELINE)
    return tuple(Turn(side, made[:place].count(side)) for place, side in enumerate(made))


def seconds_for(trainings: int, seconds: float, lanes: int) -> float:
    return math.ceil(trainings / lanes) * seconds


def trainings_that_fit(left: float, seconds: float, lanes: int) -> int:
    return max(0, math.floor(left / seconds)) * lanes


def pairs_that_fit(left: float, seconds: float, lanes: int, *, least: int) -> int:
    """Return how often head and baseline are to be trained: `least`, or more where the time allows."""
    return max(least, min(MOST_PAIRS, trainings_that_fit(left, seconds, lanes) // 2))


def begins_at(wake_up: float, minutes: float, seconds: float, lanes: int, *, least: int) -> float:
    """Return from when on no experiment is begun, so that `least` pairs are trained by `wake_up`.

    `minutes` are CERTIFY_MINUTES; it begins earlier where they are too few. What trains at that moment still
    ends in time.
    """
    return wake_up - max(60 * minutes, seconds_for(2 * least, seconds, lanes)) - seconds


def fits_night(night: float, minutes: float, seconds: float, lanes: int, *, least: int) -> bool:
    """Tell whether a certification is worth its time: at most a quarter of the night, in seconds."""
    return seconds_for(2 * least, seconds, lanes) <= max(60 * minutes, night / 4)


@dataclass(frozen=True, slots=True)
class Kept:
    """A keep: its recorded gain, and its own gain where it was left out of the head and that trained.

    `gain` is the difference of two single trainings, chosen because it was large: rather too good.
    """

    number: int
    gain: float
    own: Certified | None = None


def survivors(keeps: Iterable[Kept], noise: Noise | None) -> tuple[int, ...] | None:
    """Return the keeps whose own gain is more than chance; None where nothing is known of any.

    Where a keep was left out and its loss measured, the interval decides: it must be above zero. Else its
    recorded gain must be beyond the noise.
    """
    kept = list(keeps)
    if noise is None and not any(keep.own for keep in kept):
        return None
    return tuple(keep.number for keep in kept if _survives(keep, noise))


def _survives(keep: Kept, noise: Noise | None) -> bool:
    if keep.own is not None:
        return keep.own.low > 0
    return noise is not None and in_sigmas(keep.gain, noise) >= BEYOND
