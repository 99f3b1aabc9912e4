"""Keeps the live cards of a channel true, and the topics of runs in a group that has topics."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import datetime, tzinfo
from typing import Protocol, runtime_checkable

from loop.errors import backoff
from loop.experiment import Run, RunState
from loop.process.worker import in_thread
from loop.results.report import RunStatus
from loop.store.journal import Journal
from loop.store.outbox import Outbox
from notifiers.delivery.delivery import set_by_events
from notifiers.delivery.rate_limit import CHANNEL_WAITS, Clock, Spacing
from notifiers.message import Channel, GoneError, Message, RateLimitedError, RefusedError, UnreachableError
from notifiers.text.status import card

log = logging.getLogger(__name__)

INTERVAL = 10.0  # seconds between two looks at the runs, and so at least between two edits
_LIVELY = frozenset({RunState.RUNNING, RunState.PAUSING, RunState.PAUSED})


@runtime_checkable
class Forum(Channel, Protocol):
    """A channel that can have topics."""

    async def open_topic(self, name: str) -> str:
        """Make a topic; what answers the id that is returned goes there."""

    async def rename_topic(self, topic: str, name: str) -> None: ...


@dataclass(eq=False)
class RunTopics:
    """Makes the topic of a run before its card, and renames it with the run.

    The journal keeps it as a card of the channel's `topics`: the topic's id, then its name.
    """

    forum: Forum
    journal: Journal
    _: KW_ONLY
    clock: Clock

    def __post_init__(self) -> None:
        self._kept = Outbox(self.journal, f"{self.forum.name}:topics")
        self._refused: set[int] = set()  # runs that have none, as their channel was told

    async def of(self, run: Run) -> str:
        """Return what a message that is to stand in the run's topic answers; empty where it has none.

        Raises:
            ChannelError: it cannot be made now.
        """
        kept = await in_thread(self._kept.card, run.id)
        if kept or run.id in self._refused:
            return kept and _topic(kept)
        try:
            topic = await self.forum.open_topic(run.tag)
        except RefusedError as error:
            log.warning("%s: run %s has no topic of its own: %s", self.forum.name, run.tag, error)
            await self.forum.send(Message(no_topic(run.tag, str(error)), silent=True))
            self._refused.add(run.id)
            return ""
        await in_thread(self._kept.put_card, run.id, topic + run.tag)
        return topic

    async def run(self) -> None:
        while True:
            await self.clock.sleep(INTERVAL)
            await self.rename()

    async def rename(self) -> None:
        for run, topic in await in_thread(self._renamed):
            try:
                await self.forum.rename_topic(topic, run.tag)
            except (RateLimitedError, UnreachableError) as error:
                log.debug("%s: a topic is renamed later: %s", self.forum.name, error)
                return
            except RefusedError as error:
                log.info("%s: a topic keeps its name: %s", self.forum.name, error)
            await in_thread(self._kept.put_card, run.id, topic + run.tag)

    def _renamed(self) -> list[tuple[Run, str]]:
        kept = self._kept.open_cards()
        runs = [run for run in self.journal.runs() if run.id in kept]
        return [(run, _topic(kept[run.id])) for run in runs if kept[run.id] != _topic(kept[run.id]) + run.tag]


def no_topic(tag: str, reason: str) -> str:
    return (
        f"Run {tag} is reported here, not in a topic of its own: {reason[:1].lower()}{reason[1:]}. "
        "Turn topics on and let the bot manage them, as an admin; or set TELEGRAM_TOPICS=off."
    )


def _topic(kept: str) -> str:
    return kept[: kept.index("/") + 1]


@dataclass(eq=False)
class LiveCards:
    """Keeps the cards of one channel true: made, pinned, edited, made anew where one is deleted.

    An edit never holds anything up: what cannot be shown now is shown later, as it is then.
    `status` reads how a run stands; it is called in a worker thread. `spacing` is shared with the channel's
    delivery, whose messages go first; `shown` is as in `Delivery`. With `topics` each card is in the topic
    of its run.
    """

    channel: Channel
    journal: Journal
    _: KW_ONLY
    status: Callable[[Run], RunStatus]
    spacing: Spacing
    zone: tzinfo
    clock: Clock = field(default_factory=Clock)
    topics: RunTopics | None = None
    shown: Callable[[Message], Message] = lambda message: message
    jitter: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        self._outbox = Outbox(self.journal, self.channel.name, now=self.clock.now)
        self._lock = asyncio.Lock()
        self._shown: dict[int, Message] = {}  # by run: what its card says since this process started
        self._edited: dict[int, float] = {}
        self._states: dict[int, RunState] = {}
        self._unpinned: list[str] = []
        self._refused: dict[int, float] = {}  # by run whose card was refused: until when no look tries again

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_states())
            tasks.create_task(self._look_often())

    async def _follow_states(self) -> None:
        """Show at once a new run, and what a command does to one: a press gets no other answer."""
        with set_by_events(self.journal) as written:
            while True:
                await written.wait()
                written.clear()
                if await in_thread(self._has_turned):
                    with suppress(UnreachableError):
                        await self.refresh(pins=False)  # a pin would take the turn of what a press waits for

    def _has_turned(self) -> bool:
        before = [(self._states.get(run.id), run) for run in self.journal.runs()]
        for _, run in before:
            self._states.setdefault(run.id, run.state)  # a new one once: what fails is tried at the next look
        return any(old is not run.state if old else run.state in _LIVELY for old, run in before)

    async def _look_often(self) -> None:
        failures = 0
        while True:
            try:
                await self.refresh()
                failures = 0
            except UnreachableError as error:
                failures += 1
                log.debug("the card in %s has to wait: %s", self.channel.name, error)
            wait = backoff(CHANNEL_WAITS, failures, jitter=self.jitter())
            await self.clock.sleep(max(INTERVAL, wait))

    async def refresh(self, *, pins: bool = True) -> None:
        """Show what has changed, as far as the channel takes it now; where it `pins`, that comes first.

        Raises:
            UnreachableError: the platform does not answer.
        """
        async with self._lock:
            if pins:
                await self._pin()
            for run, message, last in await in_thread(self._changed):
                if not self.spacing.spare():
                    return
                try:
                    await self._show(run, message, last=last)
                except RateLimitedError as error:
                    self.spacing.pause(error.seconds)
                    return

    async def thread(self, run: Run) -> str:
        """Return the id of the run's card, made where there is none; empty if the platform refuses it.

        Raises:
            ChannelError: the card cannot be made now.
        """
        async with self._lock:
            message_id = await in_thread(self._outbox.card, run.id)
            # One that was refused is tried again with each message: the channel may be back.
            if not message_id:
                message, last = await in_thread(self._card, run)
                await self.spacing.turn()
                await self._show(run, message, last=last)
                message_id = await in_thread(self._outbox.card, run.id)
            return message_id

    def _changed(self) -> list[tuple[Run, Message, bool]]:
        cards = self._outbox.open_cards()
        due = []
        for run in self.journal.runs():
            wanted = run.id in cards or (run.state in _LIVELY and not self._outbox.card(run.id))
            if wanted and self._refused.get(run.id, 0.0) <= self.clock.now():
                message, last = self._card(run)
                if message != self._shown.get(run.id) or run.id not in cards:
                    due.append((run, message, last))
        return sorted(due, key=lambda each: self._edited.get(each[0].id, 0.0))  # each gets its turn

    def _card(self, run: Run) -> tuple[Message, bool]:
        """Return what the card says, and whether for good: what a stopped run trains has ended by then."""
        status = self.status(run)
        last = status.state is RunState.STOPPED and status.stage is None and not status.under_way
        return self.shown(card(status, zone=self.zone)), last

    async def _show(self, run: Run, message: Message, *, last: bool) -> None:
        now = self.clock.now()
        dated = replace(
            message, text=f"{message.text}\nupdated {datetime.fromtimestamp(now, self.zone):%H:%M}"
        )
        message_id = await in_thread(self._outbox.card, run.id)
        try:
            if message_id:
                await self.channel.edit(message_id, dated)
            else:
                topic = await self.topics.of(run) if self.topics else ""
                message_id = await self.channel.send(dated, reply_to=topic)
                self._unpinned.append(message_id)
        except RefusedError as error:
            if message_id and isinstance(error, GoneError):
                await in_thread(self._outbox.drop_card, run.id, message_id)  # made anew next time
                self._unpinned = [other for other in self._unpinned if other != message_id]
                return
            if run.id not in self._refused:
                log.warning("%s does not take the card of run %s: %s", self.channel.name, run.tag, error)
            self._refused[run.id] = now + CHANNEL_WAITS[-1]
        else:
            self._refused.pop(run.id, None)
            await in_thread(self._outbox.put_card, run.id, message_id, closed=last)
            self._shown[run.id], self._edited[run.id], self._states[run.id] = message, now, run.state

    async def _pin(self) -> None:
        while self._unpinned and self.spacing.spare():
            try:
                await self.channel.pin(self._unpinned[0])
            except RateLimitedError as error:
                self.spacing.pause(error.seconds)
                return
            except RefusedError as error:
                log.info("%s does not pin the card: %s", self.channel.name, error)
            del self._unpinned[0]
