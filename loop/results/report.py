"""The numbers of a report about a run, from its rows and what its models cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from loop.experiment import Cost, Goal, Status
from loop.results.gains import FamilyRate, bests_before, gain, rates_of
from loop.store.experiments import Row

EMPTY_SECONDS = 0.05
"""Where a training waited longer than this for its proposal, none was ready; git alone takes less."""


@dataclass(frozen=True, slots=True)
class Gain:
    """How much better a kept experiment was than the best before it, in the metric's unit."""

    number: int
    commit: str
    description: str
    gain: float
    lines_added: int | None = None
    lines_removed: int | None = None

    def to_json(self) -> dict[str, object]:
        """Return what others rely on; the lines are those of the experiment."""
        return {
            "number": self.number,
            "commit": self.commit,
            "description": self.description,
            "gain": self.gain,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What a run has brought, or a part of it. What the rows do not tell is None.

    `experiments` counts every trained one, the baseline included: `keep + discard + crash`. `gains` has one
    for every kept experiment that had a best before it, the largest first. Times are seconds since the epoch:
    the first start and the last end. `training_seconds` is what the trainings counted against their budgets.
    `before` is the best before the first row, None where the rows begin with the run.
    `queue_empty` counts the experiments for which the machine waited, because no proposal was ready, and
    `waited_seconds` is how long it did so in all. `spent` is None where no model was asked.
    """

    tag: str | None
    metric: str
    goal: Goal
    experiments: int
    keep: int
    discard: int
    crash: int
    skipped: int
    baseline: float | None
    best: float | None
    best_number: int | None
    best_commit: str | None
    best_description: str | None
    gains: tuple[Gain, ...]
    last_keep_number: int | None
    last_keep_at: float | None
    started_at: float | None
    ended_at: float | None
    training_seconds: float | None
    families: tuple[FamilyRate, ...]
    queue_empty: int | None
    waited_seconds: float | None
    spent: Cost | None
    before: float | None = None

    @property
    def gain(self) -> float | None:
        """How much better the best is than the best before, or else than the baseline; None without both."""
        start = self.baseline if self.before is None else self.before
        if start is None or self.best is None:
            return None
        return gain(start, self.best, self.goal)

    @property
    def keep_rate(self) -> float | None:
        """The share of the experiments that were kept, the baseline in neither number."""
        before = 0 if self.baseline is None else 1
        return (self.keep - before) / (self.experiments - before) if self.experiments > before else None

    @property
    def hours(self) -> float | None:
        """Hours from the first start to the last end."""
        if self.started_at is None or self.ended_at is None:
            return None
        return max(0.0, self.ended_at - self.started_at) / 3600

    @property
    def experiments_per_hour(self) -> float | None:
        """Experiments an hour, over all hours."""
        return self.experiments / self.hours if self.hours else None

    @property
    def training_share(self) -> float | None:
        """The part of the hours that was training itself: no start-up, no compilation, no evaluation."""
        if self.training_seconds is None or not self.hours:
            return None
        return self.training_seconds / 3600 / self.hours

    @property
    def tokens(self) -> int | None:
        """Tokens that models read and wrote; None where none was asked."""
        return self.spent.tokens if self.spent else None

    @property
    def dollars(self) -> float | None:
        """What models cost, as far as the prices are known; None where no model was asked, or no price is."""
        return self.spent.dollars if self.spent else None

    @property
    def dollars_per_thousandth(self) -> float | None:
        """Dollars for each 0.001 of gain; None without both."""
        if self.dollars is None or not self.gain or self.gain < 0:
            return None
        return self.dollars / self.gain / 1000

    def to_json(self) -> dict[str, object]:
        """Return every number under its own name."""
        return asdict(self) | {
            "gains": [each.to_json() for each in self.gains],
            "gain": self.gain,
            "keep_rate": self.keep_rate,
            "hours": self.hours,
            "experiments_per_hour": self.experiments_per_hour,
            "training_share": self.training_share,
            "tokens": self.tokens,
            "dollars": self.dollars,
            "dollars_per_thousandth": self.dollars_per_thousandth,
        }


def make_report(
    rows: Sequence[Row],
    *,
    metric: str,
    goal: Goal,
    tag: str | None = None,
    spent: Cost | None = None,
    before: float | None = None,
) -> Report:
    """Return the report on `rows`, which stand in the order of their numbers; a bare file has no tag.

    `before` is the best before them, where they are not the first of their run.
    `spent` is what the run's models have cost in all, also for what never became a row; nothing at all says
    that none was asked.
    The baseline is the first kept row if it is number 0 or called so: where the first training crashed,
    nothing tells what the program was worth before. Of equal values the later is the best, because it was
    kept for its simplicity.
    """
    counts = Counter(row.status for row in rows)
    keeps = list(_keeps(rows, goal, before))
    direction = 1 if goal is Goal.MINIMIZE else -1
    best = min(reversed(keeps), key=lambda keep: direction * keep[1], default=None)
    gains = [
        Gain(
            row.number,
            row.commit,
            row.description,
            gain(best_before, value, goal),
            row.lines_added,
            row.lines_removed,
        )
        for row, value, best_before in keeps
        if best_before is not None
    ]
    trained = [row.training_seconds for row in rows if row.training_seconds is not None]
    waits = [row.waited for row in rows if row.waited is not None]
    return Report(
        tag=tag,
        metric=metric,
        goal=goal,
        experiments=counts[Status.KEEP] + counts[Status.DISCARD] + counts[Status.CRASH],
        keep=counts[Status.KEEP],
        discard=counts[Status.DISCARD],
        crash=counts[Status.CRASH],
        skipped=counts[Status.SKIP],
        baseline=keeps[0][1] if before is None and keeps and _is_baseline(keeps[0][0]) else None,
        best=best[1] if best else None,
        best_number=best[0].number if best else None,
        best_commit=best[0].commit if best else None,
        best_description=best[0].description if best else None,
        gains=tuple(sorted(gains, key=lambda each: each.gain, reverse=True)),
        last_keep_number=keeps[-1][0].number if keeps else None,
        last_keep_at=keeps[-1][0].ended_at if keeps else None,
        started_at=min((row.started_at for row in rows if row.started_at is not None), default=None),
        ended_at=max((row.ended_at for row in rows if row.ended_at is not None), default=None),
        training_seconds=sum(trained) if trained else None,
        families=rates_of(rows, goal, before),
        queue_empty=sum(wait > EMPTY_SECONDS for wait in waits) if waits else None,
        waited_seconds=sum(waits) if waits else None,
        spent=None if spent == Cost() else spent,
        before=before,
    )


def _keeps(rows: Sequence[Row], goal: Goal, best: float | None) -> Iterator[tuple[Row, float, float | None]]:
    """Yield each kept row that has a value, its value and the best before it."""
    for row, before in zip(rows, bests_before(rows, goal, best), strict=True):
        if row.status is Status.KEEP and row.value is not None:
            yield row, row.value, before


def _is_baseline(row: Row) -> bool:
    return row.number == 0 or "baseline" in (row.commit.lower(), row.description.lower()[:8])
