"""The way to Slack, and everything that can go wrong on it."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

import pytest

from bot.front import FrontHealth
from notifiers.channels.slack import make_client
from tests.bot.slack_bot import QUICK, STEADY, SlackBot, eventually, slack_bot
from tests.servers.slack_payloads import message
from tests.servers.slack_server import LIMITED, LOST, SILENT, Fault, SlackServer
from tests.servers.slack_workspace import APP_TOKEN, BOT_TOKEN, CHAT


async def works(bot: SlackBot, text: str = "status") -> None:
    """Show that a command arrives now."""
    before = len(bot.asked)
    await bot.server.say(text, channel=CHAT)
    await bot.asks(before + 1)


async def test_health_tells_of_a_connection(server: SlackServer) -> None:
    async with slack_bot(server) as bot:
        assert bot.front.health() == FrontHealth(connected=False, last_seen=None, error="")
        await bot.linked()
        await works(bot)
        health = bot.front.health()
    assert health.connected
    assert health.error == ""
    assert health.last_seen is not None
    assert abs(health.last_seen - time.time()) < 60
    assert not bot.front.health().connected


async def test_a_network_that_is_dead_at_the_start_is_waited_for(
    server: SlackServer, caplog: pytest.LogCaptureFixture
) -> None:
    await server.stop()
    async with slack_bot(server, pace=QUICK) as bot:
        await eventually(lambda: bot.front.health().error)
        assert bot.front.health().error.startswith("no answer from Slack (Cannot connect to host 127.0.0.1")
        await server.start()
        await bot.linked()
        await works(bot)
        assert bot.front.health().error == ""
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 1  # the same trouble is not said again and again


async def test_the_wait_grows_while_connecting_is_of_no_use(
    server: SlackServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bot")
    await server.stop()
    async with slack_bot(server, pace=replace(QUICK, waits=(0.02, 0.04, 0.08, 0.1))):
        await eventually(lambda: len(_pauses(caplog)) >= 5)
    assert _pauses(caplog)[:5] == [0.02, 0.04, 0.08, 0.1, 0.1]


async def test_the_wait_begins_anew_after_a_connection_of_use(
    server: SlackServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bot")
    server.fail("auth.test", *[Fault(status=503)] * 4)
    async with slack_bot(server, pace=replace(QUICK, waits=(0.02, 0.04, 0.08))) as bot:
        await bot.linked()
        await works(bot)
        first = bot.front.health().last_seen or 0
        await eventually(lambda: (bot.front.health().last_seen or 0) > first + 0.1)
        server.socket.cut()
        await bot.linked(2)
    assert _pauses(caplog)[:5] == [0.02, 0.04, 0.08, 0.08, 0.02]


async def test_the_wait_grows_while_slack_does_not_answer(
    server: SlackServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bot")
    server.fail("apps.connections.open", *[SILENT] * 3)
    async with slack_bot(server, pace=replace(QUICK, connect=1, waits=(0.02, 0.04, 0.08))) as bot:
        await bot.linked()
    assert _pauses(caplog)[:3] == [0.02, 0.04, 0.08]


async def test_what_was_said_while_the_network_was_down_is_obeyed_afterwards(server: SlackServer) -> None:
    async with slack_bot(server, pace=QUICK) as bot:
        await bot.linked()
        await works(bot)
        await server.stop()
        for number in range(5):
            await server.say(f"idea {number}", channel=CHAT)
        await server.start()
        await bot.asks(6)
        assert {request.text for request in bot.asked[1:]} == {f"/idea {number}" for number in range(5)}
        await server.until(lambda: not server.socket.unacked)


async def test_a_cut_connection_is_made_anew(server: SlackServer) -> None:
    async with slack_bot(server, pace=QUICK) as bot:
        for times in range(1, 4):
            await bot.linked(times)
            await works(bot)
            server.socket.cut()
        await bot.linked(4)
        await works(bot)


async def test_health_sees_at_once_that_a_connection_is_cut(server: SlackServer) -> None:
    async with slack_bot(server, pace=STEADY) as bot:
        await bot.linked()
        await works(bot)
        server.socket.cut()
        await eventually(lambda: not bot.front.health().connected)


async def test_a_socket_that_falls_silent_is_given_up(server: SlackServer) -> None:
    async with slack_bot(server, pace=QUICK) as bot:
        await bot.linked()
        server.socket.deaf = True
        await eventually(lambda: bot.front.health().error)
        server.socket.deaf = False
        opened = server.socket.opened
        await bot.linked(opened + 1)
        await works(bot)


async def test_a_machine_that_slept_connects_anew(
    server: SlackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with slack_bot(server, pace=QUICK) as bot:
        await bot.linked()
        await works(bot)
        clock = time.time
        monkeypatch.setattr(time, "time", lambda: clock() + 3600)
        await bot.linked(2)
        await works(bot)


async def test_a_server_that_accepts_and_never_answers_is_given_up(server: SlackServer) -> None:
    server.fail("apps.connections.open", SILENT)
    async with slack_bot(server, pace=replace(QUICK, connect=1)) as bot:
        await eventually(lambda: bot.front.health().error)
        assert bot.front.health().error == "no WebSocket within 1 s"
        await bot.linked()
        await works(bot)


async def test_a_websocket_that_never_comes_about_is_given_up(server: SlackServer) -> None:
    server.socket.gate.clear()
    async with slack_bot(server, pace=replace(QUICK, connect=1)) as bot:
        await eventually(lambda: bot.front.health().error)
        server.socket.gate.set()
        await bot.linked()
        await works(bot)


@pytest.mark.parametrize("reason", ["warning", "refresh_requested"])
async def test_a_move_that_slack_asks_for_loses_nothing(server: SlackServer, reason: str) -> None:
    async with slack_bot(server) as bot:
        await bot.linked()
        await works(bot)
        await server.socket.disconnect(reason)
        await server.say("idea on the old connection", channel=CHAT)
        await bot.linked(2)
        await works(bot, "idea on the new one")
        await bot.asks(3)
        await server.until(lambda: len(server.socket.links) == 1)
        assert bot.front.health().connected
    assert len(server.called("auth.test")) == 1  # Slack's client made the move by itself


async def test_a_move_that_fails_ends_in_a_new_connection(server: SlackServer) -> None:
    async with slack_bot(server, pace=QUICK) as bot:
        await bot.linked()
        server.fail("apps.connections.open", Fault(word="internal_error"))
        await server.socket.disconnect()
        await server.until(lambda: len(server.called("apps.connections.open")) == 2)
        await works(bot)  # the old connection lives until Slack ends it
        server.socket.cut()
        await bot.linked(2)
        await works(bot)


async def test_a_move_into_an_outage_ends_in_a_new_connection(server: SlackServer) -> None:
    async with slack_bot(server, pace=QUICK) as bot:
        await bot.linked()
        server.socket.gate.clear()
        await server.socket.disconnect()
        await server.until(lambda: not server.socket.links)
        assert bot.front.health().connected  # as long as the move is on its way
        await eventually(lambda: bot.front.health().error)
        server.socket.gate.set()
        await bot.linked(2)
        await works(bot)


@pytest.mark.parametrize(
    "fault",
    [Fault(status=503), Fault(word="internal_error"), LOST, LIMITED, Fault(status=200, body="<html>")],
)
@pytest.mark.parametrize("method", ["auth.test", "apps.connections.open"])
async def test_connecting_is_tried_again(server: SlackServer, method: str, fault: Fault) -> None:
    server.fail(method, fault, fault if fault is not LIMITED else Fault())
    async with slack_bot(server, pace=QUICK) as bot:
        await bot.linked()
        await works(bot)


async def test_a_rate_limit_is_waited_for(server: SlackServer, caplog: pytest.LogCaptureFixture) -> None:
    server.fail("apps.connections.open", LIMITED)
    async with slack_bot(server, pace=QUICK) as bot:
        await bot.linked()
    assert _pauses(caplog) == [1]


@pytest.mark.parametrize(
    ("tokens", "setting", "word"),
    [
        ({"app_token": "xapp-wrong"}, "SLACK_APP_TOKEN", "invalid_auth"),
        ({"app_token": BOT_TOKEN}, "SLACK_APP_TOKEN", "not_allowed_token_type"),
        ({"bot_token": "xoxb-wrong"}, "SLACK_BOT_TOKEN", "invalid_auth"),
        ({"bot_token": APP_TOKEN}, "SLACK_BOT_TOKEN", "not_allowed_token_type"),
    ],
)
async def test_a_wrong_token_is_said_once_and_never_tried_again(
    server: SlackServer,
    caplog: pytest.LogCaptureFixture,
    tokens: dict[str, str],
    setting: str,
    word: str,
) -> None:
    async with slack_bot(server, pace=replace(QUICK, waits=(0.0,)), **tokens) as bot:
        await eventually(lambda: bot.front.health().error)
        health, calls = bot.front.health(), len(server.calls)
        for _ in range(5):  # time enough for an attempt that does not wait
            await make_client(BOT_TOKEN, server.base_url).auth_test()
        assert len(server.calls) == calls + 5
    assert health.error.startswith(f"Slack does not accept {setting} ({word}): it must be ")
    assert caplog.text.count("Slack does not accept") == 1
    assert not any(token in caplog.text for token in tokens.values())


async def test_a_second_bot_on_the_token_is_named_once(
    server: SlackServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.socket.connections = 2
    async with slack_bot(server, pace=QUICK) as bot:
        await bot.linked()
        await works(bot)
        server.socket.cut()
        await bot.linked(2)
        await works(bot)
    assert caplog.text.count("Slack has 2 connections open") == 1


async def test_ending_is_quick_before_a_server_that_does_not_answer(server: SlackServer) -> None:
    async with slack_bot(server, pace=QUICK) as bot:
        await bot.linked()
        await works(bot)
        server.silent = server.socket.deaf = True
        async with asyncio.timeout(10):  # Slack's client would wait for longer
            await bot.end()


async def test_an_answer_at_hand_is_shown_before_the_end(server: SlackServer) -> None:
    async with slack_bot(server, pace=STEADY) as bot:
        await bot.linked()
        await server.socket.deliver("events_api", message("slow", channel=CHAT, ts="1700000000.000100"))
        await bot.asks()
        bot.done.set()
    assert [call["channel"] for call in server.called("chat.postMessage")] == [CHAT]


async def test_no_proxy_is_obeyed_by_the_socket_too(
    server: SlackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert make_client(BOT_TOKEN, server.base_url).proxy is None
    async with slack_bot(server) as bot:
        await bot.linked()
        await works(bot)


async def test_slacks_own_settings_in_the_environment_change_nothing(
    server: SlackServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("BOT_TOKEN", "APP_TOKEN", "SIGNING_SECRET", "CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.setenv(f"SLACK_{name}", "of-another-app")
    async with slack_bot(server) as bot:
        await bot.linked()
        await works(bot)
    assert caplog.text == ""


def _pauses(caplog: pytest.LogCaptureFixture) -> list[object]:
    """Return the waits that the log tells of."""
    told = [record.args for record in caplog.records if "trying again" in record.msg]
    return [args[-1] for args in told if isinstance(args, tuple)]
