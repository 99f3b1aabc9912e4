from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from bot.local import server as local
from bot.local.server import MAX_REQUEST, LocalServer
from bot.local.wire import Progress, connect, send
from loop.errors import UserError
from loop.process import supervisor as supervisor_program
from notifiers.message import Message, Reply
from tests.bot.local_bot import LocalBot, local_bot

BLOCK = "x" * 200_000  # a few of these fill what the system buffers for a socket


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bot.sock"


@pytest.fixture
async def bot(path: Path) -> AsyncIterator[LocalBot]:
    async with local_bot(path) as running:
        yield running


@pytest.fixture
def careless_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


async def quiet() -> str:
    return ""


@asynccontextmanager
async def raw(path: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def test_only_its_user_can_open_the_socket(careless_umask: None, path: Path) -> None:
    async with local_bot(path):
        assert _listing(path.parent) == {"bot.sock": "srw-------", "bot.lock": "-rw-------"}


async def test_commands_are_answered_one_after_another(bot: LocalBot) -> None:
    async with raw(bot.path) as (reader, writer):
        writer.write(b'{"command": "/status"}\n{"command": "/nonsense"}\n')
        writer.write_eof()
        answers = [json.loads(line) async for line in reader]
    assert answers == [
        {"reply": {"text": "You said /status.", "block": "a\tb", "refused": False}},
        {"reply": {"text": "There is no /nonsense.", "block": "", "refused": True}},
    ]


async def test_every_attached_client_is_told_and_nobody_else(bot: LocalBot) -> None:
    async with connect(bot.path) as one, connect(bot.path) as two, raw(bot.path) as (reader, writer):
        assert [await anext(one), await anext(two)] == [Progress("waiting"), Progress("waiting")]
        writer.write(b'{"command": "/a"}\n')
        assert b"/a" in await reader.readline()
        bot.server.publish(Message("Experiment #1", block="table"))
        assert [await anext(one), await anext(two)] == [Message("Experiment #1", block="table")] * 2
        writer.write(b'{"command": "/b"}\n')
        assert b"/b" in await reader.readline()


async def test_an_answer_for_all_is_shown_to_every_attached_client_once(bot: LocalBot) -> None:
    async with connect(bot.path) as one, connect(bot.path) as two, raw(bot.path) as (reader, writer):
        assert [await anext(one), await anext(two)] == [Progress("waiting"), Progress("waiting")]
        await one.send("/pause")
        said = Message("You said /pause.", block="a\tb")
        assert [await anext(one), await anext(two)] == [Reply(said), said]
        writer.write(b'{"command": "/pause"}\n')
        assert b"/pause" in await reader.readline()
        assert [await anext(one), await anext(two)] == [said, said]


async def test_one_that_has_left_is_forgotten(bot: LocalBot) -> None:
    async with connect(bot.path) as stays:
        async with connect(bot.path) as leaves:
            await anext(leaves)
        await anext(stays)
        bot.server.publish(Message("still here"))
        assert await anext(stays) == Message("still here")


async def test_progress_is_told_when_it_changes_and_only_then(bot: LocalBot) -> None:
    async with connect(bot.path) as watcher:
        assert await anext(watcher) == Progress("waiting")
        await bot.settled()
        bot.doing = "step 1"
        assert await anext(watcher) == Progress("step 1")
        bot.doing = ""
        assert await anext(watcher) == Progress("")


async def test_progress_is_not_asked_for_while_nobody_is_attached(bot: LocalBot) -> None:
    await send(bot.path, "/status")
    assert bot.times_asked == 0
    async with connect(bot.path) as watcher:
        await anext(watcher)
    assert bot.times_asked > 0


async def test_waiting_for_somebody_to_attach(bot: LocalBot) -> None:
    waiting = asyncio.create_task(bot.server.wait_attached())
    await send(bot.path, "/status")
    assert not waiting.done()
    async with connect(bot.path) as watcher:
        await waiting
        bot.server.publish(Message("first"))
        assert [await anext(watcher), await anext(watcher)] == [Progress("waiting"), Message("first")]


async def test_a_client_that_never_reads_is_dropped_and_blocks_nobody(
    bot: LocalBot, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw(bot.path) as (_, deaf), connect(bot.path) as listener:
        deaf.transport.pause_reading()  # type: ignore[attr-defined]
        deaf.write(b'{"attach": true}\n')
        await anext(listener)
        while not caplog.records:
            bot.server.publish(Message("digest", BLOCK))
            assert await anext(listener) == Message("digest", BLOCK)
        assert caplog.messages == ["dropped a local client that does not read what it is sent"]
        bot.server.publish(Message("after"))
        assert await anext(listener) == Message("after")


@pytest.mark.parametrize(
    "rubbish",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b'{"command": ["/status"]}\n',
        b'{"command": "/sta',
        b"x" * (MAX_REQUEST + 1),
    ],
    ids=["http", "binary", "nested", "wrong type", "half a line", "too long"],
)
async def test_rubbish_ends_its_own_connection_and_nothing_else(bot: LocalBot, rubbish: bytes) -> None:
    async with raw(bot.path) as (reader, writer):
        writer.write(rubbish)
        writer.write_eof()
        said = await reader.read()
    assert said.count(b"\n") == 1
    assert set(json.loads(said)) == {"error"}
    assert bot.commands == []
    assert await send(bot.path, "/status") == Reply(Message("You said /status.", "a\tb"))


async def test_a_client_that_leaves_before_its_answer_does_no_harm(path: Path) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(command: str) -> Reply:
        entered.set()
        await leave.wait()
        return Reply(Message(command))

    server = LocalServer(path=path, answer=slow, progress=quiet)
    await server.start()
    async with raw(path) as (_, writer):
        writer.write(b'{"command": "/slow"}\n')
        await entered.wait()
    leave.set()
    assert await send(path, "/next") == Reply(Message("/next"))
    await server.stop()


async def test_a_slow_command_does_not_hold_up_messages(path: Path) -> None:
    answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    server = LocalServer(path=path, answer=lambda command: answer, progress=quiet)
    await server.start()
    async with connect(path) as watcher:
        await anext(watcher)
        await watcher.send("/slow")
        server.publish(Message("meanwhile"))
        assert await anext(watcher) == Message("meanwhile")
        answer.set_result(Reply(Message("done")))
        assert await anext(watcher) == Reply(Message("done"))
    await server.stop()


async def test_stop_sends_what_was_published_and_leaves_no_socket(path: Path) -> None:
    async with local_bot(path) as bot, connect(path) as watcher:
        await anext(watcher)
        bot.server.publish(Message("last words", BLOCK))
        reading = asyncio.create_task(_rest(watcher))
        await bot.server.stop()
        assert "bot.sock" not in _listing(path.parent)
        assert await reading == [Message("last words", BLOCK)]
        await bot.server.stop()  # a second time is no error


async def test_stop_lets_a_command_finish(path: Path) -> None:
    answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    server = LocalServer(path=path, answer=lambda command: answer, progress=quiet)
    await server.start()
    async with connect(path) as watcher:
        await anext(watcher)
        await watcher.send("/stop")
        server.publish(Message("stopping"))
        assert await anext(watcher) == Message("stopping")
        stopping = asyncio.create_task(server.stop())
        answer.get_loop().call_soon(answer.set_result, Reply(Message("stopped")))
        assert await _rest(watcher) == [Reply(Message("stopped"))]
        await stopping


@pytest.mark.parametrize("stalled", [0.0, 0.075])  # seconds: by then clients were to have read all
async def test_stop_does_not_wait_for_ever(
    stalled: float, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "LINGER_SECONDS", 0.05)
    never: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    asked = asyncio.Event()

    def answer(_: str) -> asyncio.Future[Reply]:
        asked.set()
        return never

    server = LocalServer(path=path, answer=answer, progress=quiet)
    await server.start()
    async with raw(path) as (reader, deaf), connect(path) as hanging, connect(path) as watcher:
        deaf.write(b'{"attach": true}\n')
        await reader.readline()
        deaf.transport.pause_reading()  # type: ignore[attr-defined]
        await hanging.send("/never")
        await asked.wait()
        await anext(watcher)
        for _ in range(4):
            server.publish(Message("digest", BLOCK))
        asyncio.get_running_loop().call_soon(time.sleep, stalled)  # as on a busy machine
        await server.stop()
        assert never.cancelled()


async def test_a_second_bot_is_refused_and_the_first_goes_on(bot: LocalBot) -> None:
    with pytest.raises(UserError, match=rf"already runs on {bot.path.parent} \(process {os.getpid()}\)"):
        await LocalBot(bot.path).server.start()
    assert not (await send(bot.path, "/status")).refused


async def test_the_next_bot_can_start_where_one_stopped(path: Path) -> None:
    for _ in range(2):
        async with local_bot(path):
            await send(path, "/status")


async def test_the_socket_of_a_killed_bot_is_replaced(path: Path) -> None:
    program = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom bot.local.server import LocalServer\n"
        "async def main():\n"
        "    await LocalServer(path=Path(sys.argv[1]), answer=None, progress=None).start()\n"
        "    print('ready', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, path, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    assert await process.stdout.readline() == b"ready\n"
    with pytest.raises(UserError, match=rf"process {process.pid}\)"):
        await LocalBot(path).server.start()
    process.kill()
    await process.communicate()
    assert _listing(path.parent)["bot.sock"] == "srw-------"
    with pytest.raises(UserError, match="No bot runs"):
        await send(path, "/status")
    async with local_bot(path):
        assert not (await send(path, "/status")).refused


def test_a_file_in_the_way_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    for _ in range(2):  # and the lock is let go of
        with pytest.raises(UserError, match="in the way"):
            asyncio.run(LocalBot(path).server.start())
    assert path.read_text() == "precious"


async def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere/bot\.sock: No such file or directory"):
        await LocalBot(tmp_path / "nowhere" / "bot.sock").server.start()


async def test_a_path_longer_than_a_socket_address_works(tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 20) / ("er" * 50)
    folder.mkdir(parents=True)
    async with local_bot(folder / "bot.sock") as bot, connect(bot.path) as watcher:
        await anext(watcher)
        assert not (await send(bot.path, "/status")).refused
        assert _listing(folder)["bot.sock"] == "srw-------"
    assert "bot.sock" not in _listing(folder)


async def test_a_bare_socket_that_connects_and_says_nothing_is_no_trouble(bot: LocalBot) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(bot.path))
        assert not (await send(bot.path, "/status")).refused


