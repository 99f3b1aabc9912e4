"""Is the machine slower than it was? Then a training saw less data, and its number is worse for that.

Trainings are compared that have as many parameters and as large a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from statistics import median

from loop.store.evidence.repeats import measured_before
from loop.store.journal import Journal

SLOW = 0.03  # of the median speed
_SPREADS = 3.0  # standard deviations of speeds that are chance
_FEWEST = 5  # trainings that a median is of
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
    """Return the steps per second."""
    steps, seconds = numbers.get("num_steps"), numbers.get("training_seconds")
    return steps / seconds if steps and seconds and steps > 0 and seconds > 0 else None


def drift_of(trained: Trained, before: Sequence[Trained]) -> Drift | None:
    """Return how a training was slower than those `before` it, the newest first; None where it was not.

    It is not slower by what speeds usually differ, nor by a step more or less.
    """
    own = speed(trained.numbers)
    alike = [
        (other.number, pace)
        for other in before
        if other.number != trained.number
        and _is_alike(other.numbers, trained.numbers)
        and (pace := speed(other.numbers)) is not None
    ][:_RECENT]
    if own is None or len(alike) < _FEWEST:
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
