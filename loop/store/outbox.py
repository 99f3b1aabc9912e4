"""What channels were sent, are still to be sent and want to be sent, and the requests that came from them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from loop.experiment import EVERYWHERE, Event, EventKind, RunState
from loop.store.journal import Journal
from loop.store.tables.schema import decode


class State(StrEnum):
    """What became of a piece of news in a channel. The first two are not the end of it."""

    HELD = "held"  # waits for the morning, or for others of its kind
    FOLLOWS = "follows"  # it was in a message about several; its own is to come
    SENT = "sent"
    COLLAPSED = "collapsed"  # sent in a message about several
    MUTED = "muted"  # the channel did not want it, or has it from the answer to a command
    REFUSED = "refused"  # the platform did not take it


_IN_A_MESSAGE = frozenset({State.SENT, State.COLLAPSED, State.REFUSED})


@dataclass(frozen=True, slots=True)
class Entry:
    """What is now known of one event's delivery; `reason` says why it was refused."""

    event_id: int
    state: State
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why nothing reaches a channel, and since when, in seconds since the epoch."""

    since: float
    reason: str


@dataclass(frozen=True, slots=True)
class LastSent:
    """When a channel was last sent something, None for never, and its trouble, None for none.

    `refused` tells whether the platform ever refused a message.
    """

    channel: str
    told_at: float | None
    trouble: Trouble | None
    refused: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that a platform never took; `at` is in seconds since the epoch."""

    channel: str
    event_id: int
    reason: str
    at: float


class Outbox:
    """One channel's part of the tables; `now` gives seconds since the epoch."""

    def __init__(self, journal: Journal, channel: str, *, now: Callable[[], float] = time.time) -> None:
        self._journal = journal
        self._channel = channel
        self._now = now

    # Deliveries

    def open(self) -> None:
        if self._journal.cursor(self._channel) is None:
            self._journal.set_cursor(self._channel, self._journal.last_event())

    def put_off(self, *, held: bool, most: int) -> list[tuple[Event, State]]:
        # Without statistics SQLite would read all that the channel was ever sent, not the few in this index.
        rows = self._journal.query(
            "SELECT events.*, deliveries.state AS delivery "
            "FROM deliveries INDEXED BY deliveries_to_come JOIN events ON events.id = event_id "
            "WHERE channel = ? AND deliveries.state IN ('held', 'follows') "
            "AND (deliveries.state = 'follows' OR ?) ORDER BY event_id LIMIT ?",
            self._channel,
            held,
            most,
        )
        found = []
        for row in rows:
            fields = decode(row)
            state = State(fields.pop("delivery"))
            found.append((Event(**fields), state))
        return found

    def has_answer(self, event: Event) -> bool:
        """Tell whether the answer to a command said in this channel what the event says.

        That a run pauses after its experiment was the answer; that it has paused then, its card shows there.
        """
        if event.data.get("answered_in") in (self._channel, EVERYWHERE):
            return True
        if event.kind is EventKind.RUN_STATE and event.data["state"] == RunState.PAUSED.value:
            rows = self._journal.query(
                "SELECT data FROM events WHERE run_id = ? AND kind = 'run_state' AND id < ? "
                "ORDER BY id DESC LIMIT 1",
                event.run_id,
                event.id,
            )
            before = json.loads(rows[0]["data"]) if rows else {}
            if before.get("state") == RunState.PAUSING.value:
                return before.get("answered_in") == self._channel and bool(self.card(event.run_id))
        return False

    def new(self, *, most: int) -> Iterator[list[Event]]:
        cursor = self._journal.cursor(self._channel) or 0
        while events := self._journal.events_after(cursor, limit=most):
            yield events
            cursor = events[-1].id

    def record(self, entries: Sequence[Entry], *, message_id: str = "") -> None:
        with self._journal.transaction():
            for entry in entries:
                self._journal.insert(
                    "deliveries",
                    unique=("channel", "event_id"),
                    channel=self._channel,
                    **asdict(entry),
                    message_id=message_id if entry.state in _IN_A_MESSAGE else "",
                    at=self._now(),
                )
            self._journal.execute(
                "UPDATE cursors SET event_id = max(event_id, ?) WHERE channel = ?",
                max(entry.event_id for entry in entries),
                self._channel,
            )

    def set_trouble(self, trouble: Trouble | None) -> None:
        """Keep why nothing arrives, for a look at the journal without a bot."""
        with self._journal.transaction():
            self._journal.execute(
                "UPDATE cursors SET trouble = ?, trouble_since = ? WHERE channel = ?",
                trouble.reason if trouble else "",
                trouble.since if trouble else None,
                self._channel,
            )

    # Cards

    def card(self, run_id: int) -> str:
        rows = self._journal.query(
            "SELECT message_id FROM cards WHERE channel = ? AND run_id = ?", self._channel, run_id
        )
        return str(rows[0]["message_id"]) if rows else ""

    def open_cards(self) -> dict[int, str]:
        rows = self._journal.query(
            "SELECT run_id, message_id FROM cards WHERE channel = ? AND NOT closed", self._channel
        )
        return {int(row["run_id"]): str(row["message_id"]) for row in rows}

    def put_card(self, run_id: int, message_id: str, *, closed: bool = False) -> None:
        """Note which message is the run's card; a `closed` one never changes again."""
        with self._journal.transaction():
            card = {"channel": self._channel, "run_id": run_id, "message_id": message_id, "closed": closed}
            self._journal.insert("cards", unique=("channel", "run_id"), **card)

    def drop_card(self, run_id: int, message_id: str) -> None:
        with self._journal.transaction():
            self._journal.execute(
                "DELETE FROM cards WHERE channel = ? AND run_id = ? AND message_id = ?",
                self._channel,
                run_id,
                message_id,
            )