def _listing(folder: Path) -> dict[str, str]:
    return {entry.name: stat.filemode(entry.stat().st_mode) for entry in folder.iterdir()}


async def _rest(watcher: AsyncIterator[object]) -> list[object]:
    return [item async for item in watcher]


# What may connect, and how many


async def test_too_many_clients_are_refused_and_the_others_served(
    bot: LocalBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "MOST_CLIENTS", 5)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(raw(bot.path)) for _ in range(8)]
        for reader, _ in clients[5:]:
            assert "connections already" in json.loads(await reader.readline())["error"]
        reader, writer = clients[0]
        writer.write(b'{"command": "/status"}\n')
        assert b"You said /status" in await reader.readline()


@pytest.mark.parametrize("half", [b"", b'{"command": "/sta'])
async def test_a_client_that_asks_nothing_is_hung_up_on(
    bot: LocalBot, monkeypatch: pytest.MonkeyPatch, half: bytes
) -> None:
    monkeypatch.setattr(local, "IDLE_SECONDS", 0.1)
    async with connect(bot.path) as attached, raw(bot.path) as (reader, writer):
        writer.write(half)
        assert "No whole line" in json.loads(await reader.readline())["error"]
        assert await reader.read() == b""
        await attached.send("/status")  # who is attached may be silent
        await anext(attached)
        assert isinstance(await anext(attached), Reply)


