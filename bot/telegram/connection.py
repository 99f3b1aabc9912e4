"""One connection of the bot to Telegram, from its beginning until it is dead."""

from __future__ import annotations

import asyncio
import functools
import hmac
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, TypeAlias
from urllib.parse import urlsplit

from telegram import Update, User
from telegram.error import InvalidToken, TelegramError
from telegram.ext import ApplicationBuilder, CallbackContext, TypeHandler, Updater

from bot.front import ANSWER_WAITS, HEAD_START
from notifiers.channels.telegram_wire import Wire, make_bot
from notifiers.message import UnreachableError

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger(__name__)

Context: TypeAlias = CallbackContext[Any, Any, Any, Any]

UPDATES = ("message", "callback_query")
MOST_UPDATES = 100  # that come with one poll
READ_SECONDS = 10.0  # that an answer may be late, on top of a long poll
CONFLICT = "another program uses this bot's token (409), so each gets only some of the commands"
CONFLICT_MEMORY = 600.0  # seconds after which a conflict is over, and a further one is told again


class Pulse:
    """Notes every request on a line to Telegram, as the `Observer` of its wire.

    `last_seen` is in seconds since the epoch, None before the first answer; `error` is what is wrong, empty
    if nothing is.
    """

    def __init__(self) -> None:
        self._conflict_at = float("-inf")
        self.connected = False
        self.last_seen: float | None = None
        self.error = ""
        self.begin()

    def begin(self) -> None:
        self.connected = False
        self.refused = asyncio.Event()  # set by a 401 or 404: the library gives up for good after either
        self.identity_status = 0  # of the answer to getMe: 401 is about the token, whatever is behind a 404
        self.reason = ""  # why there was no good answer on this line since the last one
        self.polls = 0  # that had a good answer
        self._heard_at = time.monotonic()

    @property
    def silence(self) -> float:
        """Seconds since the last good answer, or since the line began."""
        return time.monotonic() - self._heard_at

    def observe(self, method: str, outcome: int | TelegramError) -> None:
        if method == "getMe" and isinstance(outcome, int):
            self.identity_status = outcome
        match outcome:
            case 200:
                self.polls += method == "getUpdates"
                self._heard()
            case 409:
                self.conflict()
            case int():
                self._missed(f"Telegram answered {outcome} to {method}")
                if outcome in (401, 404):
                    self.refused.set()
            case _:
                self._missed(outcome.message)

    def fail(self, error: str) -> None:
        self.connected = False
        self.error = error

    def conflict(self) -> None:
        now = time.monotonic()
        if now - self._conflict_at > CONFLICT_MEMORY:
            log.warning("Telegram: %s; stop one of them, or create a second bot", CONFLICT)
        self._conflict_at = now
        self._missed(CONFLICT)

    def _missed(self, reason: str) -> None:
        self.reason = reason
        self.fail(reason)

    def _heard(self) -> None:
        self.reason = ""
        self._heard_at = time.monotonic()
        self.last_seen = time.time()
        self.connected = True
        self.error = "" if self._heard_at - self._conflict_at > CONFLICT_MEMORY else CONFLICT


class TokenRefusedError(UnreachableError):
    """Telegram says that there is no such bot."""


@dataclass(frozen=True, slots=True)
class TelegramPace:
    """How long things may take on Telegram, in seconds."""

    poll: float = 25.0  # that Telegram holds a request open until there is something to say
    patience: float = 120.0  # in which nothing comes back, until the line is given up; several polls
    close: float = 2.0  # for each step of taking a line down
    waits: tuple[float, ...] = (5.0, 10.0, 20.0, 40.0, 60.0)  # after lost lines in a row
    answer: tuple[float, ...] = ANSWER_WAITS
    head_start: float = HEAD_START


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where Telegram sends updates to, instead of being asked for them.

    `url` is what Telegram is told, with https; a proxy hands its requests to `host` and `port`, with the path
    as it is. Telegram shows `secret` with each (1 to 256 of A-Z, a-z, 0-9, `_` and `-`).
    """

    url: str
    secret: str
    host: str = "127.0.0.1"
    port: int = 8443


class _Arrivals(asyncio.Queue[object]):
    """Updates on their way; `waited` has those that may have waited for the bot for long.

    Telegram does not say when a button was pressed. A press that comes with one poll was made after the poll
    before it, unless that one brought all that fits in. With a webhook nothing is known.
    """

    def __init__(self, pulse: Pulse) -> None:
        super().__init__()
        self._pulse = pulse
        self._catching_up_until = 1  # the number of the poll
        self._came = 0  # with that poll
        self.waited: set[int] = set()

    async def put(self, item: object) -> None:
        if isinstance(item, Update) and self._pulse.polls <= self._catching_up_until:
            self.waited.add(item.update_id)
            self._came += 1
            if self._came == MOST_UPDATES:
                self._catching_up_until, self._came = self._pulse.polls + 1, 0
        await super().put(item)


Receive: TypeAlias = Callable[[Update, User, bool], Coroutine[Any, Any, None]]
"""Gets an update, the bot's own user, and whether the update may have waited for the bot."""


