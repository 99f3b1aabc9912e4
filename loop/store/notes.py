"""What people are told once, however long it stays so and however often the bot is started again."""

from __future__ import annotations

import json

from loop.experiment import EventKind
from loop.store.journal import Journal


class Notes:
    """Sentences in a run's history, each about something that has states: a model is within reach or not."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def state(self, run_id: int, about: str) -> str | None:
        """Return the state that people were told of last, None where they were told nothing about it."""
        rows = self._journal.query(
            "SELECT data FROM events WHERE run_id = ? AND kind IN (?, ?) ORDER BY id DESC",
            run_id,
            EventKind.NOTED,
            EventKind.NEEDS_ATTENTION,
        )
        notes = (json.loads(row["data"]) for row in rows)
        return next((note["state"] for note in notes if note.get("about") == about), None)

    def tell(self, run_id: int, about: str, state: str, reason: str, *, urgent: bool = False) -> bool:
        """Tell `reason`, a clause, unless this state was told last; say whether it was told now.

        `urgent` is for what only a person can help with.
        """
        with self._journal.transaction() as append:
            if self.state(run_id, about) == state:
                return False
            kind = EventKind.NEEDS_ATTENTION if urgent else EventKind.NOTED
            append(run_id, kind, about=about, state=state, reason=reason)
        return True
