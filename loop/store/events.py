"""The history: events of a run, what went wrong lately, what still needs a person, the sessions of the bot.

What a person is called for is known by its run, cause and key, never by the sentence about it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import TypeAlias

from loop.experiment import Cause, Event, EventKind, Run, RunState
from loop.store.experiments import last_number_at
from loop.store.journal import Journal
from loop.store.tables.schema import decode

SIGN_SECONDS = 30.0  # a bot gives a sign of life this often; a kill can hide this much of its end
SILENCE_SECONDS = 120.0  # a session that gave no sign for so long is taken for dead


@dataclass(frozen=True, slots=True)
class Incident:
    """What went wrong in the run `tag`, or was put in order; `at` is in seconds since the epoch."""

    at: float
    kind: EventKind
    tag: str
    reason: str


def events_of(journal: Journal, run_id: int, kinds: Iterable[EventKind], *, last: int = -1) -> list[Event]:
    """Return the events of a run that are of these kinds, or the `last` ones of them, oldest first."""
    rows = journal.query(
        "SELECT * FROM events "
        "WHERE run_id = ? AND kind IN (SELECT value FROM json_each(?)) ORDER BY id DESC LIMIT ?",
        run_id,
        json.dumps([*kinds]),
        last,
    )
    return [Event(**decode(row)) for row in reversed(rows)]


def last_event_of(journal: Journal, run_id: int, kinds: Iterable[EventKind]) -> Event | None:
    return next(iter(events_of(journal, run_id, kinds, last=1)), None)


def skip_answered_in(journal: Journal, run_id: int, number: int) -> str:
    """Return the channel that has the answer to the command to skip this; empty for none."""
    asked = last_event_of(journal, run_id, (EventKind.SKIP_REQUESTED,))
    return str(asked.data.get("answered_in", "")) if asked and asked.number == number else ""


def has_events_after(journal: Journal, run_id: int, event_id: int) -> bool:
    return bool(journal.query("SELECT 1 FROM events WHERE run_id = ? AND id > ? LIMIT 1", run_id, event_id))


def last_incidents(journal: Journal, *, most: int) -> list[Incident]:
    rows = journal.query(
        "SELECT events.at, events.kind, runs.tag, json_extract(data, '$.reason') AS reason "
        "FROM events JOIN runs ON runs.id = events.run_id "
        "WHERE kind IN ('run_recovered', 'needs_attention') "
        "OR (kind = 'interrupted' AND json_extract(data, '$.vanished')) "
        "ORDER BY events.id DESC LIMIT ?",
        most,
    )
    return [Incident(row["at"], EventKind(row["kind"]), row["tag"], str(row["reason"])) for row in rows[::-1]]


WATCHED = frozenset({Cause.DISK_SHORT, Cause.LOOP, Cause.NO_PROPOSAL})
"""The heartbeat looks whether these are over, and says so with an event."""

_HAS_STATES = frozenset({Cause.PROPOSER, Cause.BUDGET})  # over with another state
_AWAITS_ORDER = frozenset({Cause.REPOSITORY})  # over when the run goes on
_AWAITS_VERDICT = frozenset({Cause.QUARANTINE})  # over when a person has given it
_TURNS = (
    EventKind.NEEDS_ATTENTION,
    EventKind.RESOLVED,
    EventKind.NOTED,
    EventKind.RUN_RECOVERED,
    EventKind.RUN_STATE,
)


@dataclass(frozen=True, slots=True)
class Call:
    """What a person is called for since `at`; `cause` is None in an event of an earlier release."""

    cause: Cause | None
    key: str
    reason: str
    at: float = field(default=0.0, compare=False)


_Calls: TypeAlias = dict[tuple[Cause | None, str], Call]


class Notes:
    """Sentences in a run's history, each about something that has states: a model can be asked or not."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def state(self, run_id: int, cause: Cause, key: str = "") -> str | None:
        recorded = events_of(self._journal, run_id, (EventKind.NOTED, EventKind.NEEDS_ATTENTION))
        notes = (event.data for event in reversed(recorded) if "state" in event.data)
        return next((str(note["state"]) for note in notes if _about(note) == (cause, key)), None)

    def tell(
        self, run_id: int, cause: Cause, state: str, reason: str, *, key: str = "", urgent: bool = False
    ) -> bool:
        """Record `reason`, a clause, unless this state was the last; `urgent` if only a person can help."""
        with self._journal.transaction() as append:
            if self.state(run_id, cause, key) == state:
                return False
            kind = EventKind.NEEDS_ATTENTION if urgent else EventKind.NOTED
            append(run_id, kind, cause=cause, key=key, state=state, reason=reason)
        return True


