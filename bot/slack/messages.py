"""What Slack delivers, understood as requests: pure functions from its payloads."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slack_sdk.web.async_client import AsyncWebClient

from bot.access import Platform, Request, Sender
from bot.front import show_answer
from notifiers.channel import RefusedError
from notifiers.channels.slack import SlackChannel, blocks_or_text, render, respond
from notifiers.message import Message, Reply

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
    `thread` is the thread that it is in. `told` says who asked what where nobody else can see it; those
    requests come with a `response_url`. `private` is a chat with the bot alone, `ephemeral` a message that
    only the sender sees.
    """

    request: Request
    private: bool
    message: str = ""
    thread: str = ""
    pressed: bool = False
    ephemeral: bool = False
    told: str = ""
    response_url: str = ""


def from_command(body: Mapping[str, Any], *, now: float) -> Asked:
    """Return what a slash command asks; Slack does not say when it was given, so it was `now`."""
    user, place = str(body["user_id"]), str(body["channel_id"])
    name = str(body.get("user_name") or user)
    text = command_text(str(body.get("text", "")))
    request = Request(Sender(Platform.SLACK, user, place, name), text, f"slack:{body['trigger_id']}", now)
    return Asked(request, _is_private(place), told=f"{name}: {text}", response_url=str(body["response_url"]))


def from_press(body: Mapping[str, Any], *, now: float) -> Asked | None:
    """Return what a pressed button asks, None where it is none of ours."""
    action, container, user = body["actions"][0], body["container"], str(body["user"]["id"])
    if not action.get("value") or container.get("type") != "message":
        return None
    name = str(body["user"].get("username") or user)
    place, message = str(container["channel_id"]), str(container["message_ts"])
    request = Request(
        Sender(Platform.SLACK, user, place, name),
        command_text(str(action["value"])),
        f"slack:{body['trigger_id']}",
        _seconds(action.get("action_ts"), now),
        message,
    )
    return Asked(
        request,
        _is_private(place),
        message=message,
        thread=str(container.get("thread_ts") or body.get("message", {}).get("thread_ts") or ""),
        pressed=True,
        ephemeral=bool(container.get("is_ephemeral")),
        told=f"{name} pressed {_unescaped(str(action['text']['text']))}",
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
        Sender(Platform.SLACK, user, place, user),
        command_text(text),
        f"slack:{place}:{ts}",
        _seconds(ts, now),
        thread or ts,  # what replies to a message in a thread replies to the thread
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


class SlackReplies:
    """Shows the answers to requests.

    Refusals, and answers to the commands in `personal`, are for the eyes of whoever asked; all others are
    public and say who asked. `waits` are the seconds from one attempt to the next while Slack is in trouble.
    """

    def __init__(self, *, client: AsyncWebClient, personal: Collection[str], waits: Sequence[float]) -> None:
        self._client = client
        self._personal = personal
        self._waits = waits

    async def show(self, asked: Asked, reply: Reply) -> None:
        """Show an answer; one that Slack does not take is given up with a line in the log."""
        await show_answer(lambda: self._show(asked, reply), asked.request, self._waits)

    async def _show(self, asked: Asked, reply: Reply) -> None:
        verb = asked.request.text.split()[0].removeprefix("/").lower()
        if reply.replaces and asked.pressed:
            await self._replace(asked, reply.message)
        elif (reply.refused or verb in self._personal) and not asked.private:
            await self._whisper(asked, reply.message)
        else:
            await self._say(asked, reply.message)

    async def _replace(self, asked: Asked, message: Message) -> None:
        try:
            await self._channel(asked).edit(asked.message, message, note=asked.told)
        except RefusedError:  # it is ephemeral, or in a channel that the bot is not in
            await self._respond(asked, message, note=asked.told, replace_original=True)

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
            await self._channel(asked).send(message, reply_to=thread, note=asked.told)
        except RefusedError:
            if not asked.response_url:
                raise
            # Slash commands work in channels that the bot is not in; this way in is open there too.
            await self._respond(
                asked, message, note=asked.told, response_type="in_channel", replace_original=False
            )

    async def _respond(self, asked: Asked, message: Message, *, note: str = "", **kind: Any) -> None:
        if asked.thread:
            kind["thread_ts"] = asked.thread

        async def post(**content: Any) -> None:
            await respond(asked.response_url, {**kind, **content})

        await blocks_or_text(post, render(message, note=note))

    def _channel(self, asked: Asked) -> SlackChannel:
        return SlackChannel(client=self._client, channel_id=asked.request.sender.place)
