"""The chats that are configured: a front end for each platform, and for each place what is told there."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

from bot.access import Access, AllowList, Platform, Request, Role
from bot.commands import COMMANDS
from bot.front import FrontHealth
from bot.setup.settings import Settings
from loop.experiment import Event, Run
from loop.process.worker import in_thread
from loop.results.status import RunStatus
from loop.store.journal import Journal
from loop.store.outbox import refusals
from notifiers.channel import Channel
from notifiers.delivery.delivery import Delivery
from notifiers.delivery.live_card import LiveCards
from notifiers.delivery.preferences import PreferenceStore
from notifiers.delivery.rate_limit import Clock, Spacing, all_telegram_chats, slack_spacing, telegram_spacing
from notifiers.message import Message, Reply

log = logging.getLogger(__name__)

RESTART_SECONDS = 60.0
"""A part that fails in a way that nobody foresaw is started again after this."""

_VERBS = tuple(command.name for command in COMMANDS if not command.hidden)

Answer = Callable[[Request], Awaitable[Reply | None]]
Service = Callable[[], Coroutine[Any, Any, None]]


def access_by(settings: Settings) -> Access:
    """Return who may, by the settings."""

    def users(listed: dict[str, Role | None]) -> dict[str, Role]:
        return {name: role or Role.OPERATOR for name, role in listed.items()}

    telegram = AllowList(users(dict(settings.telegram_user_ids)), settings.telegram_chat_ids)
    slack = AllowList(users(dict(settings.slack_user_ids)), settings.slack_channels)
    return Access({Platform.TELEGRAM: telegram, Platform.SLACK: slack})


class Chats:
    """Serves every chat of the settings until cancelled; none of them can hold up the loop or another one.

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
    ) -> None:
        self._settings = settings
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
            services = [*self._telegram(stack, answer), *self._slack(answer), *self._others()]
            tasks = [asyncio.create_task(_keep(service)) for service in services]
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                for task in tasks:
                    task.cancel()
                if tasks:
                    await asyncio.wait(tasks)

    def health(self) -> list[str]:
        """Return a line for each front end and for each place that has trouble, and the last refusals."""
        lines = list(self._mistakes)
        for name, health in self._fronts.items():
            now = health()
            seen = "never" if now.last_seen is None else self._at(now.last_seen)
            state = "connected" if now.connected else f"not connected: {now.error or 'connecting'}"
            lines.append(f"{'ok  ' if now.connected else 'FAIL'}  {name}: {state}; last heard of {seen}")
        for name, delivery in self._deliveries.items():
            if delivery.trouble is not None:
                since = self._at(delivery.trouble.since)
                lines.append(f"FAIL  {name}: nothing delivered since {since}: {delivery.trouble.reason}")
        refused = refusals(self._journal, last=3)
        lines += [f"warn  {no.channel}: refused at {self._at(no.at)}: {no.reason}" for no in refused]
        return lines

    def _telegram(self, stack: AsyncExitStack, answer: Answer) -> list[Service]:
        token = self._settings.telegram_bot_token.get_secret_value()
        if not token:
            return []
        settings = self._settings
        unused = ("httpx._main", "cryptography", *(() if settings.telegram_webhook_url else ("tornado",)))
        with _left_out(*unused):
            from bot.telegram.connection import Webhook
            from bot.telegram.front import TelegramFront
            from notifiers.channels.telegram import TelegramChannel
            from notifiers.channels.telegram_wire import make_bot

        bot = make_bot(token, settings.telegram_base_url)
        stack.push_async_callback(bot.request.shutdown)
        webhook = None
        if settings.telegram_webhook_url and settings.telegram_webhook_listen:
            host, port = settings.telegram_webhook_listen
            secret = settings.telegram_webhook_secret.get_secret_value()
            webhook = Webhook(settings.telegram_webhook_url, secret, host, port)
        front = TelegramFront(
            bot=bot,
            answer=answer,
            commands=[command for command in COMMANDS if not command.hidden],
            locks=Path.home() / ".cache" / "autoresearch" / "locks",  # for all state directories
            webhook=webhook,
        )
        self._fronts["Telegram"] = front.health
        services: list[Service] = [front.run]
        everywhere = all_telegram_chats()
        for place in settings.telegram_chat_ids or settings.telegram_user_ids:
            chat, _, topic = place.partition("/")
            channel = TelegramChannel(bot=bot, chat_id=int(chat), topic_id=int(topic) if topic else None)
            spacing = telegram_spacing(everywhere, group=int(chat) < 0, clock=self._clock)
            services += self._place(channel, spacing, with_card=True)
        return services

    def _slack(self, answer: Answer) -> list[Service]:
        settings = self._settings
        token = settings.slack_bot_token.get_secret_value()
        if not token:
            return []
        from bot.slack.front import SlackFront
        from notifiers.channels.slack import SlackChannel, make_client

        client = make_client(token, settings.slack_base_url)
        front = SlackFront(
            client=client,
            answer=answer,
            app_token=settings.slack_app_token.get_secret_value(),
            signing_secret=settings.slack_signing_secret.get_secret_value(),
            listen=settings.slack_listen,
            verbs=_VERBS,
        )
        self._fronts["Slack"] = front.health
        services: list[Service] = [front.run]
        for place in settings.slack_channels:
            channel = SlackChannel(client=client, channel_id=place, verbs=_VERBS)
            services += self._place(channel, slack_spacing(clock=self._clock), with_card=True)
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


@contextmanager
def _left_out(*modules: str) -> Iterator[None]:
    """Let imports within take these modules for not installed, as their importers can do without them.

    httpx brings a command line along and python-telegram-bot a web server and what Telegram's passports are
    deciphered with: 14 MB of which nothing is used.
    """
    absent = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


async def _keep(service: Service) -> None:
    """Run a service until it ends by itself; one that fails is started again."""
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
        log.error("a part of the chats failed and is started again", exc_info=error)
        await asyncio.sleep(RESTART_SECONDS)
