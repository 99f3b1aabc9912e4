"""Slack by signed HTTP requests."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_bolt.async_app import AsyncApp

from bot.slack.connection import PATH, HttpLine
from notifiers.channels.slack import make_client
from tests.bot.slack_bot import QUICK, SlackBot, eventually, slack_bot
from tests.servers import slack_payloads as payloads
from tests.servers.ports import free_port
from tests.servers.slack_server import Fault, SlackServer
from tests.servers.slack_workspace import BOT_TOKEN, CHANNEL, CHAT

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
FORM, JSON = "application/x-www-form-urlencoded", "application/json"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
async def bot(server: SlackServer, port: int) -> AsyncIterator[SlackBot]:
    async with slack_bot(server, pace=QUICK, signing_secret=SECRET, listen=("127.0.0.1", port)) as running:
        await eventually(lambda: running.front.health().connected)
        yield running


@dataclass(frozen=True, slots=True)
class Slack:
    """Sends what Slack sends, signed or not."""

    port: int

    async def send(self, body: bytes, kind: str, **headers: str) -> tuple[int, str]:
        """Return the status and the text of the answer."""
        timestamp = headers.pop("timestamp", str(int(time.time())))
        signature = headers.pop("signature", sign(body, timestamp))
        signed = {"X-Slack-Request-Timestamp": timestamp, "X-Slack-Signature": signature}
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"http://127.0.0.1:{self.port}{PATH}", data=body, headers={"Content-Type": kind, **signed}
            ) as answer,
        ):
            return answer.status, await answer.text()


@pytest.fixture
def slack(port: int) -> Slack:
    return Slack(port)


def sign(body: bytes, timestamp: str, secret: str = SECRET) -> str:
    text = f"v0:{timestamp}:".encode() + body
    return f"v0={hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()}"


def form(payload: dict[str, Any]) -> bytes:
    return urlencode(payload).encode()


def command(server: SlackServer, text: str = "status") -> bytes:
    return form(payloads.command(text, channel=CHANNEL, response_url=server.response_url()))


async def test_a_slash_command_is_answered(server: SlackServer, bot: SlackBot, slack: Slack) -> None:
    assert await slack.send(command(server), FORM) == (200, "")
    await server.until(lambda: server.called("respond"))
    assert [request.text for request in bot.asked] == ["/status"]
    assert bot.front.health().last_seen is not None


async def test_a_press_is_answered(server: SlackServer, bot: SlackBot, slack: Slack) -> None:
    url = server.response_url()
    body = payloads.press("/nonsense", channel=CHANNEL, message="1.2", response_url=url)
    assert await slack.send(form({"payload": json.dumps(body)}), FORM) == (200, "")
    await server.until(lambda: server.called("respond"))


async def test_a_form_is_refused_in_the_answer(server: SlackServer, bot: SlackBot, slack: Slack) -> None:
    asked = payloads.command("idea", channel=CHANNEL, response_url=server.response_url())
    server.workspace.triggers.add(asked["trigger_id"])
    assert await slack.send(form(asked), FORM) == (200, "")
    (view,) = await server.until(server.workspace.modals)
    filled = payloads.submission(view, "DEPTH banana")
    status, text = await slack.send(form({"payload": json.dumps(filled)}), FORM)
    assert (status, json.loads(text)["response_action"]) == (200, "errors")


async def test_a_message_is_answered(server: SlackServer, bot: SlackBot, slack: Slack) -> None:
    body = payloads.message("status", channel=CHAT, ts="1700000000.000100")
    assert await slack.send(json.dumps(body).encode(), JSON) == (200, "")
    await server.until(lambda: server.called("chat.postMessage"))


async def test_slack_can_verify_the_address(bot: SlackBot, slack: Slack) -> None:
    body = json.dumps({"type": "url_verification", "challenge": "3eZbrw1a", "token": "legacy"}).encode()
    status, text = await slack.send(body, JSON)
    assert status == 200
    assert "3eZbrw1a" in text


@pytest.mark.parametrize(
    "headers",
    [
        {"signature": "v0=" + "0" * 64},
        {"signature": ""},
        {"signature": "v0=é"},
        {"timestamp": "0"},
        {"timestamp": str(int(time.time()) - 301)},
        {"timestamp": str(int(time.time()) + 86_400)},  # which was now when the tests were collected
        {"timestamp": ""},
        {"timestamp": "soon"},
        {"timestamp": "9" * 6000},
    ],
)
async def test_what_slack_has_not_signed_within_five_minutes_does_nothing(
    server: SlackServer, bot: SlackBot, slack: Slack, headers: dict[str, str]
) -> None:
    assert (await slack.send(command(server), FORM, **headers))[0] == 401
    await _nothing_came_before(server, bot, slack)


async def test_a_wrong_secret_does_nothing(server: SlackServer, bot: SlackBot, slack: Slack) -> None:
    body, now = command(server), str(int(time.time()))
    assert (await slack.send(body, FORM, timestamp=now, signature=sign(body, now, "other")))[0] == 401
    await _nothing_came_before(server, bot, slack)


async def test_a_body_changed_on_the_way_does_nothing(
    server: SlackServer, bot: SlackBot, slack: Slack
) -> None:
    now = str(int(time.time()))
    signature = sign(command(server), now)
    for body in (command(server, "stop"), b"", b"\xff\xfe"):
        assert (await slack.send(body, FORM, timestamp=now, signature=signature))[0] == 401
    await _nothing_came_before(server, bot, slack)


async def test_a_request_that_slack_sends_again_has_the_same_key(
    server: SlackServer, bot: SlackBot, slack: Slack
) -> None:
    body = command(server)
    for _ in range(2):
        await slack.send(body, FORM)
    await server.until(lambda: len(bot.delivered) == 2)
    assert len(bot.asked) == 1


async def test_a_port_that_is_taken_is_waited_for(server: SlackServer, port: int, slack: Slack) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        async with slack_bot(server, pace=QUICK, signing_secret=SECRET, listen=("127.0.0.1", port)) as bot:
            await eventually(lambda: bot.front.health().error)
            assert f"cannot listen on 127.0.0.1:{port}" in bot.front.health().error
            other.close()
            await eventually(lambda: bot.front.health().connected)
            assert await slack.send(command(server), FORM) == (200, "")


async def test_slack_is_asked_who_we_are_until_it_says(server: SlackServer, port: int) -> None:
    server.fail("auth.test", Fault(status=503), Fault(status=503))
    async with slack_bot(server, pace=QUICK, signing_secret=SECRET, listen=("127.0.0.1", port)) as bot:
        await eventually(lambda: bot.front.health().connected)
    assert len(server.called("auth.test")) == 3


@given(st.binary(max_size=50), st.text(max_size=30), st.text(max_size=80))
def test_no_signature_but_the_right_one_is_taken(body: bytes, timestamp: str, signature: str) -> None:
    app = AsyncApp(client=make_client(BOT_TOKEN), signing_secret=SECRET, name="test")
    line = HttpLine(app=app, signing_secret=SECRET, host="127.0.0.1", port=0)
    assert not line.is_signed(body, timestamp, signature)
    now = str(int(time.time()))
    assert line.is_signed(body, now, sign(body, now)) == _is_utf8(body)


def _is_utf8(body: bytes) -> bool:
    return body.decode(errors="replace").encode() == body


async def _nothing_came_before(server: SlackServer, bot: SlackBot, slack: Slack) -> None:
    await slack.send(command(server, "help"), FORM)
    assert [request.text for request in await bot.asks()] == ["/help"]
