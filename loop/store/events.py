"""Reads of the history: the events of a run by their kind, and what went wrong lately."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf

from loop.experiment import Event, EventKind
from loop.store.journal import Journal

_KINDS = {kind.value: kind for kind in EventKind}  # a look-up takes less than making the kind anew


@dataclass(frozen=True, slots=True)
class Incident:
    """What went wrong in the run `tag`, or was put in order; `at` is in seconds since the epoch."""

    at: float
    kind: EventKind
    tag: str
    reason: str


def events_of(
    journal: Journal, run_id: int, kinds: Iterable[EventKind], *, until: float = inf
) -> list[Event]:
    """Return the events of a run that are of these kinds, oldest first."""
    rows = journal.query(
        "SELECT id, at, number, kind, data FROM events "
        "WHERE run_id = ? AND kind IN (SELECT value FROM json_each(?)) AND at <= ? ORDER BY id",
        run_id,
        json.dumps([*kinds]),
        until,
    )
    return [
        Event(id_, at, run_id, number, _KINDS[kind], _decode(data)) for id_, at, number, kind, data in rows
    ]


def last_event_of(journal: Journal, run_id: int, kinds: Iterable[EventKind]) -> Event | None:
    rows = journal.query(
        "SELECT id, at, number, kind, data FROM events "
        "WHERE run_id = ? AND kind IN (SELECT value FROM json_each(?)) ORDER BY id DESC LIMIT 1",
        run_id,
        json.dumps([*kinds]),
    )
    for id_, at, number, kind, data in rows:
        return Event(id_, at, run_id, number, _KINDS[kind], _decode(data))
    return None


def has_events_after(journal: Journal, run_id: int, event_id: int) -> bool:
    return bool(journal.query("SELECT 1 FROM events WHERE run_id = ? AND id > ? LIMIT 1", run_id, event_id))


def last_incidents(journal: Journal, *, most: int) -> list[Incident]:
    """Return what went wrong or was put in order lately, the newest last."""
    rows = journal.query(
        "SELECT events.at, events.kind, runs.tag, json_extract(data, '$.reason') AS reason "
        "FROM events JOIN runs ON runs.id = events.run_id "
        "WHERE kind IN ('run_recovered', 'needs_attention') "
        "OR (kind = 'interrupted' AND json_extract(data, '$.vanished')) "
        "ORDER BY events.id DESC LIMIT ?",
        most,
    )
    return [Incident(row["at"], _KINDS[row["kind"]], row["tag"], str(row["reason"])) for row in rows[::-1]]


def _decode(data: str) -> Mapping[str, object]:
    """Return the data of an event. Most have none, and a long run has many of these."""
    found: Mapping[str, object] = {} if data == "{}" else json.loads(data)
    return found
