"""The local protocol, both sides of it: JSON objects, one a line, over a unix socket.

A client writes `{"command": "/status"}` or `{"attach": true}`. The bot writes `{"reply": …}` for a command,
and to an attached client `{"message": …}` and `{"progress": "…"}` as they come. What it cannot read it
answers with `{"error": "…"}` and hangs up.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loop.errors import UserError
from loop.shell import own_command
from notifiers.message import Message, Reply

if TYPE_CHECKING:
    import asyncio

# Bytes of a socket's address, its closing NUL included: 108 on Linux, 104 on macOS.
_ADDRESS_BYTES = 104
_PATIENCE = 20.0  # seconds for a bot to take a connection
ANSWER_SECONDS = 120.0  # a bot that takes longer for a command hangs
MAX_ITEM = 1 << 26  # bytes of one line from the bot, which is trusted: enough for any diff or log


@dataclass(frozen=True, slots=True)
class Progress:
    """What the bot is doing at this moment, as one line; empty when no run is active."""

    text: str


Item = Message | Reply | Progress


def pack(content: dict[str, object]) -> bytes:
    return json.dumps(content).encode() + b"\n"


def pack_request(command: str | None) -> bytes:
    """Return the line of a client that sends a command, or with None attaches."""
    return pack({"attach": True} if command is None else {"command": command})


def parse_request(line: bytes) -> str | None:
    """Return the command that a client sends, None where it attaches."""
    try:
        asked = json.loads(line)
    except (ValueError, RecursionError):
        raise UserError("That line is not JSON.") from None
    match asked:
        case {"command": str(text)} if len(asked) == 1:
            return text
        case {"attach": True} if len(asked) == 1:
            return None
    raise UserError('A request is {"command": "…"} or {"attach": true}.')


def pack_item(item: Item) -> bytes:
    match item:
        case Message():
            return pack({"message": {"text": item.text, "block": item.block}})
        case Reply(message, refused):
            return pack({"reply": {"text": message.text, "block": message.block, "refused": refused}})
        case Progress(text):
            return pack({"progress": text})


def parse_item(line: bytes) -> Item:
    """Return what the bot says; raises a UserError with the bot's own sentence for an error."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        said = None
    match said:
        case {"message": {"text": str(text), "block": str(block)}}:
            return Message(text, block)
        case {"reply": {"text": str(text), "block": str(block), "refused": bool(refused)}}:
            return Reply(Message(text, block), refused)
        case {"progress": str(text)}:
            return Progress(text)
        case {"error": str(sentence)}:
            raise UserError(sentence)
    raise UserError("The bot's answer cannot be read: it may be another version. Restart the bot.")


@contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """Yield an address for the socket at `path` that is short enough for the system.

    A path that is too long is reached through a link in a private temporary folder.
    """
    if len(os.fsencode(path)) < _ADDRESS_BYTES:
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="autoresearch-") as folder:
        link = Path(folder, "home")
        link.symlink_to(path.parent.absolute())
        yield str(link / path.name)


def bot_answers(path: Path) -> bool | None:
    """Tell whether a bot listens on the socket `path`; None where it is there but does not answer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, socket_address(path) as address:
            client.settimeout(_PATIENCE)
            client.connect(address)
    except TimeoutError:
        return None
    except OSError:
        return False
    return True


async def send(path: Path, command: str) -> Reply:
    import asyncio  # here and below: most commands only ask whether a bot is there

    async with connect(path, command) as bot:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                async for item in bot:
                    if isinstance(item, Reply):
                        return item
        except TimeoutError:
            raise UserError(
                f"The bot on {path.parent} gave no answer within {ANSWER_SECONDS:.0f} s: see bot.log there."
            ) from None
    raise UserError(f"The bot on {path.parent} ended before it answered.")


@dataclass(frozen=True, slots=True)
class Connected:
    """What the bot says, item by item, until it ends: replies; to who is attached all messages and progress.

    To who is attached the first item is the progress of the moment.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def __aiter__(self) -> Connected:
        return self

    async def __anext__(self) -> Item:
        try:
            line = await self.reader.readline()
        except ConnectionError:
            line = b""
        except ValueError:
            raise UserError(f"The bot's answer is longer than {MAX_ITEM} bytes.") from None
        if not line.endswith(b"\n"):  # nothing, or the half line of a bot that was killed
            raise StopAsyncIteration
        return parse_item(line)

    async def send(self, command: str | None) -> None:
        """Send a command, whose reply comes as one of the items; None attaches.

        When the bot has gone no error is raised here: the stream of items ends.
        """
        self.writer.write(pack_request(command))
        with suppress(ConnectionError):
            await self.writer.drain()


@asynccontextmanager
async def connect(path: Path, command: str | None = None) -> AsyncIterator[Connected]:
    """Connect to the bot at the socket `path` with a first command, or without one attach to it."""
    import asyncio

    try:
        with socket_address(path) as address:
            reader, writer = await asyncio.open_unix_connection(address, limit=MAX_ITEM)
    except (FileNotFoundError, ConnectionRefusedError):
        raise UserError(
            f"No bot runs on {path.parent}: start one with `{own_command('up', path.parent)}`."
        ) from None
    except OSError as error:
        raise UserError(f"Cannot reach the bot at {path}: {error.strerror or error}.") from error
    try:
        bot = Connected(reader, writer)
        await bot.send(command)
        yield bot
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
