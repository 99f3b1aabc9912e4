"""How fast a platform may be spoken to, and how long to leave it alone when it does not answer."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """The time of day, a time that is never set back, and a way to wait. All in seconds.

    `now` counts from the epoch. Spans are measured with `monotonic`: a corrected clock must not cause a
    wait of an hour.
    """

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


CHANNEL_WAITS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0)
"""Seconds to leave a channel alone that cannot be reached."""


class Window:
    """At most `count` messages in any `seconds`; channels that share a limit share the object."""

    def __init__(self, count: int, seconds: float) -> None:
        self._seconds = seconds
        self._taken: deque[float] = deque(maxlen=count)

    def free_at(self) -> float:
        full = len(self._taken) == self._taken.maxlen
        return self._taken[0] + self._seconds if full else float("-inf")

    def take(self, now: float) -> None:
        self._taken.append(now)


class Spacing:
    """Keeps what is sent to one channel within all of `windows`.

    A message waits for its `turn`; an edit that can as well be made later asks for a `spare` one, which it
    never gets while a message waits.
    """

    def __init__(self, *windows: Window, clock: Clock) -> None:
        self._windows = windows
        self._clock = clock
        self._closed_until = float("-inf")
        self._waiting = 0

    async def turn(self) -> None:
        """Wait until a message may go, and take the turn."""
        self._waiting += 1
        try:
            while (wait := self._free_at() - self._clock.monotonic()) > 0:
                await self._clock.sleep(wait)
        finally:
            self._waiting -= 1
        self._take()

    def spare(self) -> bool:
        """Take a turn if no message waits for it; False if there is none."""
        if self._waiting or self._free_at() > self._clock.monotonic():
            return False
        self._take()
        return True

    def pause(self, seconds: float) -> None:
        self._closed_until = max(self._closed_until, self._clock.monotonic() + seconds)

    def _free_at(self) -> float:
        return max([self._closed_until, *(window.free_at() for window in self._windows)])

    def _take(self) -> None:
        for window in self._windows:
            window.take(self._clock.monotonic())


def all_telegram_chats() -> Window:
    """Return what all chats of a bot may have together: 30 messages a second (Telegram's bot FAQ)."""
    return Window(30, 1.0)


def telegram_spacing(all_chats: Window, *, group: bool, clock: Clock) -> Spacing:
    """Return the limits of one chat: a message a second and, in a group, 20 a minute (Telegram's bot FAQ)."""
    windows = [all_chats, Window(1, 1.0)]
    if group:
        windows.append(Window(20, 60.0))
    return Spacing(*windows, clock=clock)


def slack_spacing(*, clock: Clock) -> Spacing:
    """Return the limit of one channel: a message a second (Slack's rate limits of chat.postMessage)."""
    return Spacing(Window(1, 1.0), clock=clock)
