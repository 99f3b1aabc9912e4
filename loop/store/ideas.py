"""What people want to be tried: kept until an experiment is made of it."""

from __future__ import annotations

from dataclasses import dataclass

from loop.experiment import EventKind, Experiment
from loop.store.journal import Journal


@dataclass(frozen=True, slots=True)
class Idea:
    """A person's idea for a run.

    `channel` and `message_id` are where it was said, so that its outcome can be told there; empty where there
    is no such place. `given_up` says why no experiment will be made of it, empty while one may.
    """

    id: int
    run_id: int
    text: str
    author: str
    channel: str
    message_id: str
    given_up: str = ""


class IdeaBox:
    """The ideas in the journal. One is waiting until an experiment refers to it or it is given up."""

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

    def give_up(self, idea: Idea, reason: str) -> None:
        """Note that no experiment will be made of the idea, and tell people why, as a clause."""
        told = f"idea #{idea.id} of {idea.author} is given up: {reason}"
        with self._journal.transaction() as append:
            self._journal.execute("UPDATE ideas SET given_up = ? WHERE id = ?", reason, idea.id)
            append(idea.run_id, EventKind.NOTED, reason=told)

    def get(self, idea_id: int) -> Idea:
        (row,) = self._journal.query("SELECT * FROM ideas WHERE id = ?", idea_id)
        return Idea(*row)

    def waiting(self, run_id: int) -> tuple[Idea, ...]:
        """Return the run's ideas that no experiment was made of yet, the oldest first."""
        rows = self._journal.query(
            "SELECT * FROM ideas WHERE run_id = ? AND given_up = '' AND id NOT IN "
            "(SELECT idea FROM experiments WHERE run_id = ? AND idea IS NOT NULL) ORDER BY id",
            run_id,
            run_id,
        )
        return tuple(Idea(*row) for row in rows)

    def texts(self, run_id: int) -> frozenset[str]:
        rows = self._journal.query("SELECT text FROM ideas WHERE run_id = ?", run_id)
        return frozenset(row["text"] for row in rows)

    def made(self, run_id: int, *, last: int) -> list[tuple[Idea, Experiment]]:
        """Return the run's ideas that experiments were made of, the newest first, each with its last one."""
        rows = self._journal.query(
            "SELECT ideas.*, max(experiments.number) AS number FROM experiments "
            "JOIN ideas ON ideas.id = experiments.idea WHERE experiments.run_id = ? "
            "GROUP BY ideas.id ORDER BY number DESC LIMIT ?",
            run_id,
            last,
        )
        made = self._journal.experiments_at(run_id, [row["number"] for row in rows])
        experiments = {experiment.number: experiment for experiment in made}
        return [(Idea(*row[:-1]), experiments[row["number"]]) for row in rows]
