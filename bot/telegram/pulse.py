"""What is heard from Telegram: the watchdog and `/health` go by it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from telegram.error import TelegramError

log = logging.getLogger(__name__)

CONFLICT = "another program uses this bot's token (409): each of the two misses some of the commands"
CONFLICT_MEMORY = 600.0  # seconds after which a conflict is over, and a further one is told again


class Pulse:
    """Notes every request on a line to Telegram, as the `Observer` of its wire.

    `last_seen` is in seconds since the epoch, None before the first answer; `error` is what is wrong, empty
    if nothing is.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._conflict_at = float("-inf")
        self.connected = False
        self.last_seen: float | None = None
        self.error = ""
        self.begin()

    def begin(self) -> None:
        """Start to count for a new line."""
        self.connected = False
        self.refused = asyncio.Event()
        """Set by a 401 or 404: the library gives up for good after either."""
        self.identity_status = 0
        """The HTTP status of the answer to getMe: 401 is about the token, whatever is behind a 404."""
        self.reason = ""
        """Why there was no good answer on this line since the last one."""
        self._heard_at = time.monotonic()

    @property
    def silence(self) -> float:
        """Seconds since the last good answer, or since the line began."""
        return time.monotonic() - self._heard_at

    def observe(self, method: str, outcome: int | TelegramError) -> None:
        """Take note of the status of an answer, or of why there was none."""
        if method == "getMe" and isinstance(outcome, int):
            self.identity_status = outcome
        match outcome:
            case 200:
                self._heard()
            case 409:
                self.conflict()
            case int():
                self._missed(f"Telegram answered {outcome} to {method}")
                if outcome in (401, 404):
                    self.refused.set()
            case _:
                self._missed(outcome.message)

    def fail(self, error: str) -> None:
        """Note that the line does not work, and why."""
        self.connected = False
        self.error = error

    def conflict(self) -> None:
        """Note that the bot's token is used elsewhere; told once, not with every attempt."""
        now = time.monotonic()
        if now - self._conflict_at > CONFLICT_MEMORY:
            log.warning("Telegram: %s; end one of them, or make a bot of its own for each", CONFLICT)
        self._conflict_at = now
        self._missed(CONFLICT)

    def _missed(self, reason: str) -> None:
        self.reason = reason
        self.fail(reason)

    def _heard(self) -> None:
        self.reason = ""
        self._heard_at = time.monotonic()
        self.last_seen = self._now()
        self.connected = True
        if self._heard_at - self._conflict_at > CONFLICT_MEMORY:
            self.error = ""
