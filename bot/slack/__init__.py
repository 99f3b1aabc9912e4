"""The front end for Slack. This is its entry in `bot.platforms`; `manifest` describes the app.

Start at `front.py`: `requests.py` reads what people do, `answers.py` shows what is said to it, `home.py` and
`modals.py` keep the app's tab and its forms. slack_bolt is imported only where a token is set.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from types import ModuleType

from bot.chat_checks import check_slack
from bot.commands.access import Access, AllowList
from bot.commands.table import VISIBLE
from bot.front import Answer, Connection, Platform, instead, require_token
from bot.setup.doctor import Check
from bot.setup.settings import Settings
from bot.slack.requests import TRY_THIS, VERBS
from notifiers.delivery.rate_limit import Clock, slack_spacing


def _allowed(settings: Settings) -> AllowList:
    users, channels = settings.slack_user_ids, settings.slack_channels
    return AllowList(
        users, channels, "SLACK_USER_IDS", "SLACK_CHANNELS", lambda sender: sender.place.startswith("D")
    )


def _connect(settings: Settings, answer: Answer, access: Access, clock: Clock) -> Connection | None:
    token = settings.slack_bot_token.get_secret_value()
    if not token:
        return None
    server = ModuleType("aiohttp.web")  # 2 MB that slack_bolt names in types, and uses in a server of its own
    vars(server)["__getattr__"] = lambda _: None
    with instead({server.__name__: server}):
        from bot.slack.front import SlackFront
        from notifiers.channels.slack import SlackChannel, make_client

    app_token = settings.slack_app_token.get_secret_value()
    require_token(token, "SLACK_BOT_TOKEN", begins="xox.-", example="xoxb-…")
    if app_token:
        require_token(app_token, "SLACK_APP_TOKEN", begins="xapp-", example="xapp-…")
    client = make_client(token, settings.slack_base_url)
    front = SlackFront(
        client=client,
        answer=answer,
        allowed=access.lists[SLACK.name],
        home_tabs=settings.home / "slack-home.json",
        app_token=app_token,
        signing_secret=settings.slack_signing_secret.get_secret_value(),
        listen=settings.slack_listen,
    )
    channels = [
        (SlackChannel(client=client, channel_id=place, verbs=VERBS), slack_spacing(clock=clock))
        for place in settings.slack_channels
    ]

    async def check(alone: bool) -> Sequence[Check]:
        told = app_token if alone and settings.slack_listen is None else ""
        return await check_slack(
            client, app_token=told, channels=settings.slack_channels, scopes=tuple(SCOPES)
        )

    return Connection(front.run, front.health, channels, check)


SLACK = Platform("slack", _allowed, _connect)


# The manifest, from which Slack makes the app: "Create New App", "From a manifest"

SLASH_COMMAND = "/autoresearch"  # the one slash command; Slack's own ones win over names such as `/status`

SCOPES = {
    "app_mentions:read": "@bot status",
    "channels:history": "!status in public channels and their threads",
    "channels:join": "joins a public channel that it writes to",
    "chat:write": "writes its messages",
    "commands": f"{SLASH_COMMAND} status, and Try this in the menu of a message",
    "files:read": "sees when Slack can show a chart in a message",
    "files:write": "sends charts and long logs",
    "groups:history": "!status in private channels",
    "im:history": "status in a chat with the bot",
    "pins:write": "pins the card of a run",
}
_EVENTS = ("app_home_opened", "app_mention", "message.channels", "message.groups", "message.im")


def manifest() -> str:
    """Return the app manifest as YAML, with a comment at each scope saying what it is for."""
    app = {
        "display_information": {
            "name": "Autoresearch",
            "description": "Runs machine-learning experiments overnight and reports the results",
        },
        "features": {
            "bot_user": {"display_name": "autoresearch", "always_online": True},
            "app_home": {
                "home_tab_enabled": True,
                "messages_tab_enabled": True,
                "messages_tab_read_only_enabled": False,
            },
            "shortcuts": [
                {
                    "name": "Try this",
                    "type": "message",
                    "callback_id": TRY_THIS,
                    "description": "Make an idea of this message for the next experiments",
                }
            ],
            "slash_commands": [
                {
                    "command": SLASH_COMMAND,
                    "description": "Talk to the research bot",
                    "usage_hint": " | ".join(command.usage.removeprefix("/") for command in VISIBLE),
                    "should_escape": False,
                }
            ],
        },
        "oauth_config": {"scopes": {"bot": list(SCOPES)}},
        "settings": {
            "event_subscriptions": {"bot_events": list(_EVENTS)},
            "interactivity": {"is_enabled": True},
            "org_deploy_enabled": False,
            "socket_mode_enabled": True,
            "token_rotation_enabled": False,
        },
    }
    text = json.dumps(app, indent=2, ensure_ascii=False)  # which is YAML too
    for scope, use in SCOPES.items():
        text = re.sub(f'^ *"{scope}",?$', rf"\g<0>  # {use}", text, flags=re.MULTILINE)
    return f"{text}\n"
