"""The manifest from which Slack makes the app: paste it under "Create New App", "From a manifest"."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from bot.commands import Command

SLASH_COMMAND = "/autoresearch"
"""The one slash command; Slack's own ones win over names such as `/status`."""
_HINT = 1000  # characters, https://docs.slack.dev/reference/app-manifest

_SCOPES = {
    "app_mentions:read": "@bot status",
    "channels:history": "!status in public channels and their threads",
    "channels:join": "joins a public channel that it writes to",
    "chat:write": "writes its messages",
    "commands": f"{SLASH_COMMAND} status",
    "files:write": "sends charts and long logs",
    "groups:history": "!status in private channels",
    "im:history": "status in a chat with the bot",
    "pins:write": "pins the card of a run",
}
_EVENTS = ("app_mention", "message.channels", "message.groups", "message.im")


def manifest(commands: Iterable[Command]) -> str:
    """Return the app manifest as YAML, with a comment at each scope saying what it is for."""
    app = {
        "display_information": {
            "name": "Autoresearch",
            "description": "Runs machine-learning experiments overnight and reports the results",
        },
        "features": {
            "bot_user": {"display_name": "autoresearch", "always_online": True},
            "app_home": {
                "home_tab_enabled": False,
                "messages_tab_enabled": True,
                "messages_tab_read_only_enabled": False,
            },
            "slash_commands": [
                {
                    "command": SLASH_COMMAND,
                    "description": "Talk to the research bot",
                    "usage_hint": _usage_hint(command.usage.removeprefix("/") for command in commands),
                    "should_escape": False,
                }
            ],
        },
        "oauth_config": {"scopes": {"bot": list(_SCOPES)}},
        "settings": {
            "event_subscriptions": {"bot_events": list(_EVENTS)},
            "interactivity": {"is_enabled": True},
            "org_deploy_enabled": False,
            "socket_mode_enabled": True,
            "token_rotation_enabled": False,
        },
    }
    text = json.dumps(app, indent=2, ensure_ascii=False)  # which is YAML too
    for scope, use in _SCOPES.items():
        text = re.sub(f'^ *"{scope}",?$', rf"\g<0>  # {use}", text, flags=re.MULTILINE)
    return f"{text}\n"


def _usage_hint(usages: Iterable[str]) -> str:
    """Return as many of the usages as the hint may hold."""
    hint = ""
    for usage in usages:
        longer = f"{hint} | {usage}" if hint else usage
        if len(longer) > _HINT:
            break
        hint = longer
    return hint or "help"
