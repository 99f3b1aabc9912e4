"""Keeps two bots of one machine from using one token at once."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)


class TokenInUseError(Exception):
    """Another process holds the lock; the text names it."""


@contextmanager
def lock_token(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; the system lets go of it however the process ends.

    A folder in which nothing can be locked is no reason not to work.

    Raises:
        TokenInUseError: another process holds it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        log.info("%s cannot be locked: %s", path, error.strerror)
        yield
        return
    try:
        _claim(lock)
        yield
    finally:
        os.close(lock)


def _claim(lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(lock, 32, 0).decode(errors="replace").strip()
        raise TokenInUseError(f"process {owner or 'unknown'}") from None
    except OSError as error:  # a file system without locks
        log.info("no lock on this token: %s", error.strerror)
        return
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
