"""What a run brought and how it stands, in numbers.

The report is on rows alone, the wake-up report adds what the journal knows, the status is of this moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from inspect import getmembers
from pathlib import Path

from loop.evaluation.certainty import Certainty, read_certainty
from loop.experiment import Cost, Experiment, Goal, Reason, Run, RunState, Stage, Status
from loop.gain import gain, per_step
from loop.lanes.status import LaneStatus, lane_statuses
from loop.logs.progress import Progress
from loop.proposers.protocol import STUCK_AFTER, SearchMode, idle, search_mode
from loop.results.gains import FamilyRate, bests_before, rates_of
from loop.results.ledger import Bill, Ledger, Spent, away_seconds, read_ledger
from loop.store.events import open_calls
from loop.store.evidence.repeats import Repeats
from loop.store.evidence.verdicts import are_evaluated
from loop.store.experiments import Idea, IdeaBox, Row, count_taken_over, decided_by, read_rows, waited_longer
from loop.store.journal import Journal
from loop.store.spending import Budget

EMPTY_SECONDS = 0.05
"""Where a training waited longer than this for its proposal, none was ready; git alone takes less."""

_GPU_IN_USE = (Spent.TRAINING, Spent.OVERHEAD, Spent.CRASHED, Spent.INTERRUPTED)
_STUCK_ROWS = 200


@dataclass(frozen=True, slots=True)
class Gain:
    """How much better a kept experiment was than the best before it, in the metric's unit."""

    number: int
    commit: str
    description: str
    gain: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of the experiments of a run, or of a part of it. `under_way` are not decided yet.

    Those `taken_over` were trained without the bot, in none of this run's time.
    """

    keep: int
    discard: int
    crash: int
    quarantine: int
    skipped: int
    under_way: int = 0
    taken_over: int = 0

    @property
    def experiments(self) -> int:
        """All that were trained, the baseline included."""
        return self.keep + self.discard + self.crash + self.quarantine

    @property
    def made(self) -> int:
        return self.experiments + self.skipped + self.under_way


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Counts):
    """What a run has brought, or a part of it. What the rows do not say is None.

    `gains` has one for each experiment that was kept on a best before it, the largest first. Times are of the
    first start and the last end. `training_seconds` is what counted against the budgets, `before` the best
    before the first row. `queue_empty` counts how often the machine waited for a proposal, `waited_seconds`
    how long. `spent` is None where no model was asked.
    """

    tag: str | None
    metric: str
    goal: Goal
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
        return None if start is None or self.best is None else gain(start, self.best, self.goal)

    @property
    def like(self) -> float | None:
        """A number that says how large the metric is."""
        return next((n for n in (self.baseline, self.before, self.best) if n is not None), None)

    @property
    def keep_rate(self) -> float | None:
        before = 0 if self.baseline is None else 1
        return (self.keep - before) / (self.experiments - before) if self.experiments > before else None

    @property
    def hours(self) -> float | None:
        if self.started_at is None or self.ended_at is None:
            return None
        return max(0.0, self.ended_at - self.started_at) / 3600

    @property
    def experiments_per_hour(self) -> float | None:
        return (self.experiments - self.taken_over) / self.hours if self.hours else None

    @property
    def training_share(self) -> float | None:
        """The part of the hours that was training itself: no start-up, no compilation, no evaluation."""
        if self.training_seconds is None or not self.hours:
            return None
        return self.training_seconds / 3600 / self.hours

    @property
    def tokens(self) -> int | None:
        return self.spent.tokens if self.spent else None

    @property
    def dollars(self) -> float | None:
        """What models cost, as far as the prices are known; None where no model was asked, or no price is."""
        return self.spent.dollars if self.spent else None

    @property
    def dollars_per_thousandth(self) -> float | None:
        return per_step(self.dollars, self.gain, self.like)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is tried next: people's ideas first, then the proposal that is ready, empty where none is.

    `under_way` is what is tried now, as number and description. `idle` is how many experiments were judged
    since the last keep, `search_mode` what a stuck run asks for.
    """

    idea: Idea | None = None
    ready: str = ""
    under_way: str = ""
    idle: int = 0
    search_mode: SearchMode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeUpReport:
    """A report with all that only the journal can add to it; a bare file of results adds nothing.

    `rows`, `certainty` and `whole` are of the run, `whole` None where the night is all of it. `since` is when
    the night began, `start` the number of the best before it. `calls` are the reasons for which a person is
    needed; `evaluated` says whether numbers were checked apart from the programs.
    """

    report: Report
    rows: Sequence[Row] = ()
    run: Run | None = None
    since: float | None = None
    start: int = 0
    whole: Report | None = None
    ledger: Ledger | None = None
    bill: Bill = field(default_factory=Bill)
    outlook: Outlook = field(default_factory=Outlook)
    calls: tuple[str, ...] = ()
    evaluated: bool | None = None
    certainty: Certainty | None = None

    def to_json(self) -> dict[str, object]:
        spent = {"ledger": self.ledger.to_json()} if self.ledger else {}
        certain = self.certainty and self.certainty.of_best
        certified = {"certified": to_json(certain) if certain else None}
        bill = {"bill": to_json(self.bill), "calls": list(self.calls)}
        return to_json(self.report) | certified | bill | spent


