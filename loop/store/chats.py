"""What is kept of chats: how each channel wants to be told things, and the requests that were obeyed."""

from __future__ import annotations

from loop.store.journal import Journal


def read_preferences(journal: Journal, channel: str) -> str | None:
    """Return what `write_preferences` was given last, None for a channel that never ordered anything."""
    rows = journal.query("SELECT value FROM preferences WHERE channel = ?", channel)
    return str(rows[0]["value"]) if rows else None


def write_preferences(journal: Journal, channel: str, value: str) -> None:
    """Keep a channel's preferences, inside of a transaction; what they mean is up to `notifiers`."""
    journal.execute("INSERT OR REPLACE INTO preferences VALUES (?, ?)", channel, value)


def remember_request(journal: Journal, key: str, *, now: float, seconds: float) -> bool:
    """Remember a request for so many seconds; say whether it is new: platforms deliver some twice."""
    with journal.transaction():
        if journal.query("SELECT 1 FROM requests WHERE key = ?", key):
            return False
        journal.execute("INSERT INTO requests VALUES (?, ?)", key, now)
        journal.execute("DELETE FROM requests WHERE at < ?", now - seconds)
    return True
