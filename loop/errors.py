"""The one exception whose text is for people, and how long to wait after a failure."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """Something a person must know, as one sentence with its cause and its fix."""


class DiskError(UserError):
    """The disk is full or fails, which passes or is for a person to fix: what failed is to be tried again."""


def backoff(waits: Sequence[float], failures: int, *, jitter: float = 0.0) -> float:
    """Return the seconds to wait after so many failures in a row: `waits` in turn, then the last of them.

    `jitter` from 0 to 1 takes off up to a half, so that several who failed together do not come back at once.
    """
    return waits[min(max(failures, 1), len(waits)) - 1] * (1 - jitter / 2)
