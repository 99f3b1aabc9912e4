"""The downtime ledger: what every moment of a run was spent on, from the journal alone.

Each moment of a lane has exactly one cause. Where several would do, the first of these counts:

1. An attempt that surely ran: until its outcome, whether a bot watched it or not, and one that a person ended
   until that order. A good one is training for as long as it counted itself and overhead for the rest; the
   ledger puts the overhead first. Where it counted nothing it is training. A crash is crashed work, what was
   ended or given up is interrupted work.
2. An attempt without an outcome, while a bot watched it: otherwise it is unknown how long it lived. Under
   way it is training, what its start-up took being unknown yet; once gone it is interrupted work.
3. Waiting: the run was paused, or done with all that it was asked for.
4. No bot: the machine was down where its boot changed meanwhile, else the bot was.
5. Waiting: the loop rested after a streak of crashes or of trainings that vanished, or had ended with an
   error, and a person was notified.
6. Proposing: whatever else is done between two trainings.

The clock may be set back while a run lasts: an event counts as no earlier than the one written before it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest
from math import inf
from operator import attrgetter
from typing import Any, TypeAlias

from loop.experiment import Event, EventKind, Experiment, Run, RunState, Status
from loop.gain import per_step
from loop.store.events import SILENCE_SECONDS, Session, Sessions, events_of
from loop.store.experiments import Row, read_rows
from loop.store.journal import Journal


class Spent(StrEnum):
    """What a moment of a run was spent on."""

    TRAINING = "training"
    OVERHEAD = "overhead"  # a training's start-up and evaluation
    PROPOSING = "proposing"
    CRASHED = "crashed"
    INTERRUPTED = "interrupted"  # given up, or run again
    WAITING = "waiting"  # for a person
    BOT_DOWN = "bot_down"
    MACHINE_DOWN = "machine_down"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time with one cause; `start` is before `end`."""

    start: float
    end: float
    cause: Spent


@dataclass(frozen=True, slots=True)
class Ledger:
    """How the time from `started_at` to `ended_at` was spent in all lanes; `seconds` has every cause."""

    started_at: float
    ended_at: float
    seconds: Mapping[Spent, float]
    lanes: int = 1

    @property
    def total(self) -> float:
        """The seconds of all lanes together."""
        return self.lanes * (self.ended_at - self.started_at)

    @property
    def busy_share(self) -> float | None:
        return self.seconds[Spent.TRAINING] / self.total if self.total else None

    @property
    def running(self) -> float:
        """The seconds in which the run went on, of a lane on average: no pauses, and a bot was there."""
        away = (Spent.WAITING, Spent.BOT_DOWN, Spent.MACHINE_DOWN)
        return (self.total - sum(self.seconds[cause] for cause in away)) / self.lanes

    @property
    def lost(self) -> tuple[tuple[Spent, float], ...]:
        """The seconds that were neither training nor its overhead, by cause, the largest first."""
        work = (Spent.TRAINING, Spent.OVERHEAD)
        lost = [(cause, spent) for cause, spent in self.seconds.items() if spent and cause not in work]
        return tuple(sorted(lost, key=lambda entry: entry[1], reverse=True))

    def to_json(self) -> dict[str, object]:
        return {
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "lanes": self.lanes,
            "total_seconds": self.total,
            "busy_share": self.busy_share,
            "seconds": {cause.value: spent for cause, spent in self.seconds.items()},
            "lost": [{"cause": cause.value, "minutes": spent / 60} for cause, spent in self.lost],
        }


@dataclass(frozen=True, slots=True)
class Bill:
    """What a night cost, `gpu_price` an hour; `like` is a number of the metric. None: unknown, or none."""

    gain: float | None = None
    model_dollars: float | None = None
    gpu_seconds: float | None = None
    gpu_price: float | None = None
    like: float | None = None

    @property
    def gpu_hours(self) -> float | None:
        return None if self.gpu_seconds is None else self.gpu_seconds / 3600

    @property
    def gpu_dollars(self) -> float | None:
        if self.gpu_hours is None or self.gpu_price is None:
            return None
        return self.gpu_hours * self.gpu_price

    @property
    def dollars(self) -> float | None:
        """What is known to have cost money, together; None where nothing is."""
        known = [dollars for dollars in (self.model_dollars, self.gpu_dollars) if dollars is not None]
        return sum(known) if known else None

    @property
    def dollars_per_thousandth(self) -> float | None:
        return per_step(self.dollars, self.gain, self.like)

    @property
    def gpu_seconds_per_thousandth(self) -> float | None:
        return per_step(self.gpu_seconds, self.gain, self.like)


_History: TypeAlias = list[tuple[float, Event]]

