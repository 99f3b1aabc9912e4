"""The lives of the bot process, in the journal: an idle machine is not an absent bot."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from loop.store.journal import Journal

SIGN_SECONDS = 30.0  # a bot gives a sign of life this often; a kill can hide this much of its end
SILENCE_SECONDS = 120.0  # a session that gave no sign for so long is taken for dead


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

    def __init__(self, journal: Journal, *, clock: Callable[[], float] = time.time) -> None:
        self._journal = journal
        self._clock = clock

    def begin(self, *, boot: str) -> Session:
        now, pid = self._clock(), os.getpid()
        with self._journal.transaction():
            id_ = self._journal.insert("sessions", boot=boot, pid=pid, started_at=now, seen_at=now)
        return Session(id_, boot, pid, now, now)

    def seen(self, session: Session) -> None:
        with self._journal.transaction():
            self._journal.execute("UPDATE sessions SET seen_at = ? WHERE id = ?", self._clock(), session.id)

    def end(self, session: Session) -> None:
        now = self._clock()
        with self._journal.transaction():
            self._journal.execute(
                "UPDATE sessions SET seen_at = ?, ended_at = ? WHERE id = ?", now, now, session.id
            )

    def all(self) -> list[Session]:
        return [Session(*row) for row in self._journal.query("SELECT * FROM sessions ORDER BY id")]
