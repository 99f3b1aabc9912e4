"""The front end on Slack: what people do comes in, goes to `answer`, and what that says is shown."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slack_bolt.async_app import AsyncAck, AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_sdk.web.async_client import AsyncWebClient

from bot.commands.access import AllowList, Role
from bot.front import Answer, CommandQueue, FrontHealth, keep_connected, show_answer
from bot.slack import requests
from bot.slack.answers import WORKING, Answers, menu, turned_away
from bot.slack.connection import HttpLine, SlackPace, SocketLine, rejected
from bot.slack.home import Home
from bot.slack.modals import Modals
from bot.slack.requests import MENU, AskedOnSlack
from notifiers.channels.slack import slack_errors
from notifiers.message import ChannelError, Message, Reply

log = logging.getLogger(__name__)

_ANY = re.compile("")
_REMEMBERED = 100  # requests of strangers, so that none is told twice


@dataclass(eq=False, kw_only=True, repr=False)  # which would show tokens
class SlackFront:
    """Turns what people do on Slack into requests, and shows what `answer` says to them.

    `answer` returns None for what must not be answered at all. Requests come by Socket Mode with `app_token`,
    or, where `listen` is a host and a port, as HTTP requests signed with `signing_secret`. A request
    is acknowledged before anything is done about it, so Slack has no reason to send it again. `allowed` says
    who is a stranger: one of the same workspace is told whom to ask. `home_tabs` is as in `Home`.
    """

    client: AsyncWebClient
    answer: Answer
    allowed: AllowList
    home_tabs: Path
    app_token: str = ""
    signing_secret: str = ""
    listen: tuple[str, int] | None = None
    pace: SlackPace = field(default_factory=SlackPace)

    def __post_init__(self) -> None:
        self._me: AuthorizeResult | None = None
        self._error = ""
        self._told: deque[str] = deque(maxlen=_REMEMBERED)
        self._queue = CommandQueue()
        self._answers = Answers(self.client)
        self._home = Home(
            self.client,
            answer=self.answer,
            allowed=self.allowed,
            kept=self.home_tabs,
            interval=self.pace.home,
        )
        self._modals = Modals(
            self.client,
            answer=self.answer,
            begin=self._queue.begin,
            show=self._show,
            ack_seconds=self.pace.form,
        )
        app = self._bolt_app()
        self._line: SocketLine | HttpLine
        if self.listen is None:
            self._line = SocketLine(app=app, client=self.client, app_token=self.app_token, pace=self.pace)
        else:
            host, port = self.listen
            self._line = HttpLine(app=app, signing_secret=self.signing_secret, host=host, port=port)

    def health(self) -> FrontHealth:
        connected = self._line.connected
        return FrontHealth(connected, self._line.last_seen, "" if connected else self._error)

    async def run(self) -> None:
        """Serve until cancelled; a token that Slack does not accept is said once, and never tried again."""
        home = asyncio.create_task(self._home.run(), name="Slack's Home tabs")
        try:
            await keep_connected(
                "Slack",
                self._connect,
                waits=self.pace.waits,
                last_seen=lambda: self._line.last_seen,
                failed=self._failed,
            )
        finally:
            home.cancel()
            await self._queue.close()

    def _failed(self, error: str) -> None:
        self._error = error

    async def _connect(self) -> None:
        await self._introduce()
        await self._line.serve()

    async def _introduce(self) -> None:
        wanted = "the app's bot token (xoxb-…)"
        with rejected("SLACK_BOT_TOKEN", wanted), slack_errors():
            answer = await self.client.auth_test()
        self._me = AuthorizeResult(
            enterprise_id=answer.get("enterprise_id"),
            team_id=answer.get("team_id"),
            bot_user_id=answer.get("user_id"),
            bot_id=answer.get("bot_id"),
            bot_token=self.client.token,
        )

    def _bolt_app(self) -> AsyncApp:
        async def authorize() -> AuthorizeResult:  # instead of a call to Slack, which would delay answers
            return self._identity

        logger = logging.getLogger(f"{__name__}.bolt")
        logger.setLevel(logging.ERROR)  # it warns of settings that we make on purpose
        app = AsyncApp(
            name="autoresearch",
            client=self.client,
            authorize=authorize,
            request_verification_enabled=False,  # `HttpLine` does it
            logger=logger,
        )
        app.command(_ANY)(self._listener(requests.from_command))
        app.action(_ANY)(self._listener(requests.from_press))
        app.shortcut(_ANY)(self._listener(requests.from_shortcut))
        app.view(_ANY)(self._on_form)
        app.event(_ANY)(self._on_event)  # all, because Slack sends again what nobody listens to
        return app

    @property
    def _identity(self) -> AuthorizeResult:
        assert self._me is not None  # before, no line is served
        return self._me

    def _listener(self, read: Callable[..., AskedOnSlack | None]) -> Callable[..., Awaitable[None]]:
        async def listen(ack: AsyncAck, body: dict[str, Any]) -> None:
            await ack()
            self._begin(read(body, now=time.time()))

        return listen

    async def _on_form(self, ack: AsyncAck, body: dict[str, Any]) -> None:
        await self._modals.submit(ack, body, now=time.time())

    async def _on_event(self, body: dict[str, Any]) -> None:
        if visitor := requests.from_opening(body):
            self._queue.begin(self._home.opened(visitor))
        else:
            self._begin(requests.from_event(body, me=self._identity.bot_user_id or "", now=time.time()))

    def _begin(self, asked: AskedOnSlack | None) -> None:
        if asked is not None:
            self._queue.begin(self._obey(asked))

    async def _obey(self, asked: AskedOnSlack) -> None:
        role = self.allowed.role_of(asked.request.sender)
        if asked.request.text == MENU and role is not None:
            await self._show(asked, Reply(menu(role)))
            return
        if asked.request.text == MENU:
            asked = replace(asked, request=replace(asked.request, text="/id"))
        if role is Role.OPERATOR and asked.wants_form and await self._modals.open(asked):
            return
        task = self._queue.begin(self.answer(asked.request))
        if (await asyncio.wait({task}, timeout=self.pace.working))[0] or role is None:
            await self._show_result(asked, task)
        elif asked.at_home:
            with suppress(ChannelError):
                await self._home.show(asked, Reply(Message(WORKING), refused=True))
            await self._show_result(asked, task)
        else:
            async with self._answers.shows_work(asked):
                await self._show_result(asked, task)

    async def _show_result(self, asked: AskedOnSlack, task: asyncio.Task[Reply | None]) -> None:
        await asyncio.wait({task})
        if task.cancelled() or task.exception() is not None:
            return  # the queue has logged it
        if (reply := task.result()) is not None:
            await self._show(asked, reply)
        elif self.allowed.role_of(asked.request.sender) is None:
            await self._turn_away(asked)

    async def _show(self, asked: AskedOnSlack, reply: Reply) -> None:
        if asked.at_home:
            await self._home.show(asked, reply)
        else:
            await show_answer(lambda: self._answers.show(asked, reply), asked.request, self.pace.answer)

    async def _turn_away(self, asked: AskedOnSlack) -> None:
        """Tell a stranger of this workspace whom to ask, once for each request."""
        ours = asked.team in ("", self._identity.team_id)
        listed = self.allowed.users or self.allowed.places
        if asked.request.key in self._told or not (ours and listed):
            return
        self._told.append(asked.request.key)
        rendered = turned_away(self.allowed, asked.request.sender)
        await show_answer(lambda: self._answers.show_blocks(asked, rendered), asked.request, self.pace.answer)
