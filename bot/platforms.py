"""The registry of platforms, and the chats that the settings name: commands come in, messages go out."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from dataclasses import KW_ONLY, dataclass
from datetime import datetime, tzinfo
from itertools import count
from typing import Any

from bot.chat_checks import PATIENCE
from bot.commands.access import Access, Request, Sender
from bot.commands.pairing import Pairing
from bot.commands.table import pressable
from bot.front import Answer, Connection, FrontHealth, Platform
from bot.setup.doctor import Check
from bot.setup.settings import Settings
from bot.slack import SLACK
from bot.telegram import TELEGRAM
from loop.errors import UserError, backoff
from loop.experiment import Event, Run
from loop.process.worker import in_thread
from loop.results.report import RunStatus
from loop.store.journal import Journal
from loop.store.outbox import refusals
from loop.store.patience import Blocked
from loop.text import one_line, without_secrets
from notifiers.delivery.delivery import Delivery
from notifiers.delivery.live_card import Forum, LiveCards, RunTopics
from notifiers.delivery.preferences import PreferenceStore
from notifiers.delivery.rate_limit import Clock, Spacing
from notifiers.message import Channel, ChannelError, Message, Reply

log = logging.getLogger(__name__)

PLATFORMS = (TELEGRAM, SLACK)  # each is this one entry and the folder that makes it
RESTART_SECONDS = 60.0  # after which a part that failed unexpectedly is started again
CONNECT_WAITS = (5.0, 10.0, 30.0, 60.0, 300.0)  # seconds between the attempts to set up a platform
CHECK_WAITS = (15.0, 60.0, 300.0)  # seconds between the checks of a platform of which something is not well
BLOCKED_SECONDS = 60.0  # after which the chats are told of a state file that cannot be written

Service = Callable[[], Coroutine[Any, Any, None]]


def access_by(settings: Settings, platforms: Sequence[Platform] = PLATFORMS) -> Access:
    return Access({platform.name: platform.allowed(settings) for platform in platforms})


@dataclass(eq=False)
class Chats:
    """Serves every chat of the settings; none of them can hold up the experiments or another chat.

    `access` is the inbox's. `status` reads how a run stands, in a worker thread; `report` is as in
    `Delivery`; `say_here` says something in the bot's own terminal.
    """

    settings: Settings
    _: KW_ONLY
    access: Access
    journal: Journal
    preferences: PreferenceStore
    status: Callable[[Run], RunStatus]
    report: Callable[[Event], Awaitable[Message | None]]
    zone: tzinfo
    say_here: Callable[[str], None]
    platforms: Sequence[Platform] = PLATFORMS

    def __post_init__(self) -> None:
        self._clock = Clock()
        self._fronts: dict[str, Callable[[], FrontHealth]] = {}
        self._checks: dict[str, Sequence[Check]] = {}  # those of each platform that are not well
        self._unavailable: dict[str, str] = {}  # by what it is about: why, with the fix
        self._places: list[tuple[Channel, Spacing]] = []

    async def run(self, answer: Answer) -> None:
        """Serve until cancelled; `answer` is the inbox."""
        platforms = [functools.partial(self._serve, one, answer) for one in self.platforms]
        await _run_all([*platforms, *self._others(), self._watch_journal])

    def health(self) -> list[Check]:
        """Return a check for each front end, what else is not well there, and the last refusals."""
        checks = [Check(name, False, f"unavailable: {reason}") for name, reason in self._unavailable.items()]
        for name, health in self._fronts.items():
            bad = self._checks.get(name, ())
            checks += bad
            if any(check.name == name for check in bad):
                continue
            now = health()
            seen = "never connected" if now.last_seen is None else f"last seen {self._at(now.last_seen)}"
            trouble = now.error.rstrip(".")
            if now.connected:  # trouble then is such as another bot on the same token
                state = f"connected, but {trouble}" if trouble else "connected"
                checks.append(Check(name, None if trouble else True, f"{state}; {seen}"))
            else:
                checks.append(Check(name, False, f"not connected: {trouble or 'connecting'}; {seen}"))
        for no in refusals(self.journal, last=3):
            checks.append(Check(no.channel, None, f"refused at {self._at(no.at)}: {no.reason}"))
        return checks

    async def _serve(self, platform: Platform, answer: Answer) -> None:
        pairing: Pairing | None = None
        if platform.pairs and not self.access.lists[platform.name].is_used:
            pairing = Pairing(platform.name, answer, access=self.access, say_here=self.say_here)
        connection = await self._connect(platform, pairing.answer if pairing else answer)
        if connection is None:
            for check in _without_token(platform, self.settings):
                self.say_here(check.sentence)
            return
        if pairing:
            pairing.offer()
        async with AsyncExitStack() as stack:
            if connection.close is not None:
                stack.push_async_callback(connection.close)
            name = platform.name.capitalize()
            self._fronts[name] = connection.health
            services: list[Service] = [connection.run, functools.partial(self._check, name, connection)]
            for channel, spacing in connection.channels:
                services += self._place(channel, spacing, with_card=True)
            if pairing:
                services.append(functools.partial(self._serve_paired, name, pairing.paired, connection))
            await _run_all(services)

    async def _serve_paired(self, name: str, paired: Awaitable[Sender], connection: Connection) -> None:
        assert connection.reach is not None  # of a platform that pairs
        channel, spacing = connection.reach(await paired)
        services = self._place(channel, spacing, with_card=True)
        # That no chat is listed holds no more; the terminal hears of it at the next check.
        self._checks[name] = [check for check in await connection.check(False) if not check.ok]
        await _run_all(services)

    async def _connect(self, platform: Platform, answer: Answer) -> Connection | None:
        """Set a platform up, again and again where that fails; None where the settings do not name it."""
        name = platform.name.capitalize()
        for failures in count(1):
            try:
                connection = platform.connect(self.settings, answer, self.access, self._clock)
            except Exception as error:  # noqa: BLE001 - whatever a library finds wrong with its surroundings
                self._report_unavailable(name, why_unavailable(error, self.settings))
                await asyncio.sleep(backoff(CONNECT_WAITS, failures))
            else:
                break
        if self._unavailable.pop(name, None):
            self.say_here(f"{name} is set up now.")
        return connection

    async def _check(self, name: str, connection: Connection) -> None:
        """Say in the terminal as whom the bot is connected, and what is not well; again what changes."""
        said: list[Check] = []
        for times in count(1):
            checks = [*await connection.check(False)]
            bad = self._checks[name] = [check for check in checks if not check.ok]
            if times == 1 and not any(check.name == name and not check.ok for check in bad):
                checks += await _front_check(name, connection)
            for check in checks:
                if check not in said:
                    log.log(logging.INFO if check.ok else logging.WARNING, "%s", check.sentence)
                    self.say_here(check.sentence)
            if not bad:
                return
            said = checks
            await asyncio.sleep(backoff(CHECK_WAITS, times))

    def _report_unavailable(self, name: str, reason: str) -> None:
        if self._unavailable.get(name) != reason:
            self._unavailable[name] = reason
            log.error("%s is unavailable: %s", name, reason)
            self.say_here(f"{name} is unavailable: {reason}")

    async def _watch_journal(self) -> None:
        """Say so in every chat when the state file cannot be written: what else is sent waits for it."""
        told: Blocked | None = None
        while True:
            await self._clock.sleep(BLOCKED_SECONDS / 10)
            blocked = self.journal.blocked
            if blocked is None and told is not None:
                told = None
                await self._say("The state file can be written again: experiments and messages go on.")
            elif blocked and told is None and self._clock.now() - blocked.since >= BLOCKED_SECONDS:
                told = blocked
                since = self._at(blocked.since)
                await self._say(
                    f"The state file cannot be written since {since}, as {blocked}. "
                    "Experiments and messages wait and go on by themselves."
                )

    async def _say(self, text: str) -> None:
        self.say_here(text)
        await asyncio.gather(*(_send(channel, spacing, text) for channel, spacing in self._places))

    def _others(self) -> list[Service]:
        return [functools.partial(self._other, url) for url in self.settings.addresses]

    async def _other(self, url: str) -> None:
        from notifiers.channels.apprise_channel import AppriseChannel

        try:
            channel = await in_thread(AppriseChannel, url)  # its import takes a second
        except ValueError as error:
            self._report_unavailable("APPRISE_URLS", f"one of them {error}")
            return
        (serve,) = self._place(channel, Spacing(clock=self._clock), with_card=False)
        await serve()

    def _place(self, channel: Channel, spacing: Spacing, *, with_card: bool) -> list[Service]:
        shown = functools.partial(pressable, role=self.access.highest_role(channel.name))
        keeper = topics = None
        if with_card:
            if isinstance(channel, Forum):
                topics = RunTopics(channel, self.journal, clock=self._clock)
            keeper = LiveCards(
                channel,
                self.journal,
                status=self.status,
                spacing=spacing,
                zone=self.zone,
                clock=self._clock,
                topics=topics,
                shown=shown,
            )
        delivery = Delivery(
            channel,
            self.journal,
            preferences=lambda: self.preferences.get(channel.name),
            thread=keeper.thread if keeper else None,
            report=self.report,
            shown=shown,
            spacing=spacing,
            clock=self._clock,
            zone=self.zone,
        )
        self._places.append((channel, spacing))
        return [delivery.run, *(part.run for part in (keeper, topics) if part is not None)]

    def _at(self, when: float) -> str:
        return f"{datetime.fromtimestamp(when, self.zone):%Y-%m-%d %H:%M}"


def why_unavailable(error: Exception, settings: Settings) -> str:
    """Return why a platform cannot be set up, with the fix where that is known, and without secrets."""
    reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return one_line(without_secrets(reason, settings.secrets))


def chat_checks(settings: Settings, platforms: Sequence[Platform] = PLATFORMS) -> list[Check]:
    """Ask each platform that the settings name, for `doctor`; nothing is sent."""
    checked: Future[list[Check]] = Future()

    async def check() -> None:
        found = await asyncio.gather(*(_check_alone(platform, settings) for platform in platforms))
        checked.set_result([check for checks in found for check in checks])

    # A name server that does not answer holds up this thread, whose end nobody waits for.
    threading.Thread(target=lambda: asyncio.run(check()), daemon=True).start()
    try:
        return checked.result(4 * PATIENCE)
    except TimeoutError:
        return [Check("chats", None, f"not checked within {4 * PATIENCE:g} s")]


async def _check_alone(platform: Platform, settings: Settings) -> Sequence[Check]:
    try:
        access = access_by(settings, [platform])
        connection = platform.connect(settings, _no_answer, access, Clock())
        if connection is None:
            return _without_token(platform, settings)
        checks = await connection.check(True)
        if connection.close is not None:
            await connection.close()
    except Exception as error:  # noqa: BLE001 - as in `Chats`
        return [Check(platform.name.capitalize(), False, why_unavailable(error, settings))]
    return checks


def _without_token(platform: Platform, settings: Settings) -> list[Check]:
    """Return a warning where people or chats are listed, but no token is set."""
    allowed, name = platform.allowed(settings), platform.name.capitalize()
    listed = {allowed.places_setting: allowed.places, allowed.users_setting: allowed.users}
    setting = next((setting for setting, members in listed.items() if members), None)
    if setting is None:
        return []
    return [Check(name, None, f"{setting} is set, but no token", f"Set the token, or remove {setting}.")]


async def _front_check(name: str, connection: Connection) -> list[Check]:
    """Return what keeps commands from coming in, if that shows within some seconds."""
    for _ in range(50):
        health = connection.health()
        if health.connected:
            break
        if health.error:
            return [Check(name, False, health.error)]
        await asyncio.sleep(PATIENCE / 50)
    return []


async def _no_answer(_: Request) -> Reply | None:
    return None


async def _send(channel: Channel, spacing: Spacing, text: str) -> None:
    with suppress(ChannelError):
        await spacing.turn()
        await channel.send(Message(text))


async def _run_all(services: Sequence[Service]) -> None:
    """Keep all of these until cancelled."""
    async with asyncio.TaskGroup() as group:
        for service in services:
            group.create_task(keep(service))
        await asyncio.get_running_loop().create_future()


async def keep(service: Service) -> None:
    """Run a service until it ends by itself, and again after it fails."""
    while True:
        # No other part ends with this one; and where it is cancelled it ends, whatever fails at its end.
        [error] = await asyncio.gather(service(), return_exceptions=True)
        if error is None:
            return
        log.error("a part of the bot failed and will be restarted", exc_info=error)
        await asyncio.sleep(RESTART_SECONDS)
