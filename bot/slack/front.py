"""The front end on Slack: slash commands, mentions, private chats, `!verb` and buttons in, answers out."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slack_bolt.async_app import AsyncAck, AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_sdk.web.async_client import AsyncWebClient

from bot.commands.access import Request, Sender
from bot.front import ANSWER_WAITS, Answer, CommandQueue, FrontHealth, keep_connected, show_answer
from bot.slack.connection import HttpLine, Pace, SocketLine, rejected
from notifiers.channels.slack import SlackChannel, as_typed, blocks_or_text, render, respond, slack_errors
from notifiers.message import Message, RefusedError, Reply

log = logging.getLogger(__name__)

NAME = "slack"
PERSONAL = frozenset({"help", "id"})
"""Commands whose answer only the person who asked sees."""
_ANY = re.compile("")
_SUBTYPES = frozenset({None, "thread_broadcast", "file_share"})  # what people write; edits and joins are not
_MENTION = re.compile(r"\s*<@(\w+)(?:\|[^>]*)?>[\s:,]*")
_SHOUT = re.compile(r"\s*![A-Za-z_]")
# Slack's own forms in text: users, channels and groups; links that it made of what looked like one.
_REFERENCE = re.compile(r"<([@#!])([^\s|<>]+)(?:\|([^<>]*))?>")
_LINK = re.compile(r"<((?:https?|ftp|mailto|tel):[^\s|<>]+)(?:\|([^<>]*))?>")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and what its answer needs to know.

    `message` is the one that asks, or whose button was pressed (`pressed`), empty for a slash command;
    `thread` is the thread that it is in. `note` says who asked what where nobody else can see it; those
    requests come with a `response_url`. `private` is a chat with the bot alone, `ephemeral` a message that
    only the sender sees.
    """

    request: Request
    private: bool
    message: str = ""
    thread: str = ""
    pressed: bool = False
    ephemeral: bool = False
    note: str = ""
    response_url: str = ""


def from_command(body: Mapping[str, Any], *, now: float) -> Asked:
    """Return what a slash command asks; Slack does not say when it was given, so it was `now`."""
    user, place = str(body["user_id"]), str(body["channel_id"])
    name = str(body.get("user_name") or user)
    text = command_text(str(body.get("text", "")))
    request = Request(Sender(NAME, user, place, name), text, f"slack:{body['trigger_id']}", now)
    return Asked(request, _is_private(place), note=f"{name}: {text}", response_url=str(body["response_url"]))


def from_press(body: Mapping[str, Any], *, now: float) -> Asked | None:
    action, container, user = body["actions"][0], body["container"], str(body["user"]["id"])
    if not action.get("value") or container.get("type") != "message":
        return None
    name = str(body["user"].get("username") or user)
    place, message = str(container["channel_id"]), str(container["message_ts"])
    request = Request(
        Sender(NAME, user, place, name),
        command_text(str(action["value"])),
        f"slack:{body['trigger_id']}",
        _seconds(action.get("action_ts"), now),
        message,
        pressed=True,
    )
    return Asked(
        request,
        _is_private(place),
        message=message,
        thread=str(container.get("thread_ts") or body.get("message", {}).get("thread_ts") or ""),
        pressed=True,
        ephemeral=bool(container.get("is_ephemeral")),
        note=f"{name} pressed {_unescaped(str(action['text']['text']))}",
        response_url=str(body["response_url"]),
    )


def from_event(body: Mapping[str, Any], *, me: str, now: float) -> Asked | None:
    """Return what a message asks, None where it is not meant for the bot, whose user id is `me`.

    Meant for it is what begins with its mention or with `!verb`, and everything in a private chat. A mention
    arrives twice, as a mention and as a message, and has the same key both times.
    """
    event = body["event"]
    if event["type"] not in {"message", "app_mention"} or event.get("subtype") not in _SUBTYPES:
        return None
    user = str(event.get("user") or "")
    if not user or user == me or event.get("bot_id"):
        return None
    place, ts, text = str(event["channel"]), str(event["ts"]), str(event.get("text") or "")
    private = _is_private(place)
    mention = _MENTION.match(text)
    if mention and mention[1] == me:
        text = text[mention.end() :]
    elif not private and not _SHOUT.match(text):
        return None
    thread = str(event.get("thread_ts") or "")
    request = Request(
        Sender(NAME, user, place, user),
        command_text(text),
        f"slack:{place}:{ts}",
        _seconds(ts, now),
        thread or ts,  # what replies to a message in a thread replies to the thread
        replied_to=thread,
    )
    return Asked(request, private, message=ts, thread=thread)


