"""What people want to be tried: kept until an experiment is made of it."""

from __future__ import annotations

from dataclasses import dataclass

from loop.journal import Journal


@dataclass(frozen=True, slots=True)
class Idea:
    """A person's idea for a run.

    `channel` and `message_id` are where it was said, so that its outcome can be told there; empty where there
    is no such place.
    """

    id: int
    run_id: int
    text: str
    author: str
    channel: str
    message_id: str


class IdeaBox:
    """The ideas in the journal. One is waiting until an experiment refers to it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def add(self, run_id: int, text: str, *, author: str, channel: str = "", message_id: str = "") -> Idea:
        """Keep an idea; ids count over all runs."""
        with self._journal.transaction():
            self._journal.execute(
                "INSERT INTO ideas (run_id, text, author, channel, message_id) VALUES (?, ?, ?, ?, ?)",
                run_id,
                text,
                author,
                channel,
                message_id,
            )
            (row,) = self._journal.query("SELECT * FROM ideas ORDER BY id DESC LIMIT 1")
        return Idea(*row)

    def get(self, idea_id: int) -> Idea:
        """Return the idea of that id, which must exist."""
        (row,) = self._journal.query("SELECT * FROM ideas WHERE id = ?", idea_id)
        return Idea(*row)

    def waiting(self, run_id: int) -> tuple[Idea, ...]:
        """Return the run's ideas that no experiment was made of yet, the oldest first."""
        rows = self._journal.query(
            "SELECT * FROM ideas WHERE run_id = ? AND id NOT IN "
            "(SELECT idea FROM experiments WHERE run_id = ? AND idea IS NOT NULL) ORDER BY id",
            run_id,
            run_id,
        )
        return tuple(Idea(*row) for row in rows)
