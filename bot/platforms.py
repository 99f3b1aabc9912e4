"""The registry of platforms, and the chats that the settings name: commands come in, messages go out."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, tzinfo
from typing import Any

from bot.access import Access
from bot.front import Answer, FrontHealth, Platform
from bot.setup.settings import Settings
from bot.slack import SLACK
from bot.telegram import TELEGRAM
from loop.experiment import Event, Run
from loop.process.worker import in_thread
from loop.results.report import RunStatus
from loop.store.journal import Journal
from loop.store.outbox import refusals
from notifiers.delivery.delivery import Delivery
from notifiers.delivery.live_card import LiveCards
from notifiers.delivery.preferences import PreferenceStore
from notifiers.delivery.rate_limit import Clock, Spacing
from notifiers.message import Channel, Message

log = logging.getLogger(__name__)

PLATFORMS = (TELEGRAM, SLACK)
"""Each is this one entry and the folder that makes it."""

RESTART_SECONDS = 60.0
"""A part that fails unexpectedly is started again after this."""

Service = Callable[[], Coroutine[Any, Any, None]]


def access_by(settings: Settings, platforms: Sequence[Platform] = PLATFORMS) -> Access:
    return Access({platform.name: platform.allowed(settings) for platform in platforms})


class Chats:
    """Serves every chat of the settings; none of them can hold up the experiments or another chat.

    `status` reads how a run stands, in a worker thread; `report` is as in `Delivery`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        journal: Journal,
        preferences: PreferenceStore,
        status: Callable[[Run], RunStatus],
        report: Callable[[Event], Awaitable[Message | None]],
        zone: tzinfo,
        platforms: Sequence[Platform] = PLATFORMS,
    ) -> None:
        self._settings = settings
        self._platforms = platforms
        self._journal = journal
        self._preferences = preferences
        self._status = status
        self._report = report
        self._zone = zone
        self._clock = Clock()
        self._fronts: dict[str, Callable[[], FrontHealth]] = {}
        self._deliveries: dict[str, Delivery] = {}
        self._mistakes: list[str] = []  # in the settings, as lines of `/health`

    async def run(self, answer: Answer) -> None:
        """Serve until cancelled; `answer` is the inbox."""
        async with AsyncExitStack() as stack:
            services = [*self._connect(stack, answer), *self._others()]
            tasks = [asyncio.create_task(_keep(service)) for service in services]
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                for task in tasks:
                    task.cancel()
                if tasks:
                    await asyncio.wait(tasks)

    def health(self) -> list[str]:
        """Return a line for each front end and each channel with trouble, and the last refusals."""
        lines = list(self._mistakes)
        for name, health in self._fronts.items():
            now = health()
            seen = "never connected" if now.last_seen is None else f"last seen {self._at(now.last_seen)}"
            trouble = (now.error or "connecting").rstrip(".")
            state = "connected" if now.connected else f"not connected: {trouble}"
            lines.append(f"{'ok  ' if now.connected else 'FAIL'}  {name}: {state}; {seen}")
        for name, delivery in self._deliveries.items():
            if delivery.trouble is not None:
                since = self._at(delivery.trouble.since)
                lines.append(f"FAIL  {name}: nothing delivered since {since}: {delivery.trouble.reason}")
        refused = refusals(self._journal, last=3)
        lines += [f"warn  {no.channel}: refused at {self._at(no.at)}: {no.reason}" for no in refused]
        return lines

    def _connect(self, stack: AsyncExitStack, answer: Answer) -> list[Service]:
        services: list[Service] = []
        for platform in self._platforms:
            connection = platform.connect(self._settings, answer, self._clock)
            if connection is None:
                continue
            if connection.close is not None:
                stack.push_async_callback(connection.close)
            self._fronts[platform.name.capitalize()] = connection.health
            services.append(connection.run)
            for channel, spacing in connection.channels:
                services += self._place(channel, spacing, with_card=True)
        return services

    def _others(self) -> list[Service]:
        urls = self._settings.apprise_urls.get_secret_value().split(",")
        return [functools.partial(self._other, url.strip()) for url in urls if url.strip()]

    async def _other(self, url: str) -> None:
        from notifiers.channels.apprise_channel import AppriseChannel

        try:
            channel = await in_thread(AppriseChannel, url)  # its import takes a second
        except ValueError as error:
            self._mistakes.append(f"FAIL  APPRISE_URLS: one of them {error}")
            log.error("%s", self._mistakes[-1])  # noqa: TRY400 - a sentence for people
            return
        (serve,) = self._place(channel, Spacing(clock=self._clock), with_card=False)
        await serve()

    def _place(self, channel: Channel, spacing: Spacing, *, with_card: bool) -> list[Service]:
        keeper = None
        if with_card:
            keeper = LiveCards(
                channel,
                self._journal,
                status=self._status,
                spacing=spacing,
                zone=self._zone,
                clock=self._clock,
            )
        delivery = Delivery(
            channel,
            self._journal,
            preferences=lambda: self._preferences.get(channel.name),
            thread=keeper.thread if keeper else None,
            report=self._report,
            spacing=spacing,
            clock=self._clock,
            zone=self._zone,
        )
        self._deliveries[channel.name] = delivery
        return [delivery.run, keeper.run] if keeper else [delivery.run]

    def _at(self, when: float) -> str:
        return f"{datetime.fromtimestamp(when, self._zone):%Y-%m-%d %H:%M}"


async def _keep(service: Service) -> None:
    while True:
        task = asyncio.create_task(service())
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
            await asyncio.wait({task})
        error = task.exception()
        if error is None:
            return
        log.error("a part of the chats failed and will be restarted", exc_info=error)
        await asyncio.sleep(RESTART_SECONDS)
