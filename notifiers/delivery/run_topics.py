"""A topic of its own for each run, in a group that has topics."""

from __future__ import annotations

import logging
from typing import Protocol, runtime_checkable

from loop.experiment import Run
from loop.process.worker import in_thread
from loop.store.journal import Journal
from loop.store.outbox import Outbox
from notifiers.delivery.rate_limit import Clock
from notifiers.message import Channel, Message, RateLimitedError, RefusedError, UnreachableError

log = logging.getLogger(__name__)

INTERVAL = 10.0
"""Seconds between two looks whether a run has another name."""


@runtime_checkable
class Forum(Channel, Protocol):
    """A channel that can have topics."""

    async def open_topic(self, name: str) -> str:
        """Make a topic; what answers the id that is returned goes there."""

    async def rename_topic(self, topic: str, name: str) -> None: ...


class RunTopics:
    """Makes the topic of a run before its card, and renames it with the run.

    The journal keeps it as a card of the channel's `topics`: the topic's id, then its name.
    """

    def __init__(self, forum: Forum, journal: Journal, *, clock: Clock) -> None:
        self._forum = forum
        self._journal = journal
        self._clock = clock
        self._kept = Outbox(journal, f"{forum.name}:topics")
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
            topic = await self._forum.open_topic(run.tag)
        except RefusedError as error:
            log.warning("%s: run %s has no topic of its own: %s", self._forum.name, run.tag, error)
            await self._forum.send(Message(no_topic(run.tag, str(error)), silent=True))
            self._refused.add(run.id)
            return ""
        await in_thread(self._kept.put_card, run.id, topic + run.tag)
        return topic

    async def run(self) -> None:
        while True:
            await self._clock.sleep(INTERVAL)
            await self.rename()

    async def rename(self) -> None:
        for run, topic in await in_thread(self._renamed):
            try:
                await self._forum.rename_topic(topic, run.tag)
            except (RateLimitedError, UnreachableError) as error:
                log.debug("%s: a topic is renamed later: %s", self._forum.name, error)
                return
            except RefusedError as error:
                log.info("%s: a topic keeps its name: %s", self._forum.name, error)
            await in_thread(self._kept.put_card, run.id, topic + run.tag)

    def _renamed(self) -> list[tuple[Run, str]]:
        kept = self._kept.open_cards()
        runs = [run for run in self._journal.runs() if run.id in kept]
        return [(run, _topic(kept[run.id])) for run in runs if kept[run.id] != _topic(kept[run.id]) + run.tag]


def no_topic(tag: str, reason: str) -> str:
    return (
        f"Run {tag} is reported here, not in a topic of its own: {reason[:1].lower()}{reason[1:]}. "
        "Turn topics on and let the bot manage them, as an admin; or set TELEGRAM_TOPICS=off."
    )


def _topic(kept: str) -> str:
    return kept[: kept.index("/") + 1]
