"""Sends a channel what happened: events of the journal in, messages out, in order, none lost."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo

from loop.errors import backoff
from loop.experiment import Event, Run
from loop.process.worker import in_thread
from loop.store.experiments import IdeaBox
from loop.store.journal import Journal
from loop.store.outbox import Outbox, State, last_sent
from notifiers.channels.tracker import SERVICES
from notifiers.delivery.next_message import Pending, Record, Send, next_step
from notifiers.delivery.preferences import Preferences, is_quiet
from notifiers.delivery.rate_limit import CHANNEL_WAITS, Clock, Spacing
from notifiers.message import Channel, GoneError, Message, RateLimitedError, RefusedError, UnreachableError
from notifiers.text.notification import Topic, read_notifications

log = logging.getLogger(__name__)

LOOK_AGAIN = 60.0
"""Seconds after which what is held is looked at again: the morning comes without an event."""

EVENTS = 5000
HELD = 1000
"""How many events and how many held notifications are looked at in one go."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why nothing reaches a channel, and since when, in seconds since the epoch."""

    since: float
    reason: str


class Delivery:
    """Follows the journal for one channel and sends it what it wants to be told.

    The next step is always planned anew from what is on disk, and recorded when it is done: whatever breaks
    in between, at most the message in flight is sent again. A new channel is told what happens from now on.

    `preferences` are asked before every step. A message about a run answers the one whose id `thread`
    returns; one about an experiment whose idea came from this channel answers that message.
    `report` makes the report on an event, None where it cannot. `zone` is the bot's own; `jitter` gives
    numbers from 0 to 1.
    """

    def __init__(
        self,
        channel: Channel,
        journal: Journal,
        *,
        preferences: Callable[[], Preferences] = Preferences,
        thread: Callable[[Run], Awaitable[str]] | None = None,
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
        self._report = report
        self._clock = clock or Clock()
        self._spacing = spacing or Spacing(clock=self._clock)
        self._zone = zone
        self._jitter = jitter
        self._outbox = Outbox(journal, channel.name, now=self._clock.now)
        self._failures = 0
        self.trouble: Trouble | None = None

    async def run(self) -> None:
        written = asyncio.Event()
        loop = asyncio.get_running_loop()

        def notice() -> None:  # called in the thread that wrote to the journal
            loop.call_soon_threadsafe(written.set)

        self._journal.listeners.append(notice)
        try:
            while True:
                written.clear()
                await self.catch_up()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN):
                        await written.wait()
        finally:
            self._journal.listeners.remove(notice)

    async def catch_up(self) -> None:
        """Deliver everything that is due, however long the channel takes to take it."""
        await in_thread(self._outbox.open)
        while step := await in_thread(self._next):
            if isinstance(step, Record):
                await in_thread(self._outbox.record, step.entries)
            else:
                await self._try(step)

    def _next(self) -> Record | Send | None:
        preferences, now = self._preferences(), self._clock.now()
        quiet = is_quiet(preferences.quiet, now, self._zone)
        pending = read_pending(self._journal, self._outbox, held=not quiet)
        if quiet and any(each.news.topic is Topic.REPORT for each in pending):
            pending = read_pending(self._journal, self._outbox, held=True)  # it covers them too
        return next_step(pending, preferences, quiet=quiet, now=now, zone=self._zone)

    async def _try(self, step: Send) -> None:
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

    async def _send(self, step: Send) -> str:
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

    async def _message(self, step: Send) -> Message:
        """Return what is sent: where it can be made, the report in the place of the line about it."""
        if self._report is None or step.report is None:
            return step.message
        made = await self._report(step.report)
        if made is None:
            return step.message
        return replace(made, text=made.text + step.late, silent=step.message.silent)

    async def _root(self, step: Send) -> str:
        if step.experiment is not None and step.experiment.idea is not None:
            idea = await in_thread(IdeaBox(self._journal).get, step.experiment.idea)
            if idea.channel == self._channel.name and idea.message_id:
                return idea.message_id
        if self._thread is not None and step.run is not None:
            return await self._thread(step.run)
        return ""

    async def _back_off(self, reason: str) -> None:
        if self.trouble is None:
            log.warning("%s is unreachable: %s", self._channel.name, reason)
            self.trouble = Trouble(self._clock.now(), reason)
        self.trouble = replace(self.trouble, reason=reason)
        self._failures += 1
        await self._clock.sleep(backoff(CHANNEL_WAITS, self._failures, jitter=self._jitter()))

    def _recovered(self) -> None:
        if self.trouble is not None:
            log.info("%s is reachable again", self._channel.name)
        self.trouble, self._failures = None, 0

    async def _put_aside(self, step: Send, reason: str) -> None:
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


def read_pending(journal: Journal, outbox: Outbox, *, held: bool = True) -> list[Pending]:
    """Return what a channel is still to be sent, oldest first; what is held only if `held`."""
    put_off = outbox.put_off(held=held, most=HELD)
    news = read_notifications(journal, [event for event, _ in put_off])
    states = {event.id: state for event, state in put_off}
    pending = [Pending(one, states[one.event.id]) for one in news]
    if len(put_off) < HELD:
        for events in outbox.new(most=EVENTS):  # until one of them is for people
            if news := read_notifications(journal, events):
                return pending + [Pending(one, answered=outbox.has_answer(one.event)) for one in news]
    return pending


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a channel has come: how many notifications wait for it, and when it was last sent one."""

    channel: str
    waiting: int
    told_at: float | None


def standings(journal: Journal) -> list[Standing]:
    """Return the standing of every channel that was ever opened, but for experiment trackers."""
    return [
        Standing(name, len(read_pending(journal, Outbox(journal, name))), told_at)
        for name, told_at in last_sent(journal).items()
        if name.partition(":")[0] not in SERVICES
    ]
