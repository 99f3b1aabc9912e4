"""What is said of a token, a chat and a channel, against servers that answer as Telegram and Slack do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence

import pytest

from bot import chat_checks as asked
from bot.platforms import chat_checks
from bot.setup.doctor import Check
from bot.setup.settings import load_settings
from notifiers.channels.telegram import TelegramChannel
from tests.servers import telegram_server
from tests.servers.ports import free_port
from tests.servers.slack_server import SILENT, Fault, SlackServer
from tests.servers.slack_workspace import APP_TOKEN, BOT_TOKEN, CHANNEL, FOREIGN, PRIVATE
from tests.servers.telegram_api import TOKEN, Chat
from tests.servers.telegram_server import SILENCE, Answer, TelegramServer, page, refusal


@pytest.fixture
async def telegram() -> AsyncIterator[TelegramServer]:
    async with telegram_server.serving() as server:
        yield server


@pytest.fixture
async def slack() -> AsyncIterator[SlackServer]:
    server = SlackServer()
    await server.start()
    yield server
    await server.stop()


async def checked(**environ: str) -> Sequence[Check]:
    """What `doctor` says; no token is in it."""
    settings = load_settings(environ=environ)
    found = await asyncio.to_thread(chat_checks, settings)
    assert not [secret for secret in settings.secrets if secret in str(found)]
    return found


async def of_telegram(server: TelegramServer, ids: str = "7", token: str = TOKEN) -> Sequence[Check]:
    environ = {"TELEGRAM_BASE_URL": server.base_url, "TELEGRAM_CHAT_IDS": ids}
    return await checked(TELEGRAM_BOT_TOKEN=token, **environ)


async def of_slack(server: SlackServer, channels: str = CHANNEL, **tokens: str) -> Sequence[Check]:
    given = {"SLACK_BOT_TOKEN": BOT_TOKEN, "SLACK_APP_TOKEN": APP_TOKEN} | tokens
    return await checked(SLACK_BASE_URL=server.base_url, SLACK_CHANNELS=channels, **given)


async def test_a_good_telegram_is_told(telegram: TelegramServer) -> None:
    assert await of_telegram(telegram) == [Check("Telegram", True, "connected as @lab_bot, 1 chat")]
    assert telegram.api.posts == []


@pytest.mark.parametrize("answer", [None, refusal(401, "Unauthorized"), refusal(404, "Not Found")])
async def test_a_token_that_telegram_does_not_know_fails(
    telegram: TelegramServer, answer: Answer | None
) -> None:
    if answer is not None:
        telegram.fail_always("getMe", answer)
    (check,) = await of_telegram(telegram, token="12:abc")
    assert (check.name, check.ok) == ("Telegram", False)
    assert "TELEGRAM_BOT_TOKEN" in check.detail
    assert "@BotFather" in check.fix


async def test_what_cannot_be_a_token_is_not_shown_to_anybody(telegram: TelegramServer) -> None:
    (check,) = await of_telegram(telegram, token="hello")
    assert check.ok is False
    assert telegram.calls == []


@pytest.mark.parametrize(
    ("chat", "answer", "fix"),
    [
        ("99", None, "START"),
        ("-100123", None, "Add @lab_bot to the group"),
        ("7", refusal(403, "Forbidden: bot was blocked by the user"), "Unblock @lab_bot"),
        ("-1001", refusal(403, "Forbidden: bot was kicked from the supergroup chat"), "to the group again"),
        ("-1001", refusal(400, "Bad Request: not enough rights to send text messages"), "Allow @lab_bot"),
        ("-1001/15", refusal(400, "Bad Request: message thread not found"), "topic"),
        ("7", refusal(400, "Bad Request: something new"), "TELEGRAM_CHAT_IDS"),
    ],
)
async def test_a_chat_that_takes_no_messages_fails_with_the_fix(
    telegram: TelegramServer, chat: str, answer: Answer | None, fix: str
) -> None:
    if answer is not None:
        telegram.fail_always("sendChatAction", answer)
    connected, bad = await of_telegram(telegram, chat)
    assert connected == Check("Telegram", True, "connected as @lab_bot, 0 of 1 chat")
    assert (bad.name, bad.ok) == (f"telegram:{chat}".replace("/", ":"), False)
    assert fix in bad.fix


async def test_one_chat_of_three_is_named(telegram: TelegramServer) -> None:
    telegram.api.chats[8] = Chat(8)
    found = await of_telegram(telegram, "7,99,8")
    assert [check.name for check in found if check.ok is False] == ["telegram:99"]


async def test_without_a_list_the_way_to_one_is_told(telegram: TelegramServer) -> None:
    (check,) = await of_telegram(telegram, "")
    assert check.ok is None
    assert "/id" in check.fix


@pytest.mark.parametrize("answer", [SILENCE, page(502), refusal(500, "Internal Server Error"), None])
async def test_a_telegram_that_is_not_reached_is_a_warning(
    telegram: TelegramServer, answer: Answer | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "PATIENCE", 0.5)
    if answer is None:
        await telegram.stop()
    else:
        telegram.fail_always("getMe", answer)
    (check,) = await of_telegram(telegram)
    assert check.ok is None
    assert check.detail.startswith(f"{telegram.base_url.removeprefix('http://')} cannot be reached (")
    assert "httpx" not in check.detail
    assert check.detail.count("(") == check.detail.count(")")


async def test_a_chat_that_is_not_answered_for_is_a_warning(
    telegram: TelegramServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait(_: TelegramChannel) -> None:
        raise TimeoutError

    monkeypatch.setattr(TelegramChannel, "check", wait)
    _, check = await of_telegram(telegram)
    assert check == Check("telegram:7", None, f"not checked (no answer within {asked.PATIENCE:g} s)")


async def test_a_proxy_that_is_down_is_a_warning_without_its_password(
    telegram: TelegramServer, slack: SlackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://ann:hush@127.0.0.1:{free_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    found = [*await of_telegram(telegram), *await of_slack(slack)]
    assert [check.ok for check in found] == [None, None]
    assert "hush" not in str(found)


async def test_a_good_slack_is_told(slack: SlackServer) -> None:
    slack.workspace.scopes = ("chat:write", *_SCOPES)
    good = "connected as @autoresearch in Lab, 1 channel"
    assert await of_slack(slack) == [Check("Slack", True, good)]
    assert slack.workspace.shown() == []


_READING = ("app_mentions:read", "channels:history", "groups:history", "im:history")
_SCOPES = (*_READING, "channels:join", "commands", "files:read", "files:write", "pins:write")


@pytest.mark.parametrize("word", ["invalid_auth", "token_revoked", "account_inactive"])
async def test_a_bot_token_that_slack_does_not_accept_fails(slack: SlackServer, word: str) -> None:
    slack.fail("auth.test", Fault(word=word))
    (check,) = await of_slack(slack)
    assert (check.name, check.ok) == ("Slack", False)
    assert f"SLACK_BOT_TOKEN ({word})" in check.detail
    assert "xoxb" in check.fix


@pytest.mark.parametrize("fault", [None, Fault(word="missing_scope")])
async def test_an_app_token_that_slack_does_not_accept_fails(slack: SlackServer, fault: Fault | None) -> None:
    if fault is not None:
        slack.fail("apps.connections.open", fault)
    well, check = await of_slack(slack, SLACK_APP_TOKEN="xapp-wrong")
    assert well.ok
    assert check.ok is False
    assert "SLACK_APP_TOKEN" in check.detail
    assert "connections:write" in check.fix


async def test_channels_are_looked_at(slack: SlackServer) -> None:
    well, *bad = await of_slack(slack, f"{CHANNEL},{FOREIGN},{PRIVATE},C9")
    assert well.detail.endswith(", 2 of 4 channels")  # the foreign one is public: it is joined when needed
    assert [(check.name, check.ok) for check in bad] == [(f"slack:{PRIVATE}", False), ("slack:C9", False)]
    assert not slack.workspace.rooms[FOREIGN].member


async def test_scopes_that_are_missing_are_named(slack: SlackServer) -> None:
    slack.workspace.scopes = _SCOPES[:-1]
    found = await of_slack(slack, f"{CHANNEL},{FOREIGN}")
    scopes = next(check for check in found if check.name == "Slack scopes")
    assert (scopes.ok, scopes.detail) == (False, "missing: chat:write, pins:write")
    slack.workspace.scopes = ("chat:write", *(scope for scope in _SCOPES if scope != "channels:join"))
    found = await of_slack(slack, f"{CHANNEL},{FOREIGN}")
    assert [(check.name, check.ok) for check in found[1:]] == [
        (f"slack:{FOREIGN}", False),
        ("Slack scopes", None),
    ]


@pytest.mark.parametrize("fault", [SILENT, Fault(status=503), Fault(body="<html>proxy</html>"), None])
async def test_a_slack_that_is_not_reached_is_a_warning(
    slack: SlackServer, fault: Fault | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "PATIENCE", 0.5)
    if fault is None:
        await slack.stop()
    else:
        slack.fail("auth.test", fault)
    (check,) = await of_slack(slack)
    assert check.ok is None
    assert "cannot be reached" in check.detail
    assert "ssl" not in check.detail
    assert check.detail.count("(") == check.detail.count(")")


async def test_a_refusal_with_its_scope_is_read(slack: SlackServer) -> None:
    needed = {"ok": False, "error": "missing_scope", "needed": "channels:history", "provided": "chat:write"}
    slack.fail("conversations.history", Fault(body=json.dumps(needed), kind="application/json"))
    (check,) = await of_slack(slack)
    assert check.ok  # writing does not need it


async def test_ids_without_a_token_are_a_warning() -> None:
    (check,) = await checked(TELEGRAM_USER_IDS="7")
    assert (check.name, check.ok) == ("Telegram", None)
    assert "TELEGRAM_USER_IDS" in check.detail


async def test_nothing_set_is_nothing_to_say() -> None:
    assert await checked() == []
