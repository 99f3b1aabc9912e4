"""Time, as an argument: so that tests need not wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """The time of day, a time that is never set back, and a way to wait. All in seconds.

    `now` counts from the epoch. Spans are measured with `monotonic`: a corrected clock must not make anybody
    wait for an hour.
    """

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
