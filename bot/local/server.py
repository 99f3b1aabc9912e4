"""The front end on this machine: a unix socket that answers commands and sends messages."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from bot.commands.access import TERMINAL
from bot.local.wire import Progress, pack, pack_item, parse_request, socket_address
from loop.errors import UserError
from loop.files import LockedError, lock
from loop.process.liveness import is_of_training
from loop.process.worker import in_thread
from loop.shell import own_command
from notifiers.message import Message, RefusedError, Reply

log = logging.getLogger(__name__)

MAX_REQUEST = 1 << 20  # bytes of one line from a client
MAX_WAITING = 1 << 20  # bytes a client may leave unread before it is dropped
MOST_CLIENTS = 100
IDLE_SECONDS = 60.0  # that a client may take for its next request unless it is attached
LINGER_SECONDS = 0.25  # how long a client that is hung up on may take to read its last lines


@dataclass(eq=False, kw_only=True)
class LocalServer:
    """Answers commands on the unix socket `path` and sends attached clients every message.

    It knows no command: `answer` does, and refuses by its reply, not by an exception. `progress` gives
    the line to show at this moment and is asked every `interval` seconds while somebody is attached.
    Only one bot can have `path`: until it ends it holds a lock on the file beside it with the suffix `.lock`.
    """

    path: Path
    answer: Callable[[str], Awaitable[Reply]]
    progress: Callable[[], Awaitable[str]]
    interval: float = 1.0

    def __post_init__(self) -> None:
        self._held = ExitStack()
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._serving: dict[asyncio.Task[None], _Client] = {}
        self._attached = asyncio.Event()

    async def start(self) -> None:
        """Open the socket, for this user alone; raises a UserError when another bot has it."""
        with ExitStack() as held:
            try:
                # A socket whose lock is free is a dead bot's.
                held.enter_context(lock(self.path.with_suffix(".lock")))
                listener = _listen(self.path)
            except LockedError as other:
                chat = own_command("chat", self.path.parent)
                raise UserError(
                    f"A bot already runs on {self.path.parent} ({other}): attach to it with `{chat}`, "
                    "or choose another state directory with --home."
                ) from None
            except OSError as error:
                raise UserError(
                    f"Cannot open the bot's socket {self.path}: {error.strerror or error}. "
                    "Choose another state directory with --home."
                ) from error
            self._held = held.pop_all()
        self._server = await asyncio.start_unix_server(self._connected, sock=listener, limit=MAX_REQUEST)
        self._ticker = asyncio.create_task(self._tell_progress())

    async def stop(self) -> None:
        """Remove the socket, finish the commands at hand and hang up, within a few seconds."""
        if self._server is None or self._ticker is None:
            return
        server, self._server = self._server, None
        self.path.unlink(missing_ok=True)
        server.close()
        self._ticker.cancel()
        for task, client in self._serving.items():
            if client.idle:
                task.cancel()
        if self._serving:
            _, late = await asyncio.wait(self._serving, timeout=2 * LINGER_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await server.wait_closed()
        self._held.close()
        with suppress(asyncio.CancelledError):
            await self._ticker

    def publish(self, message: Message, *, but: _Client | None = None) -> None:
        """Send `message` to every attached client, `but` one; never waits for any."""
        line = pack_item(message)
        for client in self._serving.values():
            if client.attached and client is not but:
                client.write(line)

    async def wait_attached(self) -> None:
        await self._attached.wait()

    async def say(self, message: Message) -> None:
        """Send `message` as soon as somebody is attached."""
        await self.wait_attached()
        self.publish(message)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # accepted in the moment that the server stopped
            writer.close()
            return
        client = _Client(writer)
        if len(self._serving) >= MOST_CLIENTS:
            client.write(pack({"error": f"The bot has {MOST_CLIENTS} connections already: close some."}))
            writer.close()
            return
        task = asyncio.create_task(self._serve(reader, client))
        self._serving[task] = client
        task.add_done_callback(self._serving.pop)

    async def _serve(self, reader: asyncio.StreamReader, client: _Client) -> None:
        try:
            await in_thread(_require_own, client.writer.get_extra_info("socket"))
            while line := await self._next_request(reader, client):
                command = parse_request(line)
                if command is None:
                    progress = await self.progress()  # the first item
                    client.attached = True
                    client.show(progress)
                    self._attached.set()
                else:
                    reply = await self.answer(command)
                    client.write(pack_item(reply))
                    if reply.for_all:
                        self.publish(reply.message, but=client)
        except UserError as error:
            client.write(pack({"error": str(error)}))
        except ConnectionError:
            log.debug("a local client has gone")
        except Exception:  # a fault of ours is logged and answered, and ends no other client
            log.exception("a local client cannot be served")
            client.write(pack({"error": "The bot failed to answer: see bot.log in the state directory."}))
        finally:
            client.attached = False
            if not any(other.attached for other in self._serving.values()):
                self._attached.clear()
            await client.close()

    async def _next_request(self, reader: asyncio.StreamReader, client: _Client) -> bytes:
        if self._server is None:
            return b""
        client.idle = True
        try:
            async with asyncio.timeout(None if client.attached else IDLE_SECONDS):
                return await _read_line(reader)
        except TimeoutError:
            raise UserError(f"No whole line came within {IDLE_SECONDS:.0f} s.") from None
        finally:
            client.idle = False

    async def _tell_progress(self) -> None:
        while True:
            await self.wait_attached()
            try:
                text = await self.progress()
            except Exception:  # a card that fails once is logged, and shown again at the next turn
                log.exception("the progress is unknown")
            else:
                for client in self._serving.values():
                    if client.attached:
                        client.show(text)
            await asyncio.sleep(self.interval)


@dataclass(frozen=True, slots=True)
class LocalChannel:
    """All attached clients as a channel: no message has an id, and none can be changed."""

    server: LocalServer
    name: str = TERMINAL

    async def send(self, message: Message, *, reply_to: str = "", broadcast: bool = False) -> str:
        del reply_to, broadcast
        self.server.publish(message)
        return ""

    async def edit(self, message_id: str, message: Message) -> None:
        del message_id, message
        raise RefusedError("a terminal cannot be edited")

    async def pin(self, message_id: str) -> None:
        """Do nothing: a terminal has no such place."""


@dataclass(slots=True, eq=False)
class _Client:
    """One connection, and the progress that it was sent last."""

    writer: asyncio.StreamWriter
    idle: bool = False  # waiting for a request
    attached: bool = False
    progress: str | None = None

    def write(self, line: bytes) -> None:
        """Hand a line to the system, or drop a client that has stopped reading."""
        transport = self.writer.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > MAX_WAITING:
            log.warning("dropped a local client that does not read what it is sent")
            transport.abort()
        else:
            self.writer.write(line)

    def show(self, progress: str) -> None:
        """Send the progress if it has changed; a client that lags gets a later one."""
        if progress != self.progress and not self.writer.transport.get_write_buffer_size():
            self.progress = progress
            self.write(pack_item(Progress(progress)))

    async def close(self) -> None:
        """Hang up once the client has read everything, or after a moment."""
        self.writer.close()
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                await self.writer.wait_closed()
        except TimeoutError:
            log.debug("a local client does not read its last lines")
        except ConnectionError:
            log.debug("a local client left before it had read everything")
        finally:  # also where we are cancelled: the server waits for each connection to be lost
            self.writer.transport.abort()


def _require_own(peer: socket.socket) -> None:
    """Raise a UserError for another user's client, and for a training, which can reach the socket too."""
    if sys.platform != "linux":
        return
    size = struct.calcsize("3i")
    pid, user, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    if user not in (0, os.getuid()):
        log.warning("refused process %d of user %d on the bot's socket", pid, user)
        raise UserError(f"This bot belongs to another user: connect as user {os.getuid()}.")
    if pid and (training := is_of_training(pid)) is not False:  # 0 is a process outside this container
        # One that only looks whether a bot is there, as `status` does, is often gone by now.
        level = logging.WARNING if training else logging.DEBUG
        log.log(level, "refused process %d on the bot's socket: it is of a training, or has ended", pid)
        raise UserError("A training may not send the bot commands.")


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    """Return the next line; empty at the end of the stream."""
    try:
        return await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError:
        raise UserError(f"A line may have at most {MAX_REQUEST} bytes.") from None
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise UserError("The last line has no end.") from None
        return b""


def _listen(path: Path) -> socket.socket:
    """Return a listening socket at `path` with mode 0600, in place of one that a dead bot left.

    It is made in a private folder and moved when it is ready, so no other user can connect to it, and a
    client finds either no socket or one that listens.
    """
    if path.exists() and not path.is_socket():
        raise UserError(f"{path} is in the way of the bot's socket: move it elsewhere.")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".socket-") as folder:
            fresh = Path(folder, "s")
            with socket_address(fresh) as address:
                listener.bind(address)
            fresh.chmod(0o600)
            listener.listen()
            fresh.replace(path)
    except OSError:
        listener.close()
        raise
    return listener
