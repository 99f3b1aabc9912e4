from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bot.local.wire import Progress, connect, send
from loop.errors import UserError
from notifiers.message import Message, Reply
from tests.bot.local_bot import local_bot


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bot.sock"


@asynccontextmanager
async def strange_bot(path: Path, says: bytes, *, hangs: bool = False) -> AsyncIterator[None]:
    """A socket that reads one line, says the given bytes and hangs up, or never does."""
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(says)
        if hangs:
            await done.wait()
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        yield
        done.set()


async def test_a_command_brings_its_reply(path: Path) -> None:
    async with local_bot(path):
        assert await send(path, "/best\n§") == Reply(Message("You said /best\n§.", block="a\tb"))
        assert await send(path, "/nonsense") == Reply(Message("There is no /nonsense."), refused=True)


async def test_without_a_bot_the_sentence_says_how_to_start_one(path: Path) -> None:
    sentence = rf"^No bot runs on {path.parent}: start one with `.*autoresearch --home {path.parent} up`\.$"
    with pytest.raises(UserError, match=sentence):
        await send(path, "/status")
    with pytest.raises(UserError, match=sentence):
        async with connect(path):
            raise AssertionError("there is nobody to attach to")


async def test_a_state_directory_that_is_missing_is_no_bot_either(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No bot runs"):
        await send(tmp_path / "nowhere" / "bot.sock", "/status")


async def test_another_failure_to_connect_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"Cannot reach the bot at .*: Not a directory\."):
        await send(tmp_path / "file" / "bot.sock", "/status")


async def test_a_bot_that_ends_before_its_answer_is_an_error(path: Path) -> None:
    async with strange_bot(path, b""):
        with pytest.raises(UserError, match="ended before it answered"):
            await send(path, "/status")


async def test_half_an_answer_is_none(path: Path) -> None:
    async with strange_bot(path, b'{"reply": {"text": "all is w'):
        with pytest.raises(UserError, match="ended before it answered"):
            await send(path, "/status")


async def test_an_answer_from_another_version_is_a_sentence(path: Path) -> None:
    async with strange_bot(path, b'{"hologram": 1}\n'):
        with pytest.raises(UserError, match="another version"):
            await send(path, "/status")


async def test_an_answer_without_an_end_is_a_sentence(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.local.wire.MAX_ITEM", 1000)
    async with strange_bot(path, b"x" * 5000):
        with pytest.raises(UserError, match="longer than 1000 bytes"):
            await send(path, "/status")


async def test_a_bot_that_hangs_is_not_waited_for_for_ever(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.local.wire.ANSWER_SECONDS", 0.01)
    async with strange_bot(path, b"", hangs=True):
        with pytest.raises(UserError, match="no answer"):
            await send(path, "/status")


async def test_an_attached_stream_carries_progress_messages_and_replies(path: Path) -> None:
    async with local_bot(path) as bot, connect(path) as stream:
        assert await anext(stream) == Progress("waiting")
        bot.server.publish(Message("Experiment #1", "table"))
        assert await anext(stream) == Message("Experiment #1", "table")
        await stream.send("/nonsense")
        assert await anext(stream) == Reply(Message("There is no /nonsense."), refused=True)


async def test_the_stream_ends_with_the_bot_and_sending_then_is_quiet(path: Path) -> None:
    async with local_bot(path) as bot, connect(path) as stream:
        await anext(stream)
        await bot.server.stop()
        assert [item async for item in stream] == []
        for _ in range(10):
            await stream.send("/status")
