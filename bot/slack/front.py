"""The front end on Slack: what people do comes in, goes to `answer`, and what that says is shown."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from slack_bolt.async_app import AsyncAck, AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_sdk.web.async_client import AsyncWebClient

from bot.commands.access import AllowList, Role
from bot.front import ANSWER_WAITS, Answer, CommandQueue, FrontHealth, keep_connected, show_answer
from bot.slack.answers import WORKING, Answers, menu, turned_away
from bot.slack.connection import HttpLine, Pace, SocketLine, rejected
from bot.slack.home import INTERVAL, Home
from bot.slack.modals import ACK_SECONDS, Modals, obeyed
from bot.slack.requests import (
    MENU,
    Asked,
    from_command,
    from_event,
    from_opening,
    from_press,
    from_shortcut,
)
from notifiers.channels.slack import slack_errors
from notifiers.message import ChannelError, Message, Reply

log = logging.getLogger(__name__)

WORKING_AFTER = 0.7
"""Seconds without an answer after which a person is shown that it takes longer."""

_ANY = re.compile("")
_REMEMBERED = 100  # requests of strangers, so that none is told twice


class SlackFront:
    """Turns what people do on Slack into requests, and shows what `answer` says to them.

    `answer` returns None for what must not be answered at all. Requests come by Socket Mode with `app_token`,
    or, where `listen` is a host and a port, as HTTP requests signed with `signing_secret`. A request
    is acknowledged before anything is done about it, so Slack has no reason to send it again. `allowed` says
    who is a stranger: one of the same workspace is told whom to ask. `home_tabs` is as in `Home`.
    """

    def __init__(
        self,
        *,
        client: AsyncWebClient,
        answer: Answer,
        allowed: AllowList,
        home_tabs: Path,
        app_token: str = "",
        signing_secret: str = "",
        listen: tuple[str, int] | None = None,
        pace: Pace | None = None,
        answer_waits: Sequence[float] = ANSWER_WAITS,
        ack_seconds: float = ACK_SECONDS,
        home_interval: float = INTERVAL,
        working_after: float = WORKING_AFTER,
    ) -> None:
        self._client = client
        self._answer = answer
        self._allowed = allowed
        self._pace = pace or Pace()
        self._working_after = working_after
        self._answer_waits = answer_waits
        self._me: AuthorizeResult | None = None
        self._error = ""
        self._told: deque[str] = deque(maxlen=_REMEMBERED)
        self._queue = CommandQueue()
        self._answers = Answers(client)
        self._home = Home(client, answer=answer, allowed=allowed, kept=home_tabs, interval=home_interval)
        self._modals = Modals(
            client,
            answer=answer,
            begin=self._queue.begin,
            show=self._show,
            ack_seconds=ack_seconds,
        )
        app = self._bolt_app()
        self._line: SocketLine | HttpLine
        if listen is None:
            self._line = SocketLine(app=app, client=client, app_token=app_token, pace=self._pace)
        else:
            host, port = listen
            self._line = HttpLine(app=app, signing_secret=signing_secret, host=host, port=port)

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
                waits=self._pace.waits,
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
        app.shortcut(_ANY)(self._on_shortcut)
        app.view(_ANY)(self._on_form)
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

    async def _on_shortcut(self, ack: AsyncAck, body: dict[str, Any]) -> None:
        await ack()
        self._begin(from_shortcut(body, now=time.time()))

    async def _on_form(self, ack: AsyncAck, body: dict[str, Any]) -> None:
        await self._modals.submit(ack, body, now=time.time())

    async def _on_event(self, body: dict[str, Any]) -> None:
        if visitor := from_opening(body):
            self._queue.begin(self._home.opened(visitor))
        else:
            self._begin(from_event(body, me=self._identity.bot_user_id or "", now=time.time()))

    def _begin(self, asked: Asked | None) -> None:
        if asked is not None:
            self._queue.begin(self._obey(asked))

    async def _obey(self, asked: Asked) -> None:
        role = self._allowed.role_of(asked.request.sender)
        if asked.request.text == MENU and role is not None:
            await self._show(asked, Reply(menu(role)))
            return
        if asked.request.text == MENU:
            asked = replace(asked, request=replace(asked.request, text="/id"))
        if role is Role.OPERATOR and asked.wants_form and await self._modals.open(asked):
            return
        task = self._queue.begin(obeyed(self._answer, asked.request))
        if (await asyncio.wait({task}, timeout=self._working_after))[0] or role is None:
            await self._show_result(asked, task)
        elif asked.at_home:
            with suppress(ChannelError):
                await self._home.show(asked, Reply(Message(WORKING), refused=True))
            await self._show_result(asked, task)
        else:
            async with self._answers.shows_work(asked):
                await self._show_result(asked, task)

    async def _show_result(self, asked: Asked, task: asyncio.Task[Reply | None]) -> None:
        await asyncio.wait({task})
        if task.cancelled() or task.exception() is not None:
            return  # the queue has logged it
        if (reply := task.result()) is not None:
            await self._show(asked, reply)
        elif self._allowed.role_of(asked.request.sender) is None:
            await self._turn_away(asked)

    async def _show(self, asked: Asked, reply: Reply) -> None:
        if asked.at_home:
            await self._home.show(asked, reply)
        else:
            await show_answer(lambda: self._answers.show(asked, reply), asked.request, self._answer_waits)

    async def _turn_away(self, asked: Asked) -> None:
        """Tell a stranger of this workspace whom to ask, once for each request."""
        ours = asked.team in ("", self._identity.team_id)
        listed = self._allowed.users or self._allowed.places
        if asked.request.key in self._told or not (ours and listed):
            return
        self._told.append(asked.request.key)
        rendered = turned_away(self._allowed, asked.request.sender)
        await show_answer(
            lambda: self._answers.show_blocks(asked, rendered), asked.request, self._answer_waits
        )
