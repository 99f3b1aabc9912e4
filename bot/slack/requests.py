"""What people do on Slack, as requests: commands, mentions, private chats, `!verb`, buttons, shortcuts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bot.commands.access import Request, Sender
from bot.commands.table import VISIBLE, without_run
from notifiers.channels.slack_blocks import SHARE

NAME = "slack"
HOME = "home"  # the topic of what is done in the app's Home tab; its place is the chat with the bot
MENU = "/"  # the command of a person who names none
TRY_THIS = "try_this"  # the shortcut in a message's menu that makes an idea of it
VERBS = tuple(command.name for command in VISIBLE)  # what is typed after `/autoresearch`
FORMS = frozenset({"start_run", "idea"})  # commands that a form asks for where their arguments are not given
_SUBTYPES = frozenset({None, "thread_broadcast", "file_share"})  # what people write; edits and joins are not
_MENTION = re.compile(r"\s*<@(\w+)(?:\|[^>]*)?>[\s:,]*")
_SHOUT = re.compile(r"\s*![A-Za-z_]")
# Slack's own forms in text: users, channels and groups; links that it made of what looked like one.
_REFERENCE = re.compile(r"<([@#!])([^\s|<>]+)(?:\|([^<>]*))?>")
_LINK = re.compile(r"<((?:https?|ftp|mailto|tel):[^\s|<>]+)(?:\|([^<>]*))?>")


@dataclass(frozen=True, slots=True)
class AskedOnSlack:
    """A request, and what its answer needs to know.

    `message` is the one that asks, or whose button was pressed, empty for a slash command;
    `thread` is the thread that it is in. `note` says who asked what where nobody else can see it; those
    requests come with a `response_url` and a `trigger`, which opens a modal within three seconds. An
    `ephemeral` message is one that only the sender sees. A `shared` request wants
    the answer, which its sender has seen, shown to all; one that is `from_message` has its arguments from
    somebody's message. `team` is the workspace of the sender.
    """

    request: Request
    message: str = ""
    thread: str = ""
    ephemeral: bool = False
    note: str = ""
    response_url: str = ""
    trigger: str = ""
    shared: bool = False
    from_message: bool = False
    team: str = ""

    @property
    def verb(self) -> str:
        return self.request.text.split()[0].removeprefix("/").lower()

    @property
    def wants_form(self) -> bool:
        """Whether a form can ask for the arguments: they are missing, or are somebody's message."""
        bare = len(self.request.text.split()) == 1
        return bool(self.trigger) and (bare or self.from_message) and self.verb in FORMS

    @property
    def private(self) -> bool:
        """Whether it was asked in a chat with the bot alone."""
        return _is_private(self.request.sender.place)

    @property
    def at_home(self) -> bool:
        return self.request.sender.topic == HOME


def from_command(body: Mapping[str, Any], *, now: float) -> AskedOnSlack:
    """Return what a slash command asks; Slack does not say when it was given, so it was `now`."""
    user, place, trigger = str(body["user_id"]), str(body["channel_id"]), str(body["trigger_id"])
    name = str(body.get("user_name") or user)
    text = command_text(str(body.get("text", "")))
    request = Request(Sender(NAME, user, place, name), text, f"slack:{trigger}", now)
    return AskedOnSlack(
        request,
        note=f"{name}: {text}",
        response_url=str(body["response_url"]),
        trigger=trigger,
        team=str(body.get("team_id") or ""),
    )


def from_press(body: Mapping[str, Any], *, now: float) -> AskedOnSlack | None:
    """Return what the press of a button under a message or in the Home tab asks, None for any other."""
    action, container, view = body["actions"][0], body["container"], body.get("view") or {}
    at_home = view.get("type") == "home"
    if not action.get("value") or not (at_home or container.get("type") == "message"):
        return None
    user, name, team = person(body)
    message = str(container.get("message_ts") or "")
    place = str(view["private_metadata"] if at_home else container["channel_id"])
    text, run = without_run(command_text(str(action["value"])))
    shared = action["action_id"] == SHARE
    return AskedOnSlack(
        Request(
            Sender(NAME, user, place, name, topic=HOME if at_home else ""),
            text,
            f"slack:{body['trigger_id']}",
            _seconds(action.get("action_ts"), now),
            message,
            pressed=True,
            run=run,
        ),
        message=message,
        thread=str(container.get("thread_ts") or body.get("message", {}).get("thread_ts") or ""),
        ephemeral=bool(container.get("is_ephemeral")),
        note=f"{name}: {text}" if shared else f"{name} pressed {_unescaped(str(action['text']['text']))}",
        response_url=str(body.get("response_url") or ""),
        trigger=str(body["trigger_id"]),
        shared=shared,
        team=team,
    )


def from_shortcut(body: Mapping[str, Any], *, now: float) -> AskedOnSlack | None:
    """Return the idea that the text of a message is, None for another shortcut."""
    if body.get("callback_id") != TRY_THIS or "message" not in body:
        return None
    user, name, team = person(body)
    place, message, trigger = str(body["channel"]["id"]), body["message"], str(body["trigger_id"])
    thread = str(message.get("thread_ts") or message["ts"])
    text = command_text(f"idea {message.get('text') or ''}")
    return AskedOnSlack(
        Request(Sender(NAME, user, place, name), text, f"slack:{trigger}", now, thread),
        message=str(message["ts"]),
        thread=thread,
        note=f"{name}: {text}",
        response_url=str(body["response_url"]),
        trigger=trigger,
        from_message=True,
        team=team,
    )


def from_opening(body: Mapping[str, Any]) -> Sender | None:
    """Return who has opened the Home tab, None where it is another event or tab."""
    event = body["event"]
    if event["type"] != "app_home_opened" or event.get("tab", HOME) != HOME:
        return None
    return Sender(NAME, str(event["user"]), str(event["channel"]), str(event["user"]), topic=HOME)


def person(body: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the id, the name and the workspace of who acts."""
    user = body["user"]
    name = user.get("username") or user.get("name") or user["id"]
    return str(user["id"]), str(name), str(user.get("team_id") or (body.get("team") or {}).get("id") or "")


def from_event(body: Mapping[str, Any], *, me: str, now: float) -> AskedOnSlack | None:
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
    mention = _MENTION.match(text)
    if mention and mention[1] == me:
        text = text[mention.end() :]
    elif not _is_private(place) and not _SHOUT.match(text):
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
    team = str(event.get("user_team") or event.get("team") or "")
    return AskedOnSlack(request, message=ts, thread=thread, team=team)


def command_text(text: str) -> str:
    """Return text as a command, `/verb …`: without Slack's markup, `MENU` where nothing is left."""
    words = _unescaped(_REFERENCE.sub(_name, _LINK.sub(_target, text))).strip()
    words = words[1:].strip() if words.startswith(("/", "!")) else words
    return f"/{words}"


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
