from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bot.telegram.connection import Webhook
from tests.bot.telegram_front import PACE, Answers, log_watch, running
from tests.servers.ports import free_port
from tests.servers.telegram_server import TelegramServer, page, refusal, serving

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")

SECRET = "loopback-secret"
URL = "https://lab.example/telegram/hook"


@pytest.fixture
async def server() -> AsyncIterator[TelegramServer]:
    async with serving() as server:
        yield server


@pytest.fixture
def webhook() -> Webhook:
    return Webhook(URL, SECRET, port=free_port())


async def push(webhook: Webhook, update: dict[str, Any], secret: str | None = SECRET) -> int:
    """Hand an update over as the proxy in front of the bot does, and return the status."""
    headers = {"Content-Type": "application/json"}
    if secret is not None:
        headers["X-Telegram-Bot-Api-Secret-Token"] = secret
    address = f"http://{webhook.host}:{webhook.port}/telegram/hook"
    async with (
        aiohttp.ClientSession() as session,
        session.post(address, data=json.dumps(update), headers=headers) as response,
    ):
        return response.status


async def listening(server: TelegramServer) -> None:
    """Wait until the front end listens: it sets the menu after that."""
    await server.called("setMyCommands")


async def test_updates_with_the_secret_are_obeyed(
    server: TelegramServer, webhook: Webhook, tmp_path: Path
) -> None:
    answers = Answers()
    async with running(server, answers, tmp_path, webhook=webhook) as front:
        await listening(server)
        assert (server.api.webhook["url"], server.api.webhook["secret_token"]) == (URL, SECRET)
        assert server.api.webhook["max_connections"] == "1"
        assert server.api.webhook.get("drop_pending_updates", "false") == "false"
        assert await push(webhook, server.api.say("/status")) == 200
        await server.api.posted()
        assert front.front.health().connected
    assert answers.texts == ["/status"]
    assert not server.answered("getUpdates")


async def test_a_wrong_secret_is_forbidden_and_does_nothing(
    server: TelegramServer, webhook: Webhook, tmp_path: Path
) -> None:
    answers = Answers()
    async with running(server, answers, tmp_path, webhook=webhook):
        await listening(server)
        for secret in ("guess", "", f"{SECRET}x", None):
            assert await push(webhook, server.api.say("/stop"), secret) == 403
        assert await push(webhook, server.api.say("/status")) == 200
        await server.api.posted()
    assert answers.texts == ["/status"]


async def test_the_network_may_be_away_when_it_is_set(
    server: TelegramServer, webhook: Webhook, tmp_path: Path
) -> None:
    server.fail("getMe", page(502))
    server.fail("setWebhook", refusal(500, "Internal Server Error"))
    answers = Answers()
    async with running(server, answers, tmp_path, webhook=webhook):
        await listening(server)
        await push(webhook, server.api.say("/status"))
        await server.api.posted()


async def test_a_webhook_that_was_taken_away_is_set_again(
    server: TelegramServer, webhook: Webhook, tmp_path: Path
) -> None:
    with log_watch() as watch:
        async with running(server, Answers(), tmp_path, webhook=webhook, pace=replace(PACE, patience=4)):
            await listening(server)
            server.api.webhook = {}
            await watch.line("another program uses this bot's token")
            await server.api.until(lambda: server.api.webhook.get("url") == URL)
            await server.called("getWebhookInfo", 2)
            await server.called("setWebhook", 2)


async def test_a_port_that_is_taken_is_said(server: TelegramServer, webhook: Webhook, tmp_path: Path) -> None:
    with log_watch() as watch, socket.socket() as other:
        other.bind((webhook.host, webhook.port))
        other.listen()
        answers = Answers()
        async with running(server, answers, tmp_path, webhook=webhook) as front:
            await watch.line(f"cannot listen on {webhook.host}:{webhook.port}: Address already in use")
            assert not front.front.health().connected
            other.close()
            await listening(server)
            await push(webhook, server.api.say("/status"))
            await server.api.posted()
