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
_LOCKED = "another program locks it: close that program, such as a backup or an SQLite browser"
_FIXES = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_IOERR: "the disk is full or fails: free some space, or see the system's log",
    sqlite3.SQLITE_CANTOPEN: "its folder is gone or the disk is full: put it back, or free some space",
    sqlite3.SQLITE_READONLY: "it is read-only: make it and its folder writable again",
}
"""What passes by itself or when a person fixes it. Every other error is raised at once."""


class MovedError(sqlite3.OperationalError):
    """The file is not where it was: what is written to it now would be lost with the process."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why nothing can be written for now, with the fix; `since` is in seconds since the epoch."""

    since: float
    reason: str


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
            raise sqlite3.OperationalError(self.blocked.reason)  # without another look, which takes its time
        for failures in count(1):
            try:
                result = action()
            except sqlite3.OperationalError as error:
                reason = _reason(error, writes=writes)
                if not reason or self._ending.is_set() or time.monotonic() > end:
                    raise
                if writes:
                    self._block(reason)
                self._ending.wait(backoff(WAITS, failures))
            else:
                break
        if writes and self.blocked is not None:
            log.warning("%s can be written again", self._path)
            self.blocked = None
        return result

    def _block(self, reason: str) -> None:
        before = self.blocked
        if before is None or before.reason != reason:
            log.warning("%s cannot be written, as %s; waiting", self._path, reason)
            self.blocked = Blocked(before.since if before else self._clock(), reason)


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells this file from another one of the same name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _reason(error: sqlite3.OperationalError, *, writes: bool) -> str:
    """Say what is wrong and what helps; empty where waiting does not help."""
    if isinstance(error, MovedError):
        return "it was moved or replaced: put it back, or restart the bot"
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return "" if code == sqlite3.SQLITE_READONLY and not writes else _FIXES.get(code, "")
