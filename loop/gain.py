"""How much better one number is than another."""

from __future__ import annotations

from decimal import Decimal

from loop.experiment import Goal


def gain(before: float, after: float, goal: Goal) -> float:
    """Return how much better `after` is than `before`; negative where it is worse.

    The numbers are subtracted as they are written: from 0.99 to 0.98 is 0.01, not 0.010000000000000009.
    """
    written = Decimal(repr(before)) - Decimal(repr(after))
    return float(written if goal is Goal.MINIMIZE else -written) + 0.0  # no -0.0
