"""What changes of the program brought, and what earlier experiments teach, over all runs of a repository.

Nothing is stored here: the journal has every experiment with its verdict. Of a run only so much is read as is
asked for, because this is done for every proposal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from operator import attrgetter
from statistics import median
from typing import assert_never

from loop.evaluation.noise import Noise, read_noise
from loop.experiment import Experiment, Family, Goal, Run, Status
from loop.gain import gain
from loop.store.experiments import (
    Row,
    family_tries,
    largest_gains,
    last_discarded_values,
    last_failures,
    runs_like,
)
from loop.store.journal import Journal

_FEW = 10  # effects, below which their spread says little: in simulated runs it is off by half and more
_RECENT = 200  # discarded experiments that tell the noise of a run


def effect(experiment: Experiment | Row, goal: Goal) -> float | None:
    """Return by how much an experiment was better than the best before it.

    None without a number, or where that is not believed.
    """
    value = experiment.value if experiment.is_believed else None
    return _effect(experiment.best_before, value, goal)


def reason_of(decided: Experiment | Row, goal: Goal) -> str:
    """Return why it was judged so: the recorded reason, or what its numbers say."""
    if decided.reason:
        return decided.reason
    match decided.status:
        case Status.KEEP:
            return "the first number" if decided.best_before is None else "improved"
        case Status.DISCARD:
            return "worse" if effect(decided, goal) else "no gain"
        case Status.SKIP:
            return "skipped by command"
        case Status.QUARANTINE:
            return "not believed yet"
        case Status.CRASH | None:
            return ""
    assert_never(decided.status)


def bests_before(rows: Iterable[Row], goal: Goal) -> Iterator[float | None]:
    """Yield for each row the best kept value before it, None while there is none.

    The journal has recorded it, as lanes discard and crash in another order than that of the numbers; in a
    bare file it is of the rows before.
    """
    better, best = (min if goal is Goal.MINIMIZE else max), None
    for row in rows:
        yield best if row.best_before is None else row.best_before
        if row.status is Status.KEEP and row.value is not None:
            best = row.value if best is None else better(best, row.value)


def noise(experiments: Iterable[Experiment], goal: Goal, measured: Noise | None = None) -> float | None:
    """Return the standard deviation of an effect, by the noise of a training where that is `measured`.

    Else it is about an upper bound, None with fewer than ten: 1.4826 times the median absolute deviation
    (Rousseeuw and Croux 1993) of the discarded effects. What they differ by is chance where most discarded
    changes hardly matter, and chance and harm where they do.
    """
    discarded = (experiment for experiment in experiments if experiment.status is Status.DISCARD)
    return _spread((effect(experiment, goal) for experiment in discarded), measured)


def near_misses(experiments: Sequence[Experiment], goal: Goal, *, most: int = 5) -> list[Experiment]:
    missed = [
        (change, experiment)
        for experiment in experiments
        if experiment.status is Status.DISCARD and (change := effect(experiment, goal)) is not None
    ]
    missed.sort(key=lambda pair: (-pair[0], pair[1].number))
    return [experiment for _, experiment in missed[:most]]


def _effect(before: float | None, value: float | None, goal: Goal) -> float | None:
    return None if before is None or value is None else gain(before, value, goal)


def _spread(effects: Iterable[float | None], measured: Noise | None) -> float | None:
    if measured is not None:
        return sqrt(2) * measured.sigma
    known = [change for change in effects if change is not None]
    if len(known) < _FEW:
        return None
    middle = median(known)
    return 1.4826 * median(abs(change - middle) for change in known)


@dataclass(frozen=True, slots=True)
class FamilyRate:
    """How often ideas of one family were kept; `best_gain` is the largest of their gains."""

    family: Family
    tried: int
    kept: int
    best_gain: float | None


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


def rates_of(rows: Sequence[Row], goal: Goal) -> tuple[FamilyRate, ...]:
    """Return how the ideas of each family fared in a run."""
    bests = zip(rows, bests_before(rows, goal), strict=True)
    return family_rates(
        (row.family, row.status, 1, _effect(best, row.value, goal) if row.status is Status.KEEP else None)
        for row, best in bests
        if row.family is not None
    )


def hit_rates(journal: Journal, run: Run) -> tuple[FamilyRate, ...]:
    ids = [each.id for each in (*runs_like(journal, run), run)]
    return family_rates(
        (family, status, count, _effect(before, value, run.goal))
        for family, status, count, before, value in family_tries(journal, ids, run.goal)
    )


@dataclass(frozen=True, slots=True)
class Lesson:
    """What an idea came to, where it was tried.

    `effect` is how much better the metric became, negative for worse, None without a number. `noise` is
    the chance part of an effect in that run, as `noise` tells it, None where too little is known. `reason` is
    empty where the number says why it was judged so.
    """

    tag: str
    number: int
    description: str
    family: Family | None
    status: Status
    effect: float | None
    noise: float | None
    reason: str


def lessons(journal: Journal, run: Run, *, most: int) -> list[Lesson]:
    """Return at most `most` lessons of a run, by number; the baseline is none, nor is what was skipped.

    Half of them, or fewer where fewer were kept, are the largest gains; the others are the last ones that
    were discarded or crashed.
    """
    gains = largest_gains(journal, run.id, most=(most + 1) // 2)
    failures = last_failures(journal, run.id, most=most - len(gains))
    recent = last_discarded_values(journal, run.id, most=_RECENT)
    measured, goal = read_noise(journal, run), run.goal
    error = _spread((_effect(before, value, goal) for before, value in recent), measured)
    return [
        Lesson(
            run.tag, row.number, row.description, row.family, row.status, effect(row, goal), error, row.reason
        )
        for row in sorted([*gains, *failures], key=attrgetter("number"))
    ]


def lessons_of_others(journal: Journal, run: Run, *, most: int) -> list[Lesson]:
    return [lesson for other in runs_like(journal, run) for lesson in lessons(journal, other, most=most)]


def most_valuable(found: Iterable[Lesson], most: int) -> list[Lesson]:
    """Return what is most worth knowing: what was kept, the surest gain first, then the nearest misses.

    A gain is the surer, the more of it is left without the noise; where that is unknown, nothing is.
    """
    measured = [(lesson.effect, lesson) for lesson in found if lesson.effect is not None]

    def worth(pair: tuple[float, Lesson]) -> tuple[bool, float, float]:
        change, lesson = pair
        if lesson.status is not Status.KEEP:
            return True, -change, 0.0
        sure = 0.0 if lesson.noise is None else change - lesson.noise
        return False, -sure, -change

    return [lesson for _, lesson in sorted(measured, key=worth)[:most]]