_BEGINS = (EventKind.TRAINING, EventKind.REPEAT_TRAINING)
_PUTS_BACK = (EventKind.INTERRUPTED, EventKind.REPEAT_PUT_BACK)
_ENDS = (
    *(EventKind.MEASURED, EventKind.SKIP_REQUESTED, EventKind.REPEATED, EventKind.REPEAT_GIVEN_UP),
    *_PUTS_BACK,
)
_OF_THE_RUN = (
    *(EventKind.RUN_STATE, EventKind.RUN_RECOVERED, EventKind.NEEDS_ATTENTION, EventKind.NOTED),
    EventKind.RESTED,
)


def read_ledger(
    journal: Journal,
    run: Run,
    *,
    now: float,
    since: float | None = None,
    experiments: Sequence[Row | Experiment] | None = None,
) -> Ledger:
    """Return the ledger of a run: until `now`, or until it was stopped or done with all it was asked for.

    It begins with the run, or later, at `since`. All its `experiments` need not be read where they were; of
    one that is among them twice the later counts.
    """
    events = events_of(journal, run.id, (*_BEGINS, *_ENDS, *_OF_THE_RUN))
    if experiments is None:  # read after the events: of each that these tell of something is known
        experiments = [*journal.undecided(run.id), *read_rows(journal, run.id)]
    states = [event for event in events if event.kind is EventKind.RUN_STATE]
    over = states and states[-1].data["state"] in (RunState.STOPPED, RunState.DONE)
    return ledger(
        events,
        experiments,
        Sessions(journal).all(),
        start=max(run.created_at, since or 0.0),
        end=min(states[-1].at, now) if over else now,
    )


def away_seconds(journal: Journal, run: Run) -> float:
    """Return for how long a run that goes on was paused or without a bot, by a few events alone."""
    states, sessions = events_of(journal, run.id, (EventKind.RUN_STATE,)), Sessions(journal).all()
    end = max([run.created_at, *(event.at for event in states), *(session.seen_at for session in sessions)])
    found = ledger(states, (), sessions, start=run.created_at, end=end)
    return found.total - found.running


def ledger(
    events: Iterable[Event],
    experiments: Iterable[Row | Experiment],
    sessions: Sequence[Session],
    *,
    start: float,
    end: float,
) -> Ledger:
    seconds = dict.fromkeys(Spent, 0.0)
    by_lane, by_number = _by_lane([*events]), {trained.number: trained for trained in experiments}
    for of_lane in by_lane:
        for span in spans(of_lane, by_number, sessions, start=start, end=end):
            seconds[span.cause] += span.end - span.start
    return Ledger(start, max(start, end), seconds, len(by_lane))


def _by_lane(events: Sequence[Event]) -> list[list[Event]]:
    """Return what each lane that ever trained saw: its own trainings, and what is of the run as a whole."""
    lanes: dict[int, list[int]] = {}  # places of their own events
    begun: dict[tuple[int | None, object], int] = {}
    of_trainings: set[int] = set()
    for place, event in enumerate(events):
        which = event.number, event.data.get("k")  # two repeats of one experiment may train at once
        if event.kind in _BEGINS:
            begun[which] = int(event.data.get("lane", 0))  # type: ignore[call-overload]
        elif event.kind not in _ENDS:
            continue
        of_trainings.add(place)
        lane = int(event.data.get("lane", begun.get(which, 0)))  # type: ignore[call-overload]
        lanes.setdefault(lane, []).append(place)
    if len(lanes) <= 1:
        return [[*events]]
    whole = {*range(len(events))} - of_trainings
    return [[events[place] for place in sorted(whole.union(own))] for _, own in sorted(lanes.items())]


def spans(
    events: Iterable[Event],
    experiments: Mapping[int, Row | Experiment],
    sessions: Sequence[Session],
    *,
    start: float,
    end: float,
) -> list[Span]:
    """Return the time from `start` to `end` cut into spans, in order and each beginning where one ends.

    `events` are those of the run and `sessions` those of the journal, both as they were written;
    `experiments` are by number. Before the first session a bot is taken to have been there: the journal may
    be older than its sessions.
    """
    history = _steady(events, start=start, end=end)
    gaps = _gaps(sessions, [at for at, _ in history], start=start, end=end)
    layers = (
        _attempts(history, experiments, gaps, end=end),
        _while(history, _rests, end=end),
        gaps,
        _while(history, _halted, end=end),
        _span(start, end, Spent.PROPOSING),
    )
    covered: list[Span] = []
    for layer in layers:
        if left := _cut(layer, covered):
            covered = _in_order(covered + left)
    return covered


def _steady(events: Iterable[Event], *, start: float, end: float) -> _History:
    history, at = [], start
    for event in events:
        at = max(at, min(event.at, end))
        history.append((at, event))
    return history


