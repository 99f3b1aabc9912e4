"""What people are told once, however long it stays so and however often the bot is started again.

What a person is called for is known by its run, cause and key, never by the sentence that tells of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import TypeAlias

from loop.experiment import Cause, EventKind, Run, RunState
from loop.store.journal import Journal

WATCHED = frozenset({Cause.DISK_SHORT, Cause.LOOP, Cause.NO_PROPOSAL})
"""The heartbeat looks whether these are over, and says so with an event."""

_HAS_STATES = frozenset({Cause.PROPOSER, Cause.BUDGET})  # over with another state
_AWAITS_ORDER = frozenset({Cause.REPOSITORY})  # over when the run goes on
_TURNS = (
    EventKind.NEEDS_ATTENTION,
    EventKind.RESOLVED,
    EventKind.NOTED,
    EventKind.RUN_RECOVERED,
    EventKind.RUN_STATE,
)


@dataclass(frozen=True, slots=True)
class Call:
    """What a person is called for; `cause` is None in an event of an earlier release that did not tell it."""

    cause: Cause | None
    key: str
    reason: str


_Calls: TypeAlias = dict[tuple[Cause | None, str], Call]


class Notes:
    """Sentences in a run's history, each about something that has states: a model can be asked or not."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def state(self, run_id: int, cause: Cause, key: str = "") -> str | None:
        """Return the state that people were told of last, None where they were told nothing about it."""
        rows = self._journal.query(
            "SELECT data FROM events WHERE run_id = ? AND kind IN (?, ?) ORDER BY id DESC",
            run_id,
            EventKind.NOTED,
            EventKind.NEEDS_ATTENTION,
        )
        notes = (json.loads(row["data"]) for row in rows)
        about = (cause, key)
        return next((note["state"] for note in notes if "state" in note and _about(note) == about), None)

    def tell(
        self, run_id: int, cause: Cause, state: str, reason: str, *, key: str = "", urgent: bool = False
    ) -> bool:
        """Tell `reason`, a clause, unless this state was told last; say whether it was told now.

        `urgent` is for what only a person can help with.
        """
        with self._journal.transaction() as append:
            if self.state(run_id, cause, key) == state:
                return False
            kind = EventKind.NEEDS_ATTENTION if urgent else EventKind.NOTED
            append(run_id, kind, cause=cause, key=key, state=state, reason=reason)
        return True


def open_calls(journal: Journal, run: Run, *, until: float = inf) -> tuple[Call, ...]:
    """Return what a person is still needed for, the oldest first, as far as no event tells that it is over.

    What the heartbeat watches is over when it says so, what has states with another one. All else is over
    when the run recovered, was told to go on or brought a number again.
    """
    if run.state is RunState.STOPPED:
        return ()
    (row,) = journal.query(
        "SELECT max(decided_at) FROM experiments INDEXED BY experiments_by_status "
        "WHERE run_id = ? AND status IN ('keep', 'discard') AND decided_at <= ?",
        run.id,
        until,
    )
    fine_at = row[0] or 0.0
    marks = ", ".join("?" * len(_TURNS))
    events = journal.query(
        f"SELECT at, kind, data FROM events WHERE run_id = ? AND kind IN ({marks}) AND at <= ? ORDER BY id",  # noqa: S608
        run.id,
        *_TURNS,
        until,
    )
    calls: _Calls = {}
    for event in events:
        _turn(calls, EventKind(event["kind"]), json.loads(event["data"]), over=event["at"] <= fine_at)
    return tuple(calls.values())


def _turn(calls: _Calls, kind: EventKind, data: Mapping[str, object], *, over: bool) -> None:
    cause, key = about = _about(data)
    stays = cause in WATCHED | _HAS_STATES | _AWAITS_ORDER
    if kind is EventKind.RESOLVED or "state" in data:
        calls.pop(about, None)
    if kind is EventKind.NEEDS_ATTENTION and (stays or not over):
        calls[about] = Call(cause, key, str(data["reason"]))
    elif kind is EventKind.RUN_RECOVERED:
        _drop(calls, WATCHED - {Cause.LOOP} | _HAS_STATES | _AWAITS_ORDER)
    elif kind is EventKind.RUN_STATE and data["state"] == RunState.RUNNING:
        _drop(calls, WATCHED | _HAS_STATES)
    elif kind is EventKind.RUN_STATE and data["state"] == RunState.DONE:
        for watched in [about for about in calls if about[0] in WATCHED]:
            del calls[watched]  # nobody looks any more


def _drop(calls: _Calls, but: frozenset[Cause]) -> None:
    for about in [about for about in calls if about[0] not in but]:
        del calls[about]


def _about(data: Mapping[str, object]) -> tuple[Cause | None, str]:
    """Return cause and key of an event; one without a cause is known by all that it says."""
    cause = data.get("cause")
    if cause is None:
        return None, str(data.get("reason", ""))
    return Cause(str(cause)), str(data.get("key", ""))
