"""What the tests of this platform share: a workspace, a bot in it, and a clock that does not wait."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.bot.idle_clock import IdleLoop
from tests.bot.slack_bot import SlackBot, slack_bot
from tests.servers.slack_server import SlackServer


def pytest_asyncio_loop_factories() -> dict[str, type[IdleLoop]]:
    return {"idle": IdleLoop}


@pytest.fixture
async def server() -> AsyncIterator[SlackServer]:
    server = SlackServer()
    await server.start()
    yield server
    await server.stop()
    shown = [*server.called("chat.postMessage"), *server.called("respond")]
    assert {(call["unfurl_links"], call["unfurl_media"]) for call in shown} <= {(False, False)}


@pytest.fixture
async def bot(server: SlackServer) -> AsyncIterator[SlackBot]:
    async with slack_bot(server) as running:
        await running.linked()
        yield running
