"""Models that cannot be asked just now: left alone for a while, and told of once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from enum import StrEnum

from loop.experiment import Cause
from loop.proposers.protocol import OutOfReachError
from loop.store.notes import Notes

BACKOFF = (60.0, 300.0, 900.0)
"""Seconds to leave a model alone after its first, second, … failure in a row; the last for ever."""

REST = 300.0
"""Seconds for which a model that has no ideas of its own is not asked for any."""


class Reach(StrEnum):
    """Whether a model can be asked, as people were told."""

    AWAY = "away"
    LOST = "lost"  # until a person helps
    BACK = "back"


class Outages:
    """Which models can be asked, by name.

    People are told when one goes out of reach and when it is back, also where the bot was started again in
    between. `clock` counts seconds. Blocks for SQLite: use `failed` and `answered` in a worker thread.
    """

    def __init__(self, notes: Notes, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._notes = notes
        self._clock = clock
        self._failures: dict[str, int] = {}  # in a row
        self._rest_until: dict[str, float] = {}
        self._idle_until: dict[str, float] = {}

    def may_ask(self, name: str) -> bool:
        """Say whether the model need not be left alone."""
        return self._clock() >= self._rest_until.get(name, -math.inf)

    def is_healthy(self, name: str) -> bool:
        """Say whether the model has not failed since it answered last."""
        return name not in self._failures

    def failed(self, run_id: int, name: str, error: OutOfReachError) -> None:
        """Note that the model could not be asked, and leave it alone for a while."""
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        rest = max(BACKOFF[min(failures, len(BACKOFF)) - 1], error.retry_after or 0.0)
        self._rest_until[name] = self._clock() + rest
        reason = f"{name} is out of reach, the run goes on without it: {error}"
        if error.needs_person:
            self._notes.tell(run_id, Cause.PROPOSER, Reach.LOST, reason, key=name, urgent=True)
        elif self._told(run_id, name) != Reach.LOST:
            self._notes.tell(run_id, Cause.PROPOSER, Reach.AWAY, reason, key=name)

    def rest(self, name: str) -> None:
        """Note that the model has no ideas of its own just now. That is no outage: nobody is told."""
        self._idle_until[name] = self._clock() + REST

    def may_have_ideas(self, name: str) -> bool:
        """Say whether to ask the model for ideas of its own, as far as it can be asked at all."""
        return self._clock() >= self._idle_until.get(name, -math.inf)

    def answered(self, run_id: int, name: str) -> None:
        """Note that the model can be asked."""
        self._failures.pop(name, None)
        self._rest_until.pop(name, None)
        if self._told(run_id, name) in (Reach.AWAY, Reach.LOST):
            reason = f"{name} is within reach again"
            self._notes.tell(run_id, Cause.PROPOSER, Reach.BACK, reason, key=name)

    def _told(self, run_id: int, name: str) -> str | None:
        return self._notes.state(run_id, Cause.PROPOSER, name)