_SENDS_STOP = """
import contextlib, os, socket, sys
if len(sys.argv) > 3:
    if os.fork():
        os.wait()
        sys.exit()
    os.setsid()
    if os.fork():
        os._exit(0)
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
with contextlib.suppress(BrokenPipeError):  # it was refused before it had said a word
    client.sendall(b'{"command": "/stop"}\\n')
os.write(1, client.makefile("rb").readline())
"""
_SUPERVISES = """
import contextlib, os, subprocess, sys
from loop.process.supervisor import become_subreaper
become_subreaper()
subprocess.run([sys.executable, "-c", *sys.argv[2:]], env={}, check=True)
with contextlib.suppress(ChildProcessError):  # as long as there are any, a supervisor stays
    while True:
        os.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a socket does not say who connects")
@pytest.mark.parametrize("orphaned", [(), ("orphaned",)], ids=["child", "orphan"])
async def test_a_training_cannot_command_the_bot(bot: LocalBot, orphaned: tuple[str, ...]) -> None:
    supervisor = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _SUPERVISES, str(supervisor_program.__file__)),
        *(_SENDS_STOP, str(bot.path), "x", *orphaned),
        cwd=Path(__file__).parents[3],
        stdout=asyncio.subprocess.PIPE,
    )
    answer, _ = await supervisor.communicate()
    assert "A training may not" in json.loads(answer)["error"]
    assert bot.commands == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a socket does not say who connects")
def test_a_client_that_is_gone_is_refused_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """`status` only connects, to see whether there is a bot, and ends."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")
        listener.listen()
        pid = os.fork()
        if pid == 0:
            socket.socket(socket.AF_UNIX).connect(listener.getsockname())
            os._exit(0)
        os.waitpid(pid, 0)
        with listener.accept()[0] as peer, pytest.raises(UserError):
            local._require_own(peer)
    assert caplog.records == []


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="only root can become another user")
def test_another_user_cannot_command_the_bot() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")  # a name that needs no folder
        listener.listen()
        pid = os.fork()
        if pid == 0:
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(listener.getsockname())
                client.recv(1)
            os._exit(0)
        peer, _ = listener.accept()
        with peer, pytest.raises(UserError, match="another user"):
            local._require_own(peer)
        os.waitpid(pid, 0)


async def test_an_answer_that_fails_is_said_and_ends_nothing(path: Path) -> None:
    async def fail(_: str) -> Reply:
        raise ZeroDivisionError

    server = LocalServer(path=path, answer=fail, progress=quiet)
    await server.start()
    for _ in range(2):
        with pytest.raises(UserError, match=r"see bot\.log"):
            await send(path, "/status")
    await server.stop()
