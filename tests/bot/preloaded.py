"""The command line, and its workers, in processes that are forked off from one that has imported them.

The imports take a second, those of a worker up to two. After them everything is as in a process of its own:
pid, environment, folder, streams, signals, end. What is forked off may ask for workers itself.

    python tests/bot/preloaded.py SOCKET
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import fcntl
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeAlias

OF_PYTHON = {"PYTHONWARNINGS": "error"}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # no thread outlives a fork
WORKER = "loop.process.worker"


class Forked:
    """A process of the command line, with what tests use of `subprocess.Popen`."""

    def __init__(self, status: int) -> None:
        self._status = open(status, "rb", buffering=0)  # noqa: SIM115 - open until its end is read
        self.stdout: IO[str] | None = None
        self.returncode: int | None = None
        self.pid = int(self._line())

    def __del__(self) -> None:
        self._status.close()  # also where a caller that was cancelled does not wait for its end

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        if self.stdout:
            self.stdout.close()
        self.wait()

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("autoresearch", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = int(self._line())
            self._status.close()
        return self.returncode

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            more = self._status.read(1)
            assert more, "the preloaded process has ended"
            line += more
        return line


class ForkedWorker:
    """A worker, with what `run_worker` uses of `asyncio.subprocess.Process`."""

    def __init__(
        self,
        forked: Forked,
        stdin: asyncio.StreamWriter,
        stdout: asyncio.StreamReader,
        stderr: asyncio.StreamReader,
    ) -> None:
        self._forked = forked
        self.pid = forked.pid
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr

    @property
    def returncode(self) -> int | None:
        return self._forked.poll()

    async def wait(self) -> int:
        return await asyncio.to_thread(self._forked.wait)

    def kill(self) -> None:
        self._forked.kill()

    def end(self) -> None:
        """End one whose caller was cancelled before it knew of it; its readers see the end by themselves."""
        self._forked.kill()
        self._forked.wait()
        self.stdin.close()


def _order(orders: socket.socket, order: Mapping[str, object], streams: Sequence[int]) -> Forked:
    read, write = os.pipe()
    try:
        socket.send_fds(orders, [json.dumps(order).encode()], [*streams, write])
    finally:
        os.close(write)
    return Forked(read)


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb"))
    return reader


async def _writer(descriptor: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    pipe = os.fdopen(descriptor, "wb", buffering=0)  # which the transport closes
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, pipe)
    return asyncio.StreamWriter(transport, protocol, None, loop)


async def _fork_worker(orders: socket.socket, order: Mapping[str, object]) -> ForkedWorker:
    (stdin, to), (out, stdout), (err, stderr) = os.pipe(), os.pipe(), os.pipe()
    theirs = (stdin, stdout, stderr)
    try:
        forked = await asyncio.to_thread(_order, orders, order, theirs)
    finally:
        for descriptor in theirs:
            os.close(descriptor)
    return ForkedWorker(forked, await _writer(to), await _reader(out), await _reader(err))


Worker: TypeAlias = ForkedWorker | asyncio.subprocess.Process


def forking_workers(
    orders: Callable[[], socket.socket], forked: str = WORKER
) -> Callable[..., Awaitable[Worker]]:
    """Return what starts modules as `loop.process.worker.start_worker` does, `forked` by a fork if it can."""
    from loop.process.worker import start_worker as starting

    async def start_worker(
        module: str, *arguments: str, environment: Mapping[str, str], python: str = sys.executable
    ) -> Worker:
        of_python = [name for name in environment if name.startswith("PYTHON")]
        if module != forked or python != sys.executable or of_python:
            return await starting(module, *arguments, python=python, environment=environment)
        function = arguments[0] if arguments else module
        order = {"function": function, "env": dict(environment), "cwd": str(Path(__file__).parents[2])}
        forking = asyncio.ensure_future(_fork_worker(orders(), order))
        try:
            return await asyncio.shield(forking)
        except asyncio.CancelledError:
            forking.add_done_callback(lambda done: done.result().end())
            await asyncio.wait({forking})
            raise

    return start_worker


class Preloaded:
    """The process of `file` that has imported what others of it need; it ends with this one."""

    def __init__(
        self, file: str = __file__, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.orders, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        self._started_by = os.getpid()
        self._hands_on = file == __file__  # the way to give orders, for the workers of a bot
        environment = environment or {"PATH": os.environ["PATH"], **OF_PYTHON, **ONE_THREAD}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", file, str(theirs.fileno()), *arguments],
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def suits(self, env: Mapping[str, str]) -> bool:
        """Tell whether the variables that count while Python starts and imports are those of this process."""
        of_python = {name: value for name, value in env.items() if name.startswith("PYTHON")}
        same_git = shutil.which("git", path=env["PATH"]) == shutil.which("git")
        return same_git and of_python == OF_PYTHON

    def start(
        self,
        args: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: int,
        stdout: int,
        stderr: int,
        pass_fds: Sequence[int] = (),
        mounts: int | None = None,
    ) -> Forked:
        """Start a process whose `sys.argv` is `args`, with what is mounted for the process `mounts`."""
        order = {
            "args": args,
            "cwd": str(cwd),
            "env": dict(env),
            "numbers": (0, 1, 2, *pass_fds),
            "mounts": mounts,
            "hands_on": self._hands_on,
        }
        more = (self.orders.fileno(),) if self._hands_on else ()
        return _order(self.orders, order, (stdin, stdout, stderr, *pass_fds, *more))

    def close(self) -> None:
        """End it, if it is ours: workers that run tests at the same time share it."""
        self.orders.close()
        if self._started_by != os.getpid():
            return
        self._process.kill()  # a bot that was left behind may hold the other end
        self._process.wait()


@cache
def preloaded() -> Preloaded:
    made = Preloaded()
    atexit.register(made.close)
    return made


# The other side

USED = (
    *("bot.app", "bot.cli.main", "bot.slack.front", "bot.telegram.front"),
    *("loop.proposers.agent.coding_agent", "notifiers.channels.slack", "notifiers.channels.telegram_wire"),
    *("aiohttp", "apscheduler.executors.asyncio", "apscheduler.triggers.interval"),
    *("git.cmd", "pydantic.type_adapter"),
    *("loop.proposers.search.suggest", "numpy", "numpy.linalg", "numpy.random"),
)
"""What `autoresearch up` and its search come to import, some of it late."""


Main: TypeAlias = Callable[[dict[str, Any], socket.socket | None], object]
"""Does what an order says; may give orders by the socket."""


def serve(orders: int, main: Main) -> None:
    """Fork off a process for each order, which calls `main` and ends as Python does."""
    gc.freeze()  # no search for garbage is to copy the pages of what was imported
    with socket.socket(fileno=orders) as given:
        _serve(given, main)


def _serve(orders: socket.socket, main: Main) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that wait for the forked ones are not waited for
    while True:
        text, streams, *_ = socket.recv_fds(orders, 1 << 16, 8)
        if not text:
            return
        order = json.loads(text)
        if function := order.get("function"):
            with suppress(ImportError):  # which the worker is to tell of
                importlib.import_module(function.partition(":")[0])
            gc.freeze()
        if os.fork() == 0:
            orders.close()
            _fork(order, streams, main)
        for stream in streams:
            os.close(stream)


def _fork(order: dict[str, Any], streams: list[int], main: Main) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *others, status = streams
    pid = os.fork()
    if pid == 0:
        os.close(status)
        try:
            main(order, _be(order, others))
            sys.exit(0)
        except SystemExit as end:
            if isinstance(end.code, int):
                _leave(end.code)
            raise
    if "function" in order:
        _lead_group(pid)  # before anybody knows it: a bot ends its workers by their groups
    for stream in others:
        os.close(stream)
    with suppress(BrokenPipeError):  # nobody waits for it any more
        os.write(status, b"%d\n" % pid)
        os.write(status, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os._exit(0)


def _leave(code: int) -> None:
    """End without taking apart all that was imported, which takes longer than most commands."""
    with suppress(OSError):  # then Python is to deal with it
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _be(order: dict[str, Any], given: list[int]) -> socket.socket | None:
    """Become what the order says; return what it gives orders by, where it may."""
    orders = socket.socket(fileno=given.pop()) if order.get("hands_on") else None
    if orders is not None:
        orders.set_inheritable(False)
    if order.get("mounts") is not None:
        with Path(f"/proc/{order['mounts']}/ns/mnt").open() as namespace:
            assert ctypes.CDLL(None).setns(namespace.fileno(), 0) == 0
    numbers = order.get("numbers", (0, 1, 2))
    unused = max(*numbers, *given) + 1
    aside = [fcntl.fcntl(stream, fcntl.F_DUPFD, unused) for stream in given]
    for stream in given:
        os.close(stream)
    for number, stream in zip(numbers, aside, strict=True):
        os.dup2(stream, number)
        os.close(stream)
    # New ones, as Python sees at its start whether they can seek and are terminals.
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.argv = order.get("args", [])
    return orders


def _lead_group(pid: int) -> None:
    with suppress(PermissionError, ProcessLookupError):  # it does already; it has ended
        os.setpgid(pid, pid)


def _build_commands() -> None:
    """Let typer read the functions of the commands once: for each call it takes 50 ms."""
    import typer.main

    from bot.cli.main import app
    from loop.process.environment import _own_places

    _own_places()  # asks another Python, once
    typer.main.get_command = cache(typer.main.get_command)
    typer.main.get_command(app)


def _command_line(order: dict[str, Any], orders: socket.socket | None) -> None:
    from bot.cli.main import main
    from loop.process import worker

    if orders is None:
        _lead_group(0)
        sys.argv = [worker.__file__, order["function"]]
        worker.main()
        return
    worker.start_worker = forking_workers(lambda: orders)  # type: ignore[assignment]
    main()


if __name__ == "__main__":
    for module in USED:
        importlib.import_module(module)
    _build_commands()
    serve(int(sys.argv[1]), _command_line)
