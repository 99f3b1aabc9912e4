"""The front end on Slack: slash commands, mentions, private chats, `!verb` and buttons in, answers out."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

from slack_bolt.async_app import AsyncAck, AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_sdk.web.async_client import AsyncWebClient

from bot.access import Request
from bot.front import ANSWER_WAITS, FrontHealth
from bot.slack.http import HttpLine
from bot.slack.messages import Asked, SlackReplies, from_command, from_event, from_press
from bot.slack.socket_mode import Line, Pace, SocketLine, rejected
from loop.errors import UserError, backoff
from notifiers.channel import ChannelError, RateLimitedError
from notifiers.channels.slack import as_typed, slack_errors
from notifiers.message import Reply

log = logging.getLogger(__name__)

PERSONAL = frozenset({"help", "id"})
"""Commands whose answer is of use only to whoever asks."""
LINGER_SECONDS = 2.0  # that answers at hand get when the front end ends
_ANY = re.compile("")


class SlackFront:
    """Turns what people do on Slack into requests, and shows what `answer` says to them.

    `answer` returns None for what must not be answered at all. Requests come by Socket Mode with `app_token`,
    or, where `listen` is a host and a port, as HTTP requests signed with `signing_secret`. Slack is told that
    a request has arrived before anything is done about it, so it has no reason to send it again.
    """

    def __init__(
        self,
        *,
        client: AsyncWebClient,
        answer: Callable[[Request], Awaitable[Reply | None]],
        app_token: str = "",
        signing_secret: str = "",
        listen: tuple[str, int] | None = None,
        personal: Collection[str] = PERSONAL,
        verbs: Collection[str] = frozenset(),
        pace: Pace | None = None,
        answer_waits: Sequence[float] = ANSWER_WAITS,
    ) -> None:
        self._client = client
        self._answer = answer
        self._verbs = verbs
        self._pace = pace or Pace()
        self._replies = SlackReplies(client=client, personal=personal, waits=answer_waits)
        self._me: AuthorizeResult | None = None
        self._error = ""
        self._tasks: set[asyncio.Task[None]] = set()
        app = self._bolt_app()
        self._line: Line
        if listen is None:
            self._line = SocketLine(app=app, client=client, app_token=app_token, pace=self._pace)
        else:
            host, port = listen
            self._line = HttpLine(app=app, signing_secret=signing_secret, host=host, port=port)

    def health(self) -> FrontHealth:
        """Return how things stand at this moment."""
        connected = self._line.connected
        return FrontHealth(connected, self._line.last_seen, "" if connected else self._error)

    async def run(self) -> None:
        """Serve until cancelled, whatever happens on the way to Slack.

        A token that Slack does not accept is said once, in the log and by `health`; then nothing is tried.
        """
        try:
            await self._keep_line()
        except UserError as error:
            self._error = str(error)
            log.error("%s", error)  # noqa: TRY400, a sentence for people
            await asyncio.get_running_loop().create_future()
        finally:
            await self._finish()

    async def _keep_line(self) -> None:
        """Connect, and connect again when the line is lost: after a wait that grows while it is of no use."""
        failures = 0
        while True:
            began = time.time()
            try:
                await self._introduce()
                await self._line.serve()
            except ChannelError as error:
                lived = (self._line.last_seen or began) - began
                failures = failures + 1 if lived <= backoff(self._pace.waits, failures + 1) else 1
                pause = backoff(self._pace.waits, failures)
                if isinstance(error, RateLimitedError):
                    pause = max(pause, error.seconds)
                level = logging.INFO if str(error) == self._error else logging.WARNING
                log.log(level, "Slack: not connected: %s; trying again in %.0f s", error, pause)
                self._error = str(error)
                await asyncio.sleep(pause)

    async def _introduce(self) -> None:
        """Learn who we are, so that our own messages and mentions are known."""
        wanted = "the app's bot token (xoxb-…)"
        with rejected("SLACK_BOT_TOKEN", wanted), slack_errors():
            answer = await self._client.auth_test()
        self._me = AuthorizeResult(
            enterprise_id=answer.get("enterprise_id"),
            team_id=answer.get("team_id"),
            bot_user_id=answer.get("user_id"),
            bot_id=answer.get("bot_id"),
            bot_token=self._client.token,
        )

    def _bolt_app(self) -> AsyncApp:
        async def authorize() -> AuthorizeResult:  # instead of a call to Slack, which would delay answers
            return self._identity

        logger = logging.getLogger(f"{__name__}.bolt")
        logger.setLevel(logging.ERROR)  # it warns of settings that we make on purpose
        app = AsyncApp(
            name="autoresearch",
            client=self._client,
            authorize=authorize,
            request_verification_enabled=False,  # `HttpLine` does it
            logger=logger,
        )
        app.command(_ANY)(self._on_command)
        app.action(_ANY)(self._on_press)
        app.event(_ANY)(self._on_event)  # all, because Slack sends again what nobody listens to
        return app

    @property
    def _identity(self) -> AuthorizeResult:
        assert self._me is not None  # before, no line is served
        return self._me

    async def _on_command(self, ack: AsyncAck, body: dict[str, Any]) -> None:
        await ack()
        self._begin(from_command(body, now=time.time()))

    async def _on_press(self, ack: AsyncAck, body: dict[str, Any]) -> None:
        await ack()
        self._begin(from_press(body, now=time.time()))

    async def _on_event(self, body: dict[str, Any]) -> None:
        self._begin(from_event(body, me=self._identity.bot_user_id or "", now=time.time()))

    def _begin(self, asked: Asked | None) -> None:
        if asked is not None:
            task = asyncio.create_task(self._obey(asked))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    async def _obey(self, asked: Asked) -> None:
        reply = await self._answer(asked.request)
        if reply is not None:
            reply = replace(reply, message=as_typed(reply.message, self._verbs))
        if reply is not None:
            await self._replies.show(asked, reply)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("Slack: a request failed", exc_info=error)

    async def _finish(self) -> None:
        """Let the answers at hand be shown, within a moment."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=LINGER_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