def told_experiment(journal: Journal, channel: str, message_id: str, *, at: float) -> tuple[int, int] | None:
    """Return the run and the number of the experiment that a message of this channel was about.

    A run's card, in whose thread its messages are, is about the one that was told last until then.
    """
    rows = journal.query(
        "SELECT DISTINCT run_id, number FROM deliveries JOIN events ON events.id = event_id "
        "WHERE channel = ? AND message_id = ? AND number IS NOT NULL LIMIT 2",
        channel,
        message_id,
    )
    if not rows:
        rows = journal.query(
            "SELECT run_id, number FROM deliveries JOIN events ON events.id = event_id "
            "JOIN cards USING (channel, run_id) "
            "WHERE channel = ? AND cards.message_id = ? AND kind = 'decided' AND deliveries.state = 'sent' "
            "AND deliveries.at <= ? ORDER BY event_id DESC LIMIT 1",
            channel,
            message_id,
            at,
        )
    return (int(rows[0][0]), int(rows[0][1])) if len(rows) == 1 else None


def told_run(journal: Journal, channel: str, message_id: str) -> int | None:
    """Return the run that a message of this channel is about: its card, told of it, or in its topic."""
    topic = message_id[: message_id.find("/") + 1]  # see `RunTopics`
    rows = journal.query(
        "SELECT run_id FROM cards WHERE channel = ? AND message_id = ? "
        "UNION SELECT run_id FROM cards "
        "WHERE channel = ? || ':topics' AND ? != '' AND instr(message_id, ?) = 1 "
        "UNION SELECT run_id FROM deliveries JOIN events ON events.id = event_id "
        "WHERE channel = ? AND message_id = ? LIMIT 2",
        *(channel, message_id, channel, topic, topic, channel, message_id),
    )
    return int(rows[0]["run_id"]) if len(rows) == 1 else None


def last_sent(journal: Journal) -> list[LastSent]:
    rows = journal.query(
        "SELECT channel, trouble, trouble_since, "
        "(SELECT at FROM deliveries WHERE deliveries.channel = cursors.channel "
        "AND state = 'sent' ORDER BY event_id DESC LIMIT 1) AS told_at, "
        "channel IN (SELECT channel FROM deliveries WHERE state = 'refused') AS refused "
        "FROM cursors ORDER BY channel"
    )
    return [
        LastSent(
            row["channel"],
            row["told_at"],
            None if row["trouble_since"] is None else Trouble(row["trouble_since"], row["trouble"]),
            bool(row["refused"]),
        )
        for row in rows
    ]


def refusals(journal: Journal, *, last: int = 10) -> list[Refusal]:
    rows = journal.query(
        "SELECT channel, event_id, reason, at FROM deliveries WHERE state = 'refused' "
        "ORDER BY at DESC, event_id DESC LIMIT ?",
        last,
    )
    return [Refusal(row["channel"], row["event_id"], row["reason"], row["at"]) for row in rows[::-1]]


def read_preferences(journal: Journal, channel: str) -> str | None:
    rows = journal.query("SELECT value FROM preferences WHERE channel = ?", channel)
    return str(rows[0]["value"]) if rows else None


def write_preferences(journal: Journal, channel: str, value: str) -> None:
    """Keep a channel's preferences, inside of a transaction; what they mean is up to `notifiers`."""
    journal.insert("preferences", unique=("channel",), channel=channel, value=value)


def remember_request(journal: Journal, key: str, *, now: float, seconds: float) -> bool:
    """Remember a request for so many seconds; say whether it is new: platforms deliver some twice."""
    with journal.transaction():
        if journal.query("SELECT 1 FROM requests WHERE key = ?", key):
            return False
        journal.insert("requests", key=key, at=now)
        journal.execute("DELETE FROM requests WHERE at < ?", now - seconds)
    return True
