"""Waiting for a state file that cannot be used for now: another program locks it, the disk is full."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TypeVar

from loop.errors import backoff

log = logging.getLogger(__name__)
_T = TypeVar("_T")

PATIENCE = 10.0  # seconds that a command line waits; a bot waits until it is told to end
BUSY_SECONDS = 0.2  # that SQLite itself waits for a lock: few, as nothing can interrupt it
WAITS = (0.1, 0.2, 0.5, 1.0, 2.0)
_LOCKED = ("another program locks it", "close that program, such as a backup or an SQLite browser")
_CAUSES = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
    sqlite3.SQLITE_FULL: ("the disk is full", "free some space, such as checkpoints that trainings left"),
    sqlite3.SQLITE_IOERR: ("the disk is full or fails", "free some space, or see the system's log"),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "put its folder back, or free some space on the disk"),
    sqlite3.SQLITE_READONLY: ("it is read-only", "make it and its folder writable again"),
}
"""What passes by itself or when a person fixes it. Every other error is raised at once."""

_MOVED = ("it was moved or replaced", "put it back, or restart the bot")


class MovedError(sqlite3.OperationalError):
    """The file is not where it was: what is written to it now would be lost with the process."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why nothing can be written for now, with the fix; `since` is in seconds since the epoch."""

    since: float
    cause: str
    fix: str

    def __str__(self) -> str:
        return f"{self.cause}: {self.fix}"


class Patience:
    """Tries again what failed because the file at `path` cannot be used for now.

    Up to `seconds` for each attempt, and not after `ending` is set. `blocked` is about writing.
    """

    def __init__(
        self, path: Path, seconds: float, ending: threading.Event, clock: Callable[[], float]
    ) -> None:
        self.blocked: Blocked | None = None
        self._path = path
        self._seconds = seconds
        self._ending = ending
        self._clock = clock

    def attempt(self, action: Callable[[], _T], *, writes: bool) -> _T:
        end = time.monotonic() + self._seconds
        if writes and self.blocked is not None and self._ending.is_set():
            raise sqlite3.OperationalError(self.blocked.cause)  # without another look, which takes its time
        for failures in count(1):
            try:
                result = action()
            except sqlite3.OperationalError as error:
                why = _why(error, writes=writes)
                if why is None or self._ending.is_set() or time.monotonic() > end:
                    raise
                if writes and failures > 1:  # the first is over in a moment, mostly
                    self._block(*why)
                self._ending.wait(backoff(WAITS, failures))
            else:
                break
        if writes and self.blocked is not None:
            log.warning("%s can be written again", self._path)
            self.blocked = None
        return result

    def _block(self, cause: str, fix: str) -> None:
        before = self.blocked
        if before is None or before.cause != cause:
            self.blocked = Blocked(before.since if before else self._clock(), cause, fix)
            log.warning("%s cannot be written, as %s; waiting", self._path, self.blocked)


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells this file from another one of the same name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _why(error: sqlite3.OperationalError, *, writes: bool) -> tuple[str, str] | None:
    """Return cause and fix of what waiting helps against."""
    if isinstance(error, MovedError):
        return _MOVED
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return None if code == sqlite3.SQLITE_READONLY and not writes else _CAUSES.get(code)
