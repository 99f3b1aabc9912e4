"""What Slack sends when people do something: payloads as they arrive in an envelope or over HTTP."""

from __future__ import annotations

import itertools
from typing import Any

BOT = "U0BOT"
APP = "A0AUTO"
_numbers = itertools.count(1)


def command(
    text: str, *, channel: str, user: str = "U0ALICE", name: str = "alice", response_url: str
) -> dict[str, Any]:
    return {
        "command": "/autoresearch",
        "text": text,
        "channel_id": channel,
        "channel_name": "research",
        "user_id": user,
        "user_name": name,
        "team_id": "T0TEAM",
        "api_app_id": APP,
        "trigger_id": f"{next(_numbers)}.98.abcdef",
        "response_url": response_url,
        "token": "legacy",
    }


def press(
    value: str,
    *,
    channel: str,
    message: str,
    thread: str = "",
    label: str = "Pause",
    user: str = "U0ALICE",
    name: str = "alice",
    ephemeral: bool = False,
    action: str = "command 0.0",
    response_url: str,
) -> dict[str, Any]:
    container = {"type": "message", "message_ts": message, "channel_id": channel, "is_ephemeral": ephemeral}
    shown = {"ts": message, "user": BOT, **({"thread_ts": thread} if thread else {})}
    return {
        "type": "block_actions",
        "api_app_id": APP,
        "team": {"id": "T0TEAM"},
        "user": {"id": user, "username": name, "name": name},
        "trigger_id": f"{next(_numbers)}.98.abcdef",
        "container": {**container, **({"thread_ts": thread} if thread else {})},
        "channel": {"id": channel, "name": "research"},
        **({} if ephemeral else {"message": shown}),
        "response_url": response_url,
        "actions": [
            {
                "type": "button",
                "action_id": action,
                "block_id": "b1",
                "text": {"type": "plain_text", "text": label},
                "value": value,
                "action_ts": "1700000500.000001",
            }
        ],
    }


def home_press(
    value: str, view: dict[str, Any], *, label: str = "Pause", user: str = "U0ALICE", name: str = "alice"
) -> dict[str, Any]:
    """Return the press of a button in somebody's Home tab: it has no channel, message or response_url."""
    body = press(value, channel="", message="", label=label, user=user, name=name, response_url="")
    container = {"type": "view", "view_id": view["id"]}
    absent = ("channel", "message", "response_url")
    return {**{key: body[key] for key in body if key not in absent}, "container": container, "view": view}


def shortcut(
    text: str, *, channel: str, ts: str, user: str = "U0ALICE", name: str = "alice", response_url: str
) -> dict[str, Any]:
    return {
        "type": "message_action",
        "callback_id": "try_this",
        "api_app_id": APP,
        "team": {"id": "T0TEAM"},
        "user": {"id": user, "name": name, "team_id": "T0TEAM"},
        "channel": {"id": channel, "name": "research"},
        "trigger_id": f"{next(_numbers)}.98.abcdef",
        "message_ts": ts,
        "message": {"type": "message", "user": "U0BOB", "ts": ts, "text": text},
        "response_url": response_url,
    }


def submission(
    view: dict[str, Any], value: str, *, user: str = "U0ALICE", name: str = "alice"
) -> dict[str, Any]:
    """Return a form with its text filled in, and of each choice the last one taken."""
    values = {}
    for block in (block for block in view["blocks"] if block["type"] == "input"):
        element = block["element"]
        filled = {"type": element["type"], "value": value}
        if element["type"] == "radio_buttons":
            filled = {"type": element["type"], "selected_option": element["options"][-1]}
        values[block["block_id"]] = {element["action_id"]: filled}
    state = {"values": values}
    return {
        "type": "view_submission",
        "api_app_id": APP,
        "team": {"id": "T0TEAM"},
        "user": {"id": user, "username": name, "name": name, "team_id": "T0TEAM"},
        "trigger_id": f"{next(_numbers)}.98.abcdef",
        "view": {**view, "state": state},
        "response_urls": [],
    }


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "event_callback",
        "team_id": "T0TEAM",
        "api_app_id": APP,
        "event_id": f"Ev{next(_numbers):08d}",
        "event_time": 1700000000,
        "authorizations": [{"team_id": "T0TEAM", "user_id": BOT, "is_bot": True}],
        "event": {"type": kind, **fields},
    }


def message(
    text: str, *, channel: str, ts: str, user: str = "U0ALICE", thread: str = "", **fields: Any
) -> dict[str, Any]:
    kind = "im" if channel.startswith("D") else "channel"
    thread_ts = {"thread_ts": thread} if thread else {}
    return event(
        "message", channel=channel, channel_type=kind, ts=ts, user=user, text=text, **thread_ts, **fields
    )


def mention(text: str, *, channel: str, ts: str, user: str = "U0ALICE", thread: str = "") -> dict[str, Any]:
    thread_ts = {"thread_ts": thread} if thread else {}
    return event("app_mention", channel=channel, ts=ts, user=user, text=text, **thread_ts)
