from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slack_sdk.web.async_client import AsyncWebClient

from bot.commands.table import VISIBLE
from bot.slack import manifest
from bot.slack.requests import TRY_THIS
from tests.servers.slack_rules import EVENTS, SCOPES

yaml = pytest.importorskip("yaml")


SOURCES = [
    *(str(path) for path in Path("bot/slack").glob("*.py")),
    "notifiers/channels/slack.py",
]
_UPLOAD = ("files.getUploadURLExternal", "files.completeUploadExternal")


def used_methods(source: str) -> Iterator[str]:
    """Return the methods of the Web API that a source calls: `client.chat_postMessage` and the like."""
    for name in re.findall(r"\.([a-z]+_\w+)\(", source):
        if hasattr(AsyncWebClient, name):
            yield from _UPLOAD if name == "files_upload_v2" else [name.replace("_", ".")]


@pytest.fixture
def app() -> dict[str, Any]:
    app: dict[str, Any] = yaml.safe_load(manifest())
    return app


def test_it_has_the_parts_that_slack_knows_within_their_limits(app: dict[str, Any]) -> None:
    assert set(app) == {"display_information", "features", "oauth_config", "settings"}
    assert len(app["display_information"]["name"]) <= 35
    assert len(app["display_information"]["description"]) <= 140
    assert re.fullmatch(r"[a-z0-9._-]{1,80}", app["features"]["bot_user"]["display_name"])


def test_one_slash_command_carries_all_others(app: dict[str, Any]) -> None:
    (command,) = app["features"]["slash_commands"]
    assert re.fullmatch(r"/[a-z0-9_-]{1,31}", command["command"])
    assert 0 < len(command["description"]) <= 2000
    assert len(command["usage_hint"]) <= 1000
    hint = command["usage_hint"].split(" | ")
    assert [usage.split()[0] for usage in hint] == [command.name for command in VISIBLE]


def test_the_bot_can_be_written_to_in_private(app: dict[str, Any]) -> None:
    home = app["features"]["app_home"]
    assert home["messages_tab_enabled"] is True
    assert home["messages_tab_read_only_enabled"] is False


def test_everything_comes_over_the_websocket(app: dict[str, Any]) -> None:
    assert app["settings"]["socket_mode_enabled"] is True
    assert app["settings"]["interactivity"]["is_enabled"] is True
    assert "http" not in manifest()


def test_everything_that_is_used_has_its_scope_and_no_scope_is_unused(app: dict[str, Any]) -> None:
    methods = {method for name in SOURCES for method in used_methods(Path(name).read_text())}
    assert methods <= SCOPES.keys()
    events = app["settings"]["event_subscriptions"]["bot_events"]
    wanted = {SCOPES[method] for method in methods} | {EVENTS[event] for event in events} | {"commands"}
    scopes = app["oauth_config"]["scopes"]["bot"]
    assert set(scopes) == wanted - {""}
    assert len(scopes) == len(set(scopes))


def test_what_people_can_open_and_press_is_in_it(app: dict[str, Any]) -> None:
    assert app["features"]["app_home"]["home_tab_enabled"] is True
    assert "app_home_opened" in app["settings"]["event_subscriptions"]["bot_events"]
    (shortcut,) = app["features"]["shortcuts"]
    assert (shortcut["callback_id"], shortcut["type"]) == (TRY_THIS, "message")
    assert len(shortcut["name"]) <= 24
    assert len(shortcut["description"]) <= 150
