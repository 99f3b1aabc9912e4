"""The other end of the bot's socket: one command, or a stream of what happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from bot.errors import BotError
from bot.local.wire import Attach, Command, Item, Request, pack_request, parse_item, socket_address
from notifiers.message import Reply

ANSWER_SECONDS = 120.0  # a bot that takes longer for a command hangs
MAX_ITEM = 1 << 26  # bytes of one line from the bot, which is trusted: enough for any diff or log


async def send(path: Path, command: str) -> Reply:
    """The reply to one command. BotError when no bot runs at the socket `path`, or it does not answer."""
    async with _connect(path) as bot:
        await bot.send(command)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                async for item in bot:
                    if isinstance(item, Reply):
                        return item
        except TimeoutError:
            raise BotError(
                f"The bot on {path.parent} has given no answer for {ANSWER_SECONDS:.0f} s: look into its log."
            ) from None
    raise BotError(f"The bot on {path.parent} ended before it answered.")


@asynccontextmanager
async def attach(path: Path) -> AsyncIterator[Attached]:
    """A stream from the bot at the socket `path`; BotError when no bot runs there."""
    async with _connect(path) as bot:
        await bot.write(Attach())
        yield bot


class Attached:
    """What the bot says, one item after another, until it ends: messages, replies, and changes of progress.

    The first item is always the progress of the moment.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def __aiter__(self) -> Attached:
        return self

    async def __anext__(self) -> Item:
        try:
            line = await self._reader.readline()
        except ConnectionError:
            line = b""
        except ValueError:
            raise BotError(f"The bot's answer is longer than {MAX_ITEM} bytes.") from None
        if not line.endswith(b"\n"):  # nothing, or the half line of a bot that was killed
            raise StopAsyncIteration
        return parse_item(line)

    async def send(self, command: str) -> None:
        """Give the bot a command; its reply comes as one of the items."""
        await self.write(Command(command))

    async def write(self, request: Request) -> None:
        """Write a request. When the bot has gone nothing is said here: the stream of items ends."""
        self._writer.write(pack_request(request))
        with suppress(ConnectionError):
            await self._writer.drain()


@asynccontextmanager
async def _connect(path: Path) -> AsyncIterator[Attached]:
    try:
        with socket_address(path) as address:
            reader, writer = await asyncio.open_unix_connection(address, limit=MAX_ITEM)
    except (FileNotFoundError, ConnectionRefusedError):
        raise BotError(f"No bot runs on {path.parent}: start one with `autoresearch up`.") from None
    except OSError as error:
        raise BotError(f"Cannot reach the bot at {path}: {error.strerror or error}.") from error
    try:
        yield Attached(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
