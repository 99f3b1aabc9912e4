"""The numbers of a metric: how much better one is than another, how large they are, how they are written.

Digits and thresholds are those of val_bpb, whose numbers lie between 0.1 and 10, moved by as many places as
the numbers of a metric are larger or smaller: 10640 tokens a second are shown to the hundredth, and a gain of
10 is worth something. `like` is a number of the metric, such as the best so far.
"""

from __future__ import annotations

from decimal import Decimal
from math import floor, isfinite, log10

from loop.experiment import Goal

DIGITS = 6  # after the point, of a number from 0.001 to 10
_FEWEST = 4  # that say something, of a smaller one
_HUGE = 1e12
_TINY = -4  # the power of ten below which numbers are written with one
_NOTHING = 1e-99
_WORTH = 0.001  # between 0.1 and 10: the practice's gain that is worth 20 lines of code


def gain(before: float, after: float, goal: Goal) -> float:
    """Return how much better `after` is than `before`; negative where it is worse.

    The numbers are subtracted as they are written: from 0.99 to 0.98 is 0.01, not 0.010000000000000009.
    """
    written = Decimal(repr(before)) - Decimal(repr(after))
    return float(written if goal is Goal.MINIMIZE else -written) + 0.0  # no -0.0


def finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def beats(value: float | None, other: float | None, goal: Goal) -> bool:
    """Tell whether a number is better than another; None, there is none, is not and is not beaten."""
    return value is not None and other is not None and gain(other, value, goal) > 0


def step(like: float | None) -> float:
    """Return the gain that is worth something: 0.001 from 0.1 to 10."""
    return float(f"{_WORTH}e{_places(like)}")


def per_step(amount: float | None, gained: float | None, like: float | None) -> float | None:
    """Return how much of an amount a gain of one step took; None without both."""
    return amount / gained * step(like) if amount is not None and gained and gained > 0 else None


def _places(like: float | None) -> int:
    """Return by how many places the metric is larger than val_bpb."""
    power = _power(like)
    return power if power >= 0 else power + 1


def _power(like: float | None) -> int:
    return floor(log10(abs(like))) if like and isfinite(like) and abs(like) > _NOTHING else 0


def digits(like: float | None) -> int:
    power = _power(like)
    return max(0, DIGITS - power) if power > 0 else max(DIGITS, _FEWEST - 1 - power)


def number(value: float, like: float | None = None) -> str:
    """Return a value of the metric, never -0.000000; without `like` by its own size.

    One with more than twelve digits before the point, or four zeros after it, is written with a power.
    """
    return _written(value, value if like is None else like)


def signed(value: float, like: float | None) -> str:
    """Return a change of the metric; the sign is always shown."""
    return _written(value, like, sign="+")


def change(before: float, after: float) -> str:
    """Return the signed change between two values as they are shown, so that the line adds up."""
    shown = digits(before)
    return signed(round(after, shown) - round(before, shown), before)


def is_visible(value: float, like: float | None) -> bool:
    """Tell whether a gain or an error would be shown as more than zero."""
    return round(value, digits(like)) > 0


def with_error(value: float, error: float, like: float | None, *, sign: str = "") -> str:
    """Return `0.9861 ± 0.0002`: no more digits than the error leaves sure, but enough to see a gain."""
    shown = digits_of(error, like)
    return f"{value:{sign}z.{shown}f} ± {error:.{shown}f}"


def digits_of(error: float, like: float | None) -> int:
    """Return how many digits a value with this error is worth showing with."""
    most, place = digits(like), _power(error)
    least = max(0, most - 2) if place < _places(like) else 0
    return max(least, min(most, -place + (error < 2 * 10.0**place)))


def _written(value: float, like: float | None, *, sign: str = "") -> str:
    if abs(value) >= _HUGE or not isfinite(value):
        return f"{value:{sign}.6g}"
    if _power(like) < _TINY:
        return f"{value:{sign}.{_FEWEST}g}"
    shown = digits(like) if digits(value) else 0  # what has left the scale by far
    return f"{value:{sign}z.{shown}f}"
