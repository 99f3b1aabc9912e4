"""What repeats say: the message about one, and how sure a result is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isinf, sqrt
from statistics import fmean, stdev

from loop.evaluation.noise import BEYOND, Noise, in_sigmas, noise_of
from loop.evidence import RepeatFor
from loop.experiment import Event, EventKind, Experiment, Goal
from loop.gain import digits_of, is_visible, number, with_error
from loop.results.gains import effect
from loop.text import one_line
from notifiers.text.words import plural

_SENTENCE = 240


def is_told(event: Event) -> bool:
    """Tell whether people hear of it: of the noise once, of some by the message about all of them."""
    data = event.data
    if data["why"] in (RepeatFor.CERTIFICATION, RepeatFor.PRUNE) or data.get("quiet"):
        return False
    if event.kind is EventKind.REPEAT_PUT_BACK:
        return bool(data["vanished"])
    return event.kind is not EventKind.REPEATED or data["why"] != RepeatFor.NOISE or bool(data["last"])


def repeat_text(event: Event) -> str:
    data, reason = event.data, one_line(str(event.data.get("reason", "")), _SENTENCE)
    match event.kind:
        case EventKind.REPEAT_PUT_BACK:
            return f"The repeat of #{event.number} will be trained again: {reason}"
        case EventKind.REPEAT_GIVEN_UP:
            return f"The repeat of #{event.number} is given up: {reason}"
        case EventKind.REPEATED if data["why"] == RepeatFor.NOISE:
            return _noise_text(_values(data))
        case EventKind.REPEATED:
            return _result(event)
        case _:
            raise ValueError(f"{event.kind} is not the end of a repeat")


def _result(event: Event) -> str:
    data, values = event.data, _values(event.data)
    value, first, seed = data["value"], data.get("first"), data.get("seed")
    facts = [] if seed is None else [f"seed {seed}"]
    if not isinstance(value, float | int):
        error = one_line(str(data["error"]), _SENTENCE)
        return f"Repeat of #{event.number}: crash{f' ({facts[0]})' if facts else ''}: {error}"
    like: float = value
    if isinstance(first, float | int):
        like = first
        facts.append(f"first {number(first)}")
    if len(values) > 1:
        facts.append(mean_text(values))
    if isinstance(slower := data.get("slower"), float):
        facts.append(
            f"{abs(100 * slower):.0f} % {'fewer' if slower > 0 else 'more'} steps per second than at first"
        )
    return f"Repeat of #{event.number}: {number(value, like)} ({'; '.join(facts)})"


def mean_text(values: Sequence[float]) -> str:
    """Return `mean of 3 0.9861 ± 0.0002`, with the standard error of the mean."""
    mean, error = fmean(values), stdev(values) / sqrt(len(values))
    if not is_visible(error, mean):
        return f"{len(values)} times the same number"
    return f"mean of {len(values)} {with_error(mean, error, mean)}"


def _noise_text(values: Sequence[float]) -> str:
    noise = noise_of([values])
    if noise is None:
        return "Noise: unknown, as too few repeats of the baseline have a number"
    trainings = f"{plural(len(values), 'training')} of the baseline"
    if not is_visible(noise.sigma, values[0]):
        return f"Noise: none, {trainings} brought the same number"
    return f"Noise: σ {noise.sigma:.{digits_of(noise.sigma, values[0])}f} from {trainings}"


def sureness(experiment: Experiment, noise: Noise | None, goal: Goal) -> str:
    """Return how a result stands to the noise of its run; empty where there is nothing to say."""
    better = effect(experiment, goal)
    if better is None or noise is None:
        return ""
    sigmas = in_sigmas(better, noise)
    if isinf(sigmas):
        return ""
    if abs(sigmas) < BEYOND:
        return "within noise"
    return f"{abs(sigmas):.1f} σ {'better' if sigmas > 0 else 'worse'}"


def _values(data: Mapping[str, object]) -> list[float]:
    values = data["values"]
    assert isinstance(values, list)
    return values
