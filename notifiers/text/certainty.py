"""How sure results are, in words: what repeats and a certification say, and which keeps may be chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isinf, sqrt
from statistics import fmean, stdev

from loop.evaluation.certainty import Certainty
from loop.evaluation.noise import BEYOND, Noise, in_sigmas, noise_of
from loop.evidence import Certified, RepeatFor
from loop.experiment import Event, EventKind, Experiment, Goal, Run
from loop.gain import digits, digits_of, is_visible, number, signed, with_error
from loop.results.gains import effect
from loop.text import one_line
from notifiers.text.words import plural

_SENTENCE = 240
_SHOWN = 5  # numbers of experiments in a line


def certainty_text(event: Event, run: Run) -> str:
    """Return the message about the end of a repeat, a certification or a prune."""
    data, reason = event.data, one_line(str(event.data.get("reason", "")), _SENTENCE)
    match event.kind:
        case EventKind.CERTIFIED:
            return _certified(data, run, reason)
        case EventKind.PRUNED:
            return _pruned(data, run, reason)
        case EventKind.REPEAT_PUT_BACK:
            return f"The repeat of #{event.number} will be trained again: {reason}"
        case EventKind.REPEAT_GIVEN_UP:
            return f"The repeat of #{event.number} is given up: {reason}"
        case EventKind.REPEATED if data["why"] == RepeatFor.NOISE:
            return _noise_text(_values(data))
        case EventKind.REPEATED:
            return _result(event)
        case _:
            raise ValueError(f"{event.kind} says nothing of how sure a result is")


def _certified(data: Mapping[str, object], run: Run, reason: str) -> str:
    head = data["head"]
    if head is None:
        return f"Not certified: {reason}"
    numbers = [data.get(name) for name in ("gain", "low", "high", "repeats")]
    if not all(isinstance(number, int | float) for number in numbers):
        return f"Not certified: {reason or f'too few repeats of #{head} and the baseline have a number'}"
    gain, low, high, repeats = (float(str(number)) for number in numbers)
    found, recorded = Certified(gain, low, high, int(repeats)), data["recorded"]
    assert recorded is None or isinstance(recorded, int | float)
    early = f"\nIt ended early: {reason}" if reason else ""
    text = gain_text(found, recorded, run.goal, _like(data))
    doubt = "" if found.low > 0 else ": no gain is certain"
    return f"#{head}: {text}{doubt}{early}"


def _like(data: Mapping[str, object]) -> float | None:
    value = data.get("value")  # events of older releases have none
    return value if isinstance(value, float) else None


def _pruned(data: Mapping[str, object], run: Run, reason: str) -> str:
    """Say what each keep brings, and which bring nothing."""
    own, removable, unmeasured = data["own"], data["removable"], data["unmeasured"]
    assert isinstance(own, Mapping)
    assert isinstance(removable, list)
    assert isinstance(unmeasured, list)
    sign = -run.goal.sign
    why = f": {reason}" if reason else ""
    if not own:
        return f"No keep's own gain is known{why or ': none can be left out alone'}"
    lines = [f"Without measurable gain: {numbers(removable)}" if removable else "Each keep brings something"]
    if not removable and any(low <= 0 for _, low, _ in own.values()):
        lines = ["No keep is surely without gain"]
    lines = [f"{lines[0]} (measured without each, best #{data['head']})"]
    like = _like(data)
    for keep, (gain, low, high) in sorted(own.items(), key=lambda item: item[1][0]):
        first, last = sorted((sign * low, sign * high))
        interval = f"{signed(first, like)} … {signed(last, like)}"
        lines.append(f"#{keep} {signed(sign * gain, like)} ({interval})")
    if unmeasured:
        lines.append(f"Not measured{why}: {numbers(unmeasured)}")
    return "\n".join(lines)


def gain_text(found: Certified, recorded: float | None, goal: Goal, like: float | None = None) -> str:
    """Return `recorded -0.0282, certified -0.0205 (-0.0262 … -0.0148, 2 × 3 repeats)`."""
    sign = -goal.sign
    width = (found.high - found.low) / 4
    places = digits_of(width, like) if is_visible(width, like) else digits(like)

    def shown(change: float) -> str:
        return f"{change:+z.{places}f}"

    known = "" if recorded is None else f"recorded {shown(sign * recorded)}, "
    interval = " … ".join(map(shown, sorted((sign * found.low, sign * found.high))))
    return f"{known}certified {shown(sign * found.gain)} ({interval}, 2 × {found.repeats} repeats)"


def effect_text(moved: float, error: float | None, like: float | None) -> str:
    """Return `-0.0031 ± 0.0008`, without the error where it is unknown or would not be seen."""
    if not error or not is_visible(error, like):
        return signed(moved, like)
    return with_error(moved, error, like, sign="+")


def certainty_lines(certainty: Certainty) -> list[str]:
    return [line for line in (certified_line(certainty), *doubtful_lines(certainty)) if line]


def certified_line(certainty: Certainty) -> str:
    """Return what is certified, empty where nothing is."""
    if certainty.certified is None:
        return "Certification under way" if certainty.under_way else ""
    text = gain_text(certainty.certified, certainty.recorded, certainty.goal, certainty.baseline)
    if certainty.outdated:
        return f"Outdated, #{certainty.number}: {text}"
    return f"{text[0].upper()}{text[1:]}"


def doubtful_lines(certainty: Certainty) -> list[str]:
    """Return whether the gain may be none, which keeps bring nothing, and how many may be chance."""
    best = certainty.of_best
    lines = ["No gain is certain"] if best and best.low <= 0 else []
    if measured := certainty.measured:
        if lost := certainty.without_gain:
            lines.append(f"No measurable gain: {numbers(lost)} ({len(lost)} of {len(measured)} left out)")
        else:
            lines.append(f"{plural(len(measured), 'keep')} left out: each was missed")
    if doubtful := certainty.within_noise:
        others = len(certainty.keeps) - len(measured)
        is_ = "is" if len(doubtful) == 1 else "are"
        lines.append(f"{len(doubtful)} of {plural(others, 'keep')} {is_} within the noise")
    return lines


def numbers(found: Sequence[int]) -> str:
    shown = ", ".join(f"#{number}" for number in found[:_SHOWN])
    more = len(found) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def is_told(event: Event) -> bool:
    """Tell whether people hear of it: of the noise once, of some by the message about all of them."""
    data = event.data
    if data["why"] in (RepeatFor.CERTIFICATION, RepeatFor.PRUNE) or data.get("quiet"):
        return False
    if event.kind is EventKind.REPEAT_PUT_BACK:
        return bool(data["vanished"])
    return event.kind is not EventKind.REPEATED or data["why"] != RepeatFor.NOISE or bool(data["last"])


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