@dataclass(eq=False, kw_only=True, repr=False)  # which would show tokens
class Line:
    """An application of python-telegram-bot with connections of its own, which `receive` gets updates from.

    Within its context it is connected.
    """

    token: str
    base_url: str
    receive: Receive
    pulse: Pulse
    pace: TelegramPace
    webhook: Webhook | None

    def __post_init__(self) -> None:
        self._listening = AsyncExitStack()
        self._wire = Wire(self.base_url, read_seconds=READ_SECONDS, observe=self.pulse.observe)
        self._bot = make_bot(self.token, self.base_url, self._wire)
        self._arrivals = _Arrivals(self.pulse)
        self._updater = Updater(self._bot, self._arrivals)
        self._app = ApplicationBuilder().updater(self._updater).job_queue(None).build()
        self._app.add_handler(TypeHandler(Update, self._hand_on))

    @property
    def me(self) -> User:
        return self._bot.bot

    async def __aenter__(self) -> Self:
        """Begin to receive updates; raises an UnreachableError where that is not possible."""
        try:
            await self._connect()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _connect(self) -> None:
        self.pulse.begin()
        try:
            async with asyncio.timeout(self.pace.patience):
                await self._app.initialize()
                await self._app.start()
                await self._begin()
        except TimeoutError:
            raise UnreachableError(self._silence) from None
        except InvalidToken:  # its text may have the token in it
            if self.pulse.identity_status == 401:
                raise TokenRefusedError("Telegram does not accept the token (401)") from None
            raise UnreachableError(self.pulse.reason) from None
        except TelegramError as error:
            raise UnreachableError(error.message) from None

    async def watch(self) -> None:
        """Raise an UnreachableError as soon as the line is dead; never returns.

        The library goes on for ever without a word when its connections are stuck, and stops for ever
        without a word when it takes an answer for a refused token.
        """
        interval = self.pace.patience / 4
        while self._updater.running or self.webhook is not None:
            left = self.pace.patience - self.pulse.silence
            if left <= 0:
                raise UnreachableError(self._silence)
            try:
                async with asyncio.timeout(min(left, interval)):
                    await self.pulse.refused.wait()
                raise UnreachableError(self.pulse.reason)
            except TimeoutError:
                if self.webhook is not None:
                    await self._check(self.webhook)
        raise UnreachableError("the library has stopped asking for updates")

    async def close(self) -> None:
        if self._updater.running:
            await self._finish(self._updater.stop())
        if self._app.running:
            await self._finish(self._app.stop())
        await self._finish(self._app.shutdown())
        await self._wire.shutdown()
        await self._listening.aclose()

    async def _finish(self, step: Coroutine[Any, Any, None]) -> None:
        """Take a step of closing, in which the library may wait for an answer that never comes."""
        task = asyncio.create_task(step)
        while not task.done():
            _, late = await asyncio.wait({task}, timeout=self.pace.close)
            for one in late:
                one.cancel()
        if not task.cancelled() and (error := task.exception()):
            log.debug("while closing: %r", error)

    async def _begin(self) -> None:
        if self.webhook is None:
            await self._updater.start_polling(
                timeout=timedelta(seconds=self.pace.poll),
                bootstrap_retries=-1,
                allowed_updates=UPDATES,
                drop_pending_updates=False,
                error_callback=lambda _: None,  # the pulse has it already
            )
        else:
            await self._listen(self.webhook)

    async def _listen(self, webhook: Webhook) -> None:
        """Listen ourselves: the library's server has no bounds."""
        from notifiers.channels.listener import listening

        path = urlsplit(webhook.url).path or "/"
        receive = functools.partial(self._take_post, webhook.secret)
        await self._listening.enter_async_context(listening(webhook.host, webhook.port, path, receive))
        await self._bot.set_webhook(
            webhook.url,
            secret_token=webhook.secret,
            allowed_updates=UPDATES,
            drop_pending_updates=False,
            max_connections=1,  # so that updates come in order
        )

    async def _hand_on(self, update: Update, _: Context) -> None:
        waited = update.update_id in self._arrivals.waited
        self._arrivals.waited.discard(update.update_id)
        await self.receive(update, self.me, waited)

    async def _take_post(self, secret: str, request: web.BaseRequest) -> web.Response:
        from aiohttp import web

        shown = request.headers.get("X-Telegram-Bot-Api-Secret-Token", "")
        if not hmac.compare_digest(shown.encode(errors="replace"), secret.encode()):
            return web.Response(status=403)  # before the body is read
        try:
            update = Update.de_json(await request.json(), self._bot)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("Telegram: a request that is no update: %s", error)
            return web.Response(status=400)
        await self._app.update_queue.put(update)
        return web.Response()

    async def _check(self, webhook: Webhook) -> None:
        """Check that updates still come to us; an answer counts as a sign of life."""
        try:
            info = await self._bot.get_webhook_info()
        except TelegramError as error:
            log.debug("the webhook cannot be checked: %s", error)
        else:
            if info.url != webhook.url:
                self.pulse.conflict()
                raise UnreachableError(self.pulse.reason)

    @property
    def _silence(self) -> str:
        reason = f": {self.pulse.reason}" if self.pulse.reason else ""
        return f"no good answer for {self.pace.patience:g} s{reason}"