def open_calls(journal: Journal, run: Run, *, until: float = inf) -> tuple[Call, ...]:
    """Return what a person is still needed for, the oldest first, as far as no event says that it is over.

    What the heartbeat watches is over when it says so, what has states with another one. All else is over
    when the run recovered, was resumed or brought a number again.
    """
    if run.state is RunState.STOPPED:
        return ()
    events = [event for event in events_of(journal, run.id, _TURNS) if event.at <= until]
    if not events:  # as mostly: `/status` asks, and what comes next looks at all experiments
        return ()
    fine_at = last_number_at(journal, run.id, until=until) or 0.0
    calls: _Calls = {}
    for event in events:
        _turn(calls, event, over=event.at <= fine_at)
    return tuple(calls.values())


def remind(journal: Journal, run: Run, *, now: float, after: float) -> None:
    """Append a reminder of each call that is open for so many seconds, once a call."""
    due = [call for call in open_calls(journal, run) if now - call.at >= after]
    told = events_of(journal, run.id, (EventKind.REMINDED,)) if due else []
    last = {_about(event.data): event.at for event in told}
    new = [call for call in due if last.get(_key(call), 0.0) < call.at]
    if new:
        with journal.transaction() as append:
            for call in new:
                data = {"cause": call.cause, "key": call.key, "reason": call.reason}
                append(run.id, EventKind.REMINDED, **data)


def _key(call: Call) -> tuple[Cause | None, str]:
    return (call.cause, call.key) if call.cause else (None, call.reason)


def _turn(calls: _Calls, event: Event, *, over: bool) -> None:
    kind, data = event.kind, event.data
    cause, key = about = _about(data)
    stays = cause in WATCHED | _HAS_STATES | _AWAITS_ORDER | _AWAITS_VERDICT
    if kind is EventKind.RESOLVED or "state" in data:
        calls.pop(about, None)
    if kind is EventKind.NEEDS_ATTENTION and (stays or not over):
        calls[about] = Call(cause, key, str(data["reason"]), event.at)
    elif kind is EventKind.RUN_RECOVERED:
        _drop(calls, WATCHED - {Cause.LOOP} | _HAS_STATES | _AWAITS_ORDER | _AWAITS_VERDICT)
    elif kind is EventKind.RUN_STATE and data["state"] == RunState.RUNNING:
        _drop(calls, WATCHED | _HAS_STATES | _AWAITS_VERDICT)
    elif kind is EventKind.RUN_STATE and data["state"] == RunState.DONE:
        for watched in [about for about in calls if about[0] in WATCHED]:
            del calls[watched]  # the heartbeat looks at it no longer


def _drop(calls: _Calls, but: frozenset[Cause]) -> None:
    for about in [about for about in calls if about[0] not in but]:
        del calls[about]


def _about(data: Mapping[str, object]) -> tuple[Cause | None, str]:
    cause = data.get("cause")
    if cause is None:
        return None, str(data.get("reason", ""))
    return Cause(str(cause)), str(data.get("key", ""))


@dataclass(frozen=True, slots=True)
class Session:
    """A life of the bot process; `ended_at` is None while it lives, and for ever where it was killed.

    `boot` names the boot of the machine, empty where boots have no name. `seen_at` is the last sign of life.
    """

    id: int
    boot: str
    pid: int
    started_at: float
    seen_at: float
    ended_at: float | None = None


class Sessions:
    """The sessions in the journal; one bot at a time works on it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def begin(self, *, boot: str) -> Session:
        now, pid = self._journal.clock(), os.getpid()
        with self._journal.transaction():
            id_ = self._journal.insert("sessions", boot=boot, pid=pid, started_at=now, seen_at=now)
        return Session(id_, boot, pid, now, now)

    def seen(self, session: Session) -> None:
        with self._journal.transaction():
            seen = "UPDATE sessions SET seen_at = ? WHERE id = ?"
            self._journal.execute(seen, self._journal.clock(), session.id)

    def end(self, session: Session) -> None:
        now = self._journal.clock()
        with self._journal.transaction():
            self._journal.execute(
                "UPDATE sessions SET seen_at = ?, ended_at = ? WHERE id = ?", now, now, session.id
            )

    def all(self) -> list[Session]:
        return [Session(*row) for row in self._journal.query("SELECT * FROM sessions ORDER BY id")]