def to_json(value: object) -> dict[str, object]:
    """Return the fields and the properties of a dataclass by their names, those of its members too."""
    assert is_dataclass(value)
    properties = [name for name, _ in getmembers(type(value), lambda found: isinstance(found, property))]
    names = [*(each.name for each in fields(value)), *properties]
    return {name: _plain(getattr(value, name)) for name in names}


def _plain(value: object) -> object:
    if is_dataclass(value):
        return to_json(value)
    if isinstance(value, Mapping):
        return dict(value)
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


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

    `before` is the best before them, where they are not the first of their run. `spent` is what the run's
    models have cost in all, also for what never became a row; nothing at all says that none was asked.
    The baseline is the first kept row if it is number 0 or called so: where the first training crashed, it is
    unknown what the program was worth before. Of equal values the later is the best, because it was kept for
    its simplicity.
    """
    counts = Counter(row.status for row in rows)
    keeps = [
        (row, row.value, best_before)
        for row, best_before in zip(rows, bests_before(rows, goal), strict=True)
        if row.status is Status.KEEP and row.value is not None
    ]
    best = min(reversed(keeps), key=lambda keep: goal.sign * keep[1], default=None)
    gains = [
        Gain(row.number, row.commit, row.description, gain(best_before, value, goal))
        for row, value, best_before in keeps
        if best_before is not None
    ]
    trained = [row.training_seconds for row in rows if row.training_seconds is not None]
    waits = [row.waited for row in rows if row.waited is not None]
    return Report(
        tag=tag,
        metric=metric,
        goal=goal,
        keep=counts[Status.KEEP],
        discard=counts[Status.DISCARD],
        crash=counts[Status.CRASH],
        quarantine=counts[Status.QUARANTINE],
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
        families=rates_of(rows, goal),
        queue_empty=sum(wait > EMPTY_SECONDS for wait in waits) if waits else None,
        waited_seconds=sum(waits) if waits else None,
        taken_over=sum(row.is_taken_over and row.status is not Status.SKIP for row in rows),
        spent=None if spent == Cost() else spent,
        before=before,
    )


def _is_baseline(row: Row) -> bool:
    return row.number == 0 or "baseline" in (row.commit.lower(), row.description.lower()[:8])


def read_wakeup_report(
    journal: Journal,
    run: Run,
    *,
    until: float,
    since: float | None = None,
    gpu_price: float | None = None,
    stuck_after: int = STUCK_AFTER,
    ready: str = "",
) -> WakeUpReport:
    """Return what the run brought from `since`, or from its start, to `until`, seconds since the epoch.

    `ready` is what is known to be tried next.
    """
    undecided = journal.undecided(run.id)
    rows = read_rows(journal, run.id)
    # They are read in this order: what is decided meanwhile is in both.
    known: list[Row | Experiment] = [*undecided, *rows]
    rows = rows[: decided_by(journal, run.id, until)]
    first = 0 if since is None else decided_by(journal, run.id, since)
    spent = Budget(journal).of_run(run.id, until=until)
    whole = make_report(rows, metric=run.metric, goal=run.goal, tag=run.tag, spent=spent)
    report, start = whole, 0
    if first:
        best = next((row for row in reversed(rows[:first]) if row.status is Status.KEEP), None)
        start = best.number if best else 0
        report = make_report(
            rows[first:],
            metric=run.metric,
            goal=run.goal,
            tag=run.tag,
            spent=Budget(journal).of_run(run.id, since=since or 0.0, until=until),
            before=best.value if best else None,
        )
    ledger = read_ledger(journal, run, now=until, since=since, experiments=known)
    has_gpu = gpu_price is not None or any(row.memory_gb for row in rows)
    gpu_seconds = sum(ledger.seconds[cause] for cause in _GPU_IN_USE) if has_gpu else None
    report = replace(report, under_way=len(undecided))
    return WakeUpReport(
        report=report,
        rows=rows,
        run=run,
        since=since if first else None,
        start=start,
        whole=replace(whole, under_way=len(undecided)) if first else None,
        ledger=ledger,
        evaluated=are_evaluated(journal, run.id) if rows else None,
        bill=Bill(report.gain, report.dollars, gpu_seconds, gpu_price, report.like),
        outlook=_outlook(journal, run, rows, undecided, ready=ready, stuck_after=stuck_after),
        calls=tuple(call.reason for call in open_calls(journal, run, until=until)),
        certainty=read_certainty(journal, run, until=until),
    )


def _outlook(
    journal: Journal,
    run: Run,
    rows: Sequence[Row],
    undecided: Sequence[Experiment],
    *,
    ready: str,
    stuck_after: int,
) -> Outlook:
    if run.state is RunState.STOPPED:
        return Outlook()
    ideas = IdeaBox(journal).waiting(run.id)
    repeated = [f"repeat of #{begun.repeat.number}" for begun in Repeats(journal).under_way(run.id)]
    return Outlook(
        idea=ideas[0] if ideas else None,
        ready=ready,
        under_way=", ".join([*(f"#{each.number} {each.description}" for each in undecided), *repeated]),
        idle=idle(rows),
        search_mode=search_mode(journal.experiments(run.id, last=_STUCK_ROWS), after=stuck_after),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus(Counts):
    """A run's state, the experiment under way, the best so far and the counts.

    `experiment`, `stage` and `description` are None between trainings. Where the training is a repeat of that
    experiment, `repeat` says which one, of so many `repeats` that were asked for together. Times are seconds
    since the epoch; `best_at` is when the last kept experiment was decided; `away_seconds` is how long it was
    paused or without a bot so far. `queue_empty`, `dollars` and `tokens` are as in `Report`, `calls` and
    `certainty` as in `WakeUpReport`. Of several `lanes` it is the one whose experiment was begun first.
    """

    tag: str
    state: RunState
    reason: Reason | None
    metric: str
    experiment: int | None
    stage: Stage | None
    description: str | None
    training_since: float | None
    progress: Progress | None
    best: float | None
    best_number: int | None
    best_at: float | None
    baseline: float | None
    started_at: float
    heartbeat_at: float | None
    queue_empty: int = 0
    dollars: float | None = None
    tokens: int | None = None
    repeat: int | None = None
    repeats: int | None = None
    calls: tuple[str, ...] = ()
    certainty: Certainty | None = None
    away_seconds: float = 0.0
    lanes: tuple[LaneStatus, ...] = ()


def run_status(journal: Journal, run: Run, *, worktree: Path) -> RunStatus:
    undecided = journal.undecided(run.id)
    lanes, repeats = lane_statuses(journal, run, worktree=worktree), Repeats(journal)
    busy = [lane for lane in lanes if lane.experiment is not None]
    first = min(busy, key=lambda lane: (lane.repeat, lane.experiment), default=LaneStatus(0))
    begun = next((each for each in repeats.under_way(run.id) if each.lane == first.lane), None)
    place = repeats.place(begun.repeat) if begun and first.repeat else (None, None)
    best = journal.best(run.id)
    baseline = journal.baseline(run.id)
    counts = journal.counts(run.id)
    spent = Budget(journal).of_run(run.id)
    asked = spent != Cost()
    return RunStatus(
        tag=run.tag,
        state=run.state,
        reason=run.reason,
        metric=run.metric,
        experiment=first.experiment,
        stage=first.stage,
        description=first.description,
        training_since=first.training_since,
        progress=first.progress,
        best=best.value if best else None,
        best_number=best.number if best else None,
        best_at=best.decided_at if best else None,
        baseline=baseline.value if baseline else None,
        keep=counts[Status.KEEP],
        discard=counts[Status.DISCARD],
        crash=counts[Status.CRASH],
        quarantine=counts[Status.QUARANTINE],
        skipped=counts[Status.SKIP],
        started_at=run.created_at,
        heartbeat_at=journal.last_beat(),
        queue_empty=waited_longer(journal, run.id, EMPTY_SECONDS),
        dollars=spent.dollars if asked else None,
        tokens=spent.tokens if asked else None,
        repeat=place[0],
        repeats=place[1],
        calls=tuple(call.reason for call in open_calls(journal, run)),
        certainty=read_certainty(journal, run, with_keeps=False),
        under_way=len(undecided),
        away_seconds=away_seconds(journal, run),
        lanes=lanes,
        taken_over=count_taken_over(journal, run.id),
    )
