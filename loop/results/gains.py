"""What changes of the program brought: pure functions of numbers and verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from loop.experiment import Family, Goal, Status
from loop.store.experiments import Row


@dataclass(frozen=True, slots=True)
class FamilyRate:
    """How often ideas of one family were kept; `best_gain` is the largest of their gains."""

    family: Family
    tried: int
    kept: int
    best_gain: float | None


def gain(before: float, after: float, goal: Goal) -> float:
    """Return how much better `after` is than `before`; negative where it is worse.

    The numbers are subtracted as they are written: from 0.99 to 0.98 is 0.01, not 0.010000000000000009.
    """
    written = Decimal(repr(before)) - Decimal(repr(after))
    return float(written if goal is Goal.MINIMIZE else -written) + 0.0  # no -0.0


def bests_before(rows: Iterable[Row], goal: Goal, best: float | None = None) -> Iterator[float | None]:
    """Yield for each row the best kept value before it, None while there is none.

    `best` is the one before the first row.
    """
    better = min if goal is Goal.MINIMIZE else max
    for row in rows:
        yield best
        if row.status is Status.KEEP and row.value is not None:
            best = row.value if best is None else better(best, row.value)


def family_rates(tries: Iterable[tuple[Family | None, Status, int, float | None]]) -> tuple[FamilyRate, ...]:
    """Return how the ideas of each family fared, most often kept, least often tried, largest gain first.

    A try is a family, a verdict, how often there was that, and the largest of its gains.
    """
    tried, kept = Counter[Family](), Counter[Family]()
    best: dict[Family, float] = {}
    for family, status, count, found in tries:
        if family is None or status is Status.SKIP:
            continue
        tried[family] += count
        if status is Status.KEEP:
            kept[family] += count
            if found is not None:
                best[family] = max(found, best.get(family, found))
    rates = (FamilyRate(family, count, kept[family], best.get(family)) for family, count in tried.items())
    return tuple(sorted(rates, key=lambda rate: (-rate.kept, rate.tried, -(rate.best_gain or 0.0))))


def rates_of(rows: Sequence[Row], goal: Goal, before: float | None = None) -> tuple[FamilyRate, ...]:
    """Return how the ideas of each family fared in a run; `before` is the best before the first row."""
    bests = zip(rows, bests_before(rows, goal, before), strict=True)
    return family_rates((row.family, row.status, 1, _gain_of(row, best, goal)) for row, best in bests)


def _gain_of(row: Row, best: float | None, goal: Goal) -> float | None:
    return None if best is None or row.value is None else gain(best, row.value, goal)