def command_text(text: str) -> str:
    """Return text as a command, `/verb …`: without Slack's markup, `/help` where nothing is left."""
    words = _unescaped(_REFERENCE.sub(_name, _LINK.sub(_target, text))).strip()
    words = words[1:].strip() if words.startswith(("/", "!")) else words
    return f"/{words or 'help'}"


def _unescaped(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _name(reference: re.Match[str]) -> str:
    kind, identity, label = reference.groups()
    sign = "#" if kind == "#" else "@"
    return f"{sign}{(label or identity).removeprefix(sign)}"


def _target(link: re.Match[str]) -> str:
    """Return a link as it was typed: the label where Slack made the link of an address in the text."""
    target, label = link.groups()
    return str(label) if label and target.endswith(label.rstrip("/")) else str(target)


def _is_private(place: str) -> bool:
    return place.startswith("D")


def _seconds(ts: Any, now: float) -> float:
    try:
        return float(ts)
    except (TypeError, ValueError):
        return now


class SlackFront:
    """Turns what people do on Slack into requests, and shows what `answer` says to them.

    `answer` returns None for what must not be answered at all. Requests come by Socket Mode with `app_token`,
    or, where `listen` is a host and a port, as HTTP requests signed with `signing_secret`. A request
    is acknowledged before anything is done about it, so Slack has no reason to send it again. Refusals and
    answers to `PERSONAL` commands go to the person who asked; all others are public and say who asked.
    """

    def __init__(
        self,
        *,
        client: AsyncWebClient,
        answer: Answer,
        app_token: str = "",
        signing_secret: str = "",
        listen: tuple[str, int] | None = None,
        verbs: Collection[str] = frozenset(),
        pace: Pace | None = None,
        answer_waits: Sequence[float] = ANSWER_WAITS,
    ) -> None:
        self._client = client
        self._answer = answer
        self._verbs = verbs
        self._pace = pace or Pace()
        self._answer_waits = answer_waits
        self._me: AuthorizeResult | None = None
        self._error = ""
        self._queue = CommandQueue()
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
        try:
            await keep_connected(
                "Slack",
                self._connect,
                waits=self._pace.waits,
                last_seen=lambda: self._line.last_seen,
                failed=self._failed,
            )
        finally:
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
            self._queue.begin(self._obey(asked))

    async def _obey(self, asked: Asked) -> None:
        reply = await self._answer(asked.request)
        if reply is not None:
            shown = replace(reply, message=as_typed(reply.message, self._verbs))
            await show_answer(lambda: self._show(asked, shown), asked.request, self._answer_waits)

    async def _show(self, asked: Asked, reply: Reply) -> None:
        verb = asked.request.text.split()[0].removeprefix("/").lower()
        if reply.replaces and asked.pressed:
            await self._replace(asked, reply.message)
        elif (reply.refused or verb in PERSONAL) and not asked.private:
            await self._whisper(asked, reply.message)
        else:
            await self._say(asked, reply.message)

    async def _replace(self, asked: Asked, message: Message) -> None:
        try:
            await self._channel(asked).edit(asked.message, message, note=asked.note)
        except RefusedError:  # it is ephemeral, or in a channel that the bot is not in
            await self._respond(asked, message, note=asked.note, replace_original=True)

    async def _whisper(self, asked: Asked, message: Message) -> None:
        if asked.response_url:
            await self._respond(asked, message, response_type="ephemeral", replace_original=False)
            return

        async def post(**content: Any) -> None:
            await self._client.chat_postEphemeral(
                channel=asked.request.sender.place,
                user=asked.request.sender.user,
                thread_ts=asked.thread or None,
                **content,
            )

        await blocks_or_text(post, render(message))

    async def _say(self, asked: Asked, message: Message) -> None:
        thread = asked.thread or ("" if asked.private or asked.ephemeral else asked.message)
        try:
            await self._channel(asked).send(message, reply_to=thread, note=asked.note)
        except RefusedError:
            if not asked.response_url:
                raise
            # Slash commands work in channels that the bot is not in; this way in is open there too.
            await self._respond(
                asked, message, note=asked.note, response_type="in_channel", replace_original=False
            )

    async def _respond(self, asked: Asked, message: Message, *, note: str = "", **kind: Any) -> None:
        if asked.thread:
            kind["thread_ts"] = asked.thread

        async def post(**content: Any) -> None:
            await respond(asked.response_url, {**kind, **content})

        await blocks_or_text(post, render(message, note=note))

    def _channel(self, asked: Asked) -> SlackChannel:
        return SlackChannel(client=self._client, channel_id=asked.request.sender.place)
