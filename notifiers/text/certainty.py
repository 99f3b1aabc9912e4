"""How sure a gain is, in words: what a certification came to, and which keeps may be chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loop.evaluation.certainty import Certainty
from loop.evidence import Certified
from loop.experiment import Event, EventKind, Goal, Run
from loop.gain import digits, digits_of, is_visible, signed
from loop.text import one_line
from notifiers.text.words import plural

_SENTENCE = 240
_SHOWN = 5  # numbers of experiments in a line


def certainty_text(event: Event, run: Run) -> str:
    """Return the message about the end of a certification or a prune."""
    return _certified(event, run) if event.kind is EventKind.CERTIFIED else _pruned(event, run)


def _certified(event: Event, run: Run) -> str:
    data = event.data
    head, reason = data["head"], one_line(str(data["reason"]), _SENTENCE)
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
    return f"#{head}: {text}{_doubt(found)}{early}"


def _like(data: Mapping[str, object]) -> float | None:
    value = data.get("value")  # events of older releases have none
    return value if isinstance(value, float) else None


def _pruned(event: Event, run: Run) -> str:
    """Say what each keep brings, and which bring nothing."""
    data, head = event.data, event.data["head"]
    own, removable, unmeasured = data["own"], data["removable"], data["unmeasured"]
    assert isinstance(own, Mapping)
    assert isinstance(removable, list)
    assert isinstance(unmeasured, list)
    sign, reason = -1 if run.goal is Goal.MINIMIZE else 1, one_line(str(data["reason"]), _SENTENCE)
    why = f": {reason}" if reason else ""
    if not own:
        return f"No keep's own gain is known{why or ': none can be left out alone'}"
    lines = [f"Without measurable gain: {numbers(removable)}" if removable else "Each keep brings something"]
    if not removable and any(low <= 0 for _, low, _ in own.values()):
        lines = ["No keep is surely without gain"]
    lines = [f"{lines[0]} (measured without each, best #{head})"]
    like = _like(data)
    for keep, (gain, low, high) in sorted(own.items(), key=lambda item: item[1][0]):
        first, last = (high, low) if run.goal is Goal.MINIMIZE else (low, high)
        interval = f"{signed(sign * first, like)} … {signed(sign * last, like)}"
        lines.append(f"#{keep} {signed(sign * gain, like)} ({interval})")
    if unmeasured:
        lines.append(f"Not measured{why}: {numbers(unmeasured)}")
    return "\n".join(lines)


def gain_text(found: Certified, recorded: float | None, goal: Goal, like: float | None = None) -> str:
    """Return `recorded -0.0282, certified -0.0205 (-0.0262 … -0.0148, 2 × 3 repeats)`."""
    sign = -1 if goal is Goal.MINIMIZE else 1
    width = (found.high - found.low) / 4
    places = digits_of(width, like) if is_visible(width, like) else digits(like)
    first, last = (found.high, found.low) if goal is Goal.MINIMIZE else (found.low, found.high)

    def shown(value: float) -> str:
        return f"{sign * value:+z.{places}f}"

    known = "" if recorded is None else f"recorded {shown(recorded)}, "
    return (
        f"{known}certified {shown(found.gain)} ({shown(first)} … {shown(last)}, 2 × {found.repeats} repeats)"
    )


def _doubt(found: Certified) -> str:
    return "" if found.low > 0 else ": no gain is certain"


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
