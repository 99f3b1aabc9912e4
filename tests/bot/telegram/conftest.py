"""What holds for the tests of this platform: they do not wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bot.idle_clock import IdleLoop
from tests.bot.telegram_front import GROUP, Answers, Running, running, tasks_at_work
from tests.servers.telegram_api import Chat
from tests.servers.telegram_server import TelegramServer, serving


def pytest_asyncio_loop_factories() -> dict[str, type[IdleLoop]]:
    return {"idle": IdleLoop}


@pytest.fixture
async def nothing_is_left_behind() -> AsyncIterator[None]:
    yield
    assert not tasks_at_work()


@pytest.fixture
async def server() -> AsyncIterator[TelegramServer]:
    async with serving() as server:
        server.api.chats[GROUP] = Chat(GROUP, "supergroup", topics={5})
        server.api.chats[8] = Chat(8)
        yield server


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
async def front(server: TelegramServer, answers: Answers, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(server, answers, tmp_path) as front:
        yield front
