"""What all front ends have in common."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bot.access import Request
from notifiers.channel import ChannelError, RateLimitedError, UnreachableError

log = logging.getLogger(__name__)

ANSWER_WAITS = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Seconds between the attempts to show an answer while the platform is in trouble."""


@dataclass(frozen=True, slots=True)
class FrontHealth:
    """Whether the platform is reached, when it last gave a sign of life, and what is wrong if anything is.

    `last_seen` is in seconds since the epoch, None before the first sign.
    """

    connected: bool
    last_seen: float | None
    error: str


async def show_answer(show: Callable[[], Awaitable[None]], request: Request, waits: Sequence[float]) -> None:
    """Show an answer; while the platform is in trouble, again after each of `waits`.

    One that is refused, or that all attempts fail for, is given up with a line in the log.
    """
    for wait in (*waits, None):
        try:
            await show()
        except (RateLimitedError, UnreachableError) as error:
            if wait is None:
                _give_up(request, error)
            else:
                await asyncio.sleep(error.seconds if isinstance(error, RateLimitedError) else wait)
        except ChannelError as error:
            _give_up(request, error)
            return
        else:
            return


def _give_up(request: Request, error: ChannelError) -> None:
    sender, asked = request.sender, request.text[:80]
    log.warning(
        "%s: the answer to %s in %s was not shown: %s",
        sender.platform.capitalize(),
        asked,
        sender.place,
        error,
    )
