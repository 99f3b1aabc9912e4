"""What a run brought between two moments, what that cost, and what comes next: all of a wake-up report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from loop.experiment import Experiment, Run, RunState, Status
from loop.proposers.policy import AFTER, idle, search_mode
from loop.proposers.protocol import SearchMode
from loop.results.ledger import Ledger, Spent, all_of, read_ledger
from loop.results.report import Report, make_report
from loop.store.experiments import Row, decided_by, read_rows
from loop.store.ideas import Idea, IdeaBox
from loop.store.journal import Journal
from loop.store.notes import open_calls
from loop.store.spending import Budget

_HELD = (Spent.TRAINING, Spent.OVERHEAD, Spent.CRASHED, Spent.INTERRUPTED)
_STUCK_ROWS = 200


@dataclass(frozen=True, slots=True)
class Bill:
    """What a night cost.

    `models` is None where none was asked, `gpu_seconds` how long trainings held the GPU, None where nobody
    knows, and `gpu_price` is in dollars an hour.
    """

    gain: float | None = None
    models: float | None = None
    gpu_seconds: float | None = None
    gpu_price: float | None = None

    @property
    def gpu_dollars(self) -> float | None:
        """What the GPU cost."""
        if self.gpu_seconds is None or self.gpu_price is None:
            return None
        return self.gpu_seconds / 3600 * self.gpu_price

    @property
    def dollars(self) -> float | None:
        """What is known to have cost money, together; None where nothing is."""
        known = [dollars for dollars in (self.models, self.gpu_dollars) if dollars is not None]
        return sum(known) if known else None

    @property
    def dollars_per_thousandth(self) -> float | None:
        """Dollars for each 0.001 of gain; None without both."""
        return self._each(self.dollars)

    @property
    def gpu_seconds_per_thousandth(self) -> float | None:
        """Seconds of the GPU for each 0.001 of gain; None without both."""
        return self._each(self.gpu_seconds)

    def to_json(self) -> dict[str, object]:
        """Return every number under its own name."""
        return {
            "gpu_hours": None if self.gpu_seconds is None else self.gpu_seconds / 3600,
            "gpu_dollars": self.gpu_dollars,
            "model_dollars": self.models,
            "dollars": self.dollars,
            "dollars_per_thousandth": self.dollars_per_thousandth,
            "gpu_seconds_per_thousandth": self.gpu_seconds_per_thousandth,
        }

    def _each(self, amount: float | None) -> float | None:
        return amount / self.gain / 1000 if amount is not None and self.gain and self.gain > 0 else None


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

    `rows` are those of the whole run and `whole` is the report on them, None where the night is all of it.
    `since` is when the night began, None with the run; `start` is the number of the best before the night.
    `calls` are the reasons for which a person is still needed, the oldest first.
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

    def to_json(self) -> dict[str, object]:
        """Return the numbers of the report, with the bill and the ledger where there is one."""
        spent = {"ledger": self.ledger.to_json()} if self.ledger else {}
        return self.report.to_json() | {"bill": self.bill.to_json(), "calls": list(self.calls)} | spent


def read_wakeup_report(
    journal: Journal,
    run: Run,
    *,
    until: float,
    since: float | None = None,
    gpu_price: float | None = None,
    stuck_after: int = AFTER,
    ready: str = "",
) -> WakeUpReport:
    """Return what the run brought from `since`, or from its start, to `until`, seconds since the epoch.

    `ready` is what is known to be tried next.
    """
    undecided = journal.undecided(run.id)
    rows = read_rows(journal, run.id)
    known = all_of(undecided, rows)
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
    return WakeUpReport(
        report=report,
        rows=rows,
        run=run,
        since=since if first else None,
        start=start,
        whole=whole if first else None,
        ledger=ledger,
        bill=Bill(
            gain=report.gain,
            models=report.dollars,
            gpu_seconds=sum(ledger.seconds[cause] for cause in _HELD),
            gpu_price=gpu_price,
        ),
        outlook=_outlook(journal, run, rows, undecided, ready=ready, stuck_after=stuck_after),
        calls=tuple(call.reason for call in open_calls(journal, run, until=until)),
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
    experiments = journal.experiments(run.id, last=_STUCK_ROWS)
    ideas = IdeaBox(journal).waiting(run.id)
    return Outlook(
        idea=ideas[0] if ideas else None,
        ready=ready,
        under_way=", ".join(f"#{each.number} {each.description}" for each in undecided),
        idle=idle(rows),
        search_mode=search_mode(experiments, after=stuck_after),
    )
