"""Tells a channel what happened: events of the journal in, messages out, in order, none lost."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo

from loop.errors import backoff
from loop.experiment import Event, Experiment, Run
from loop.process.threads import in_thread
from loop.store.journal import Journal
from loop.store.outbox import Outbox, State
from notifiers.channel import Channel, GoneError, RateLimitedError, RefusedError, UnreachableError
from notifiers.delivery.next_message import Note, Say, next_step
from notifiers.delivery.outbox import read_items
from notifiers.delivery.preferences import Preferences, is_quiet
from notifiers.delivery.rate_limit import CHANNEL_WAITS, Clock, Spacing
from notifiers.message import Message
from notifiers.text.notification import Topic

log = logging.getLogger(__name__)

LOOK_AGAIN = 60.0
"""Seconds after which what is held is looked at again: the morning comes without an event."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a channel is not told anything, and since when, in seconds since the epoch."""

    since: float
    reason: str


class Delivery:
    """Follows the journal for one channel and tells it the news, as it wants to hear it.

    The next step is always planned anew from what is on disk, and recorded when it is done: whatever breaks
    in between, at most the message in flight is told again. A channel never heard of before is told what
    happens from now on.

    `preferences` are asked before every step. A message about a run answers the one whose id `thread`
    returns; one about an experiment that somebody asked for in this channel answers the one that `asked`,
    called in a worker thread, returns. Both may return an empty text. `report` makes the report that an event
    is told with, and returns None where it cannot. `zone` is the bot's own; `jitter` gives numbers from 0 to
    1.
    """

    def __init__(
        self,
        channel: Channel,
        journal: Journal,
        *,
        preferences: Callable[[], Preferences] = Preferences,
        thread: Callable[[Run], Awaitable[str]] | None = None,
        asked: Callable[[Experiment], str] | None = None,
        report: Callable[[Event], Awaitable[Message | None]] | None = None,
        spacing: Spacing | None = None,
        clock: Clock | None = None,
        zone: tzinfo = UTC,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._channel = channel
        self._journal = journal
        self._preferences = preferences
        self._thread = thread
        self._asked = asked
        self._report = report
        self._clock = clock or Clock()
        self._spacing = spacing or Spacing(clock=self._clock)
        self._zone = zone
        self._jitter = jitter
        self._outbox = Outbox(journal, channel.name, now=self._clock.now)
        self._failures = 0
        self.trouble: Trouble | None = None

    async def run(self) -> None:
        """Deliver for ever; end it by cancelling."""
        news = asyncio.Event()
        loop = asyncio.get_running_loop()

        def notice() -> None:  # called in whatever thread wrote to the journal
            loop.call_soon_threadsafe(news.set)

        self._journal.listeners.append(notice)
        try:
            while True:
                news.clear()
                await self.catch_up()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN):
                        await news.wait()
        finally:
            self._journal.listeners.remove(notice)

    async def catch_up(self) -> None:
        """Deliver everything that is due, however long the channel takes to take it."""
        await in_thread(self._outbox.open)
        while step := await in_thread(self._next):
            if isinstance(step, Note):
                await in_thread(self._outbox.record, step.entries)
            else:
                await self._say(step)

    def _next(self) -> Note | Say | None:
        preferences, now = self._preferences(), self._clock.now()
        quiet = is_quiet(preferences.quiet, now, self._zone)
        items = read_items(self._journal, self._outbox, held=not quiet)
        if quiet and any(item.news.topic is Topic.REPORT for item in items):
            items = read_items(self._journal, self._outbox, held=True)  # it tells of them too
        return next_step(items, preferences, now=now, zone=self._zone)

    async def _say(self, step: Say) -> None:
        """Try to send a message; where that fails for a while, return after it."""
        try:
            message_id = await self._send(step)
        except RateLimitedError as error:
            self._spacing.pause(error.seconds)
            await self._clock.sleep(error.seconds)
        except UnreachableError as error:
            await self._back_off(str(error))
        except RefusedError as error:
            await self._put_aside(step, str(error))
        else:
            await in_thread(self._outbox.record, step.entries, message_id=message_id)
            self._recovered()

    async def _send(self, step: Say) -> str:
        root = await self._root(step)
        message = await self._message(step)
        await self._spacing.turn()
        try:
            return await self._channel.send(message, reply_to=root, broadcast=step.for_all)
        except GoneError:
            if not root:
                raise
        if step.run is not None:
            await in_thread(self._outbox.drop_card, step.run.id, root)
        await self._spacing.turn()
        return await self._channel.send(message, broadcast=step.for_all)

    async def _message(self, step: Say) -> Message:
        """Return what is sent: where it can be made, the report in the place of the line about it."""
        if self._report is None or step.report is None:
            return step.message
        made = await self._report(step.report)
        if made is None:
            return step.message
        return replace(made, text=made.text + step.late, silent=step.message.silent)

    async def _root(self, step: Say) -> str:
        """Return the id of the message to answer, empty where there is none."""
        root = ""
        if self._asked is not None and step.experiment is not None:
            root = await in_thread(self._asked, step.experiment)
        if not root and self._thread is not None and step.run is not None:
            root = await self._thread(step.run)
        return root

    async def _back_off(self, reason: str) -> None:
        if self.trouble is None:
            log.warning("%s cannot be told anything: %s", self._channel.name, reason)
            self.trouble = Trouble(self._clock.now(), reason)
        self.trouble = replace(self.trouble, reason=reason)
        self._failures += 1
        await self._clock.sleep(backoff(CHANNEL_WAITS, self._failures, jitter=self._jitter()))

    def _recovered(self) -> None:
        if self.trouble is not None:
            log.info("%s can be told something again", self._channel.name)
        self.trouble, self._failures = None, 0

    async def _put_aside(self, step: Say, reason: str) -> None:
        """Record that the platform will never take this message. What was to follow it still follows."""
        log.warning("%s refused a message: %s", self._channel.name, reason)
        entries = [
            replace(entry, state=State.REFUSED, reason=reason)
            if entry.state in (State.SENT, State.COLLAPSED)
            else entry
            for entry in step.entries
        ]
        await in_thread(self._outbox.record, entries)
        self._recovered()
