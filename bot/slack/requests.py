"""What Slack delivers, understood as requests: pure functions from its payloads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bot.request import Platform, Request, Sender

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
