"""What makes a number hard to believe before anything else is known of it: pure doubts from numbers alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from loop.evaluation.noise import Noise
from loop.experiment import Experiment, Goal
from loop.gain import number

ORDER = 10.0  # times what was gained at once before, or what chance makes
LARGE = 4.0  # sigmas; a gain that large is believed of a program in which the guard found nothing
USUAL = 0.02  # of the number: a gain so large is nothing special, however small all before were
TENFOLD = {Goal.MINIMIZE: 0.9, Goal.MAXIMIZE: 9.0}  # of the number: a tenth of it, ten times it
FASTER = 1.5  # times the tokens a second of any before
SAME_SIZE = 0.02  # of the parameters, in which models count as equally large
LONGER = 1.2  # times the budget, as in the practice
MORE = 2.4  # times the CPU time that as many FLOPs took before; what is not counted as FLOPs takes some too
SLACK = 10.0  # seconds for processes to start on a busy machine


class Sign(StrEnum):
    GAIN = "gain"  # facts: gain, most, best
    TOKENS = "tokens"  # facts: rate, fastest (tokens a second)
    MFU = "mfu"  # facts: percent
    MEMORY = "memory"  # facts: used, device (GiB)
    OVERRUN = "overrun"  # facts: seconds, allowed
    CPU_TIME = "cpu_time"  # facts: seconds, allowed
    SAME = "same"  # facts: number, value


@dataclass(frozen=True, slots=True)
class Implausible:
    """One doubt, with the figures that it comes of."""

    sign: Sign
    facts: Mapping[str, float]


TIMELESS = frozenset(Sign) - {Sign.OVERRUN, Sign.CPU_TIME}
"""What an evaluation of the model answers: it cannot know how long that was trained."""


def implausible(
    candidate: Experiment,
    earlier: Iterable[Experiment],
    *,
    metric: str,
    goal: Goal,
    budget: float,
    best: float,
    noise: Noise | None = None,
    device_mb: float | None = None,
) -> tuple[Implausible, ...]:
    """Return what speaks against the numbers of a measured candidate that is better than `best`.

    `earlier` are the decided experiments of its run, `device_mb` is what the device has of memory.
    """
    before = [each for each in earlier if each.number != candidate.number]
    value = candidate.numbers[metric]
    found = (
        _gain(candidate, before, metric, best, goal.sign * (best - value), goal, noise),
        _tokens(candidate, before),
        _mfu(candidate),
        _memory(candidate, device_mb),
        _overrun(candidate, before, budget),
        _cpu_time(candidate, before),
        _same(candidate, before, value) if value != best else None,
    )
    return tuple(doubt for doubt in found if doubt is not None)


def _gain(
    candidate: Experiment,
    before: list[Experiment],
    metric: str,
    best: float,
    better: float,
    goal: Goal,
    noise: Noise | None,
) -> Implausible | None:
    """Doubt a gain that is out of all scale; where the guard found something, one that is just large.

    A fifth less is unheard of for bits a byte, but a program may well take half the time, or hit four times
    as often as chance.
    """
    largest = max(_gains(before, goal), default=0.0)
    chance = LARGE * noise.sigma * math.sqrt(2) if noise else 0.0
    usual = max(largest, chance, USUAL * abs(best))
    limit = ORDER * USUAL if metric.endswith("bpb") else TENFOLD[goal]
    most = max(ORDER * largest, ORDER * chance, limit * abs(best)) or math.inf
    if candidate.findings:
        most = chance or usual
    return Implausible(Sign.GAIN, {"gain": better, "most": most, "best": best}) if better >= most else None


def _gains(before: Iterable[Experiment], goal: Goal) -> Iterator[float]:
    for each in before:
        if each.status == "keep" and each.best_before is not None and each.value is not None:
            yield goal.sign * (each.best_before - each.value)


def _tokens(candidate: Experiment, before: Iterable[Experiment]) -> Implausible | None:
    rate, size = _rate(candidate), candidate.numbers.get("num_params_M")
    if rate is None or size is None:
        return None
    alike = [
        other
        for each in before
        if (other := _rate(each)) is not None
        and math.isclose(each.numbers.get("num_params_M", 0.0), size, rel_tol=SAME_SIZE)
    ]
    if not alike or rate <= FASTER * max(alike):
        return None
    return Implausible(Sign.TOKENS, {"rate": rate, "fastest": max(alike)})


def _rate(each: Experiment) -> float | None:
    millions, seconds = each.numbers.get("total_tokens_M"), each.numbers.get("training_seconds")
    return 1e6 * millions / seconds if millions and seconds and seconds > 0 else None


def _mfu(candidate: Experiment) -> Implausible | None:
    percent = candidate.numbers.get("mfu_percent", 0.0)
    return Implausible(Sign.MFU, {"percent": percent}) if percent > 100 else None


def _memory(candidate: Experiment, device_mb: float | None) -> Implausible | None:
    used = candidate.memory_gb
    if device_mb is None or used <= device_mb / 1024:
        return None
    return Implausible(Sign.MEMORY, {"used": used, "device": device_mb / 1024})


def overrun(numbers: Mapping[str, float], budget: float) -> float | None:
    """Return the seconds of a training that say themselves that they are well over its budget."""
    seconds = numbers.get("training_seconds", 0.0)
    return seconds if seconds > LONGER * budget else None


def _overrun(candidate: Experiment, before: Iterable[Experiment], budget: float) -> Implausible | None:
    """Doubt what was trained for longer than its budget, by its own clock or by the supervisor's.

    The latter also counts the start and the evaluation; these may take what they took the baseline.
    """
    if own := overrun(candidate.numbers, budget):
        return Implausible(Sign.OVERRUN, {"seconds": own, "allowed": LONGER * budget})
    baseline = next((each for each in before if each.number == 0), None)
    beside = _beside(baseline) if baseline else None
    lasted = _lasted(candidate)
    if beside is None or lasted is None:
        return None
    allowed = LONGER * (budget + beside) + SLACK
    return Implausible(Sign.OVERRUN, {"seconds": lasted, "allowed": allowed}) if lasted > allowed else None


def _cpu_time(candidate: Experiment, before: Iterable[Experiment]) -> Implausible | None:
    """Doubt what computed more than its FLOPs, where these end a training before its seconds do.

    By the time of the processors and not of the clock: a busy machine only lengthens the latter.
    """
    own = candidate.last_training.cpu_seconds
    as_many = [
        each.last_training.cpu_seconds or 0.0 for each in before if each.numbers.get("training_tflops")
    ]
    allowed = MORE * max(as_many, default=0.0)
    return (
        Implausible(Sign.CPU_TIME, {"seconds": own, "allowed": allowed})
        if own and own > allowed > 0
        else None
    )


def _lasted(each: Experiment) -> float | None:
    if each.started_at is None or each.ended_at is None:
        return None
    return each.ended_at - each.started_at


def _beside(baseline: Experiment) -> float | None:
    """Return the seconds of a training that are not training."""
    lasted, counted = _lasted(baseline), baseline.training_seconds
    return None if lasted is None or counted is None else max(0.0, lasted - counted)


def _same(candidate: Experiment, before: Iterable[Experiment], value: float) -> Implausible | None:
    for each in before:
        if each.value == value and each.program != candidate.program:
            return Implausible(Sign.SAME, {"number": each.number, "value": value})
    return None


def doubt_text(doubt: Implausible, metric: str) -> str:
    facts = doubt.facts
    match doubt.sign:
        case Sign.GAIN:
            gain, most = (number(facts[name], facts["best"]) for name in ("gain", "most"))
            return f"a gain of {gain} is out of scale here, where {most} is much"
        case Sign.TOKENS:
            return (
                f"{facts['rate']:,.0f} tokens a second, but models of this size never had more than "
                f"{facts['fastest']:,.0f}"
            )
        case Sign.MFU:
            return f"an MFU of {facts['percent']:.0f} % cannot be"
        case Sign.MEMORY:
            return f"{facts['used']:.1f} GB of memory, but the device has {facts['device']:.1f}"
        case Sign.OVERRUN:
            return f"it trained {facts['seconds']:.0f} s, and {facts['allowed']:.0f} s are allowed"
        case Sign.CPU_TIME:
            return f"it took {facts['seconds']:.0f} s of CPU time, and {facts['allowed']:.0f} s are allowed"
        case Sign.SAME:
            return f"{metric} is that of #{facts['number']:.0f} to the last digit, from another program"
        case _:
            assert_never(doubt.sign)