def _attempts(
    history: _History, experiments: Mapping[int, Row | Experiment], gaps: list[Span], *, end: float
) -> list[Span]:
    """Return the times in which an attempt ran, those in doubt only where no gap is."""
    sure: list[Span] = []
    doubtful: list[Span] = []
    began: float | None = None
    sure_until = end
    for at, event in history:
        if began is None:
            if event.kind in _BEGINS:
                began = sure_until = at
        elif event.kind is EventKind.MEASURED and (trained := experiments.get(event.number or 0)):
            sure += _measured(trained, began, at)  # else it was begun since they were read
            began = None
        elif event.kind is EventKind.REPEATED:
            sure += _measured(_repeated(event.data), began, at)
            began = None
        elif event.kind in _PUTS_BACK or (event.kind is EventKind.REPEAT_GIVEN_UP and event.data.get("k")):
            sure += _span(began, sure_until, Spent.INTERRUPTED)
            doubtful += _span(sure_until, at, Spent.INTERRUPTED)
            began = None
        elif sure_until == began and (event.kind is EventKind.SKIP_REQUESTED or _rests(event)):
            sure_until = at  # by this order: until here it was there to be ended
    if began is not None:
        doubtful += _span(began, end, Spent.TRAINING)
    return _in_order(sure + _cut(doubtful, gaps))


@dataclass(frozen=True, slots=True)
class _Repeated:
    """What the event of a repeat says of its training."""

    status: Status | None
    started_at: float | None
    ended_at: float | None
    training_seconds: float | None


def _repeated(data: Mapping[str, Any]) -> _Repeated:
    status = Status.CRASH if data.get("value") is None else None
    return _Repeated(status, data.get("started_at"), data.get("ended_at"), data.get("training_seconds"))


def _measured(trained: Row | Experiment | _Repeated, began: float, measured: float) -> list[Span]:
    """Return an attempt by the times of its outcome, which lie between those of its events."""
    start = began if trained.started_at is None else min(max(began, trained.started_at), measured)
    end = measured if trained.ended_at is None else min(max(start, trained.ended_at), measured)
    if trained.status is Status.CRASH:
        return _span(start, end, Spent.CRASHED)
    if trained.status is Status.SKIP:
        return _span(start, end, Spent.INTERRUPTED)
    counted = inf if trained.training_seconds is None else max(0.0, trained.training_seconds)
    trains = max(start, end - counted)
    return _span(start, trains, Spent.OVERHEAD) + _span(trains, end, Spent.TRAINING)


def _while(history: _History, tells: Callable[[Event], bool | None], *, end: float) -> list[Span]:
    """Return the times in which the last event that `tells` either way had said yes; all are waiting."""
    found: list[Span] = []
    since: float | None = None
    for at, event in history:
        told = tells(event)
        if told and since is None:
            since = at
        elif told is False and since is not None:
            found += _span(since, at, Spent.WAITING)
            since = None
    return found if since is None else found + _span(since, end, Spent.WAITING)


def _rests(event: Event) -> bool | None:
    if event.kind is EventKind.RUN_STATE:
        return event.data["state"] in (RunState.PAUSED, RunState.DONE, RunState.STOPPED)
    return None


def _halted(event: Event) -> bool | None:
    if event.kind in (*_BEGINS, EventKind.RUN_RECOVERED, EventKind.RUN_STATE):
        return False
    return True if event.data.get("halted") else None


def _gaps(sessions: Sequence[Session], signs: list[float], *, start: float, end: float) -> list[Span]:
    """Return the times without a session; `signs` are times of events, in order."""
    gaps: list[Span] = []
    alive = start  # the last sign of life so far
    for session, later in zip_longest(sessions, sessions[1:]):
        begins = inf if later is None else later.started_at
        alive = max(alive, _last_sign(session, signs, before=begins))
        rebooted = later is not None and later.boot != session.boot
        cause = Spent.MACHINE_DOWN if rebooted else Spent.BOT_DOWN
        if later is not None or session.ended_at is not None or end - alive > SILENCE_SECONDS:
            gaps += _span(alive, min(begins, end), cause)
    return gaps


def _last_sign(session: Session, signs: list[float], *, before: float) -> float:
    """Return when a session was last known to live: what was written until the next one began is its work."""
    written = bisect_left(signs, before)
    return max(session.started_at, session.seen_at, *signs[written - 1 : written])


def _cut(spans: list[Span], holes: list[Span]) -> list[Span]:
    """Return `spans` without the times of `holes`; all three are in order and without overlaps."""
    if not holes:
        return spans
    kept: list[Span] = []
    first = 0
    for span in spans:
        while first < len(holes) and holes[first].end <= span.start:
            first += 1
        at, index = span.start, first
        while index < len(holes) and (hole := holes[index]).start < span.end:
            if at < hole.start:
                kept.append(Span(at, hole.start, span.cause))
            at = hole.end
            index += 1
        kept += _span(at, span.end, span.cause)
    return kept


def _span(start: float, end: float, cause: Spent) -> list[Span]:
    return [Span(start, end, cause)] if start < end else []


def _in_order(spans: list[Span]) -> list[Span]:
    return sorted(spans, key=attrgetter("start"))
