"""The command line in processes that are forked off from one that has imported it, which takes a second.

After the imports everything is as in a process of its own: pid, environment, folder, streams, signals, end.

    python tests/bot/preloaded.py SOCKET
"""

from __future__ import annotations

import atexit
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
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

OF_PYTHON = {"PYTHONWARNINGS": "error"}


class Forked:
    """A process of the command line, with what tests use of `subprocess.Popen`."""

    def __init__(self, status: int) -> None:
        self._status = open(status, "rb", buffering=0)  # noqa: SIM115 - open until its end is read
        self.stdout: IO[str] | None = None
        self.returncode: int | None = None
        self.pid = int(self._line())

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


class Preloaded:
    """The process of `file` that has imported what others of it need; it ends with this one."""

    def __init__(
        self, file: str = __file__, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self._socket, theirs = socket.socketpair()
        environment = environment or {"PATH": os.environ["PATH"], **OF_PYTHON}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", file, str(theirs.fileno()), *arguments],
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._lock = threading.Lock()

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
    ) -> Forked:
        """Start a process whose `sys.argv` is `args`."""
        given = (stdin, stdout, stderr, *pass_fds)
        numbers = (0, 1, 2, *pass_fds)
        order = {"args": args, "cwd": str(cwd), "env": dict(env), "numbers": numbers}
        read, write = os.pipe()
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(order).encode() + b"\n"], [*given, write])
        os.close(write)
        return Forked(read)

    def close(self) -> None:
        self._socket.close()
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
)
"""What `autoresearch up` comes to import, some of it late."""


def serve(orders: int, main: Callable[[], object]) -> None:
    """Fork off a process for each order, which calls `main` and ends as Python does."""
    gc.freeze()  # no search for garbage is to copy the pages of what was imported
    with socket.socket(fileno=orders) as given:
        _serve(given, main)


def _serve(orders: socket.socket, main: Callable[[], object]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that wait for the forked ones are not waited for
    while True:
        text, streams, *_ = socket.recv_fds(orders, 1 << 16, 8)
        if not text:
            return
        while not text.endswith(b"\n"):
            text += orders.recv(1 << 16)
        if os.fork() == 0:
            orders.close()
            _fork(json.loads(text), streams, main)
        for stream in streams:
            os.close(stream)


def _fork(order: dict[str, Any], streams: list[int], main: Callable[[], object]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *standard, status = streams
    pid = os.fork()
    if pid == 0:
        os.close(status)
        _be(order, standard)
        main()
        sys.exit()
    for stream in standard:
        os.close(stream)
    os.write(status, b"%d\n" % pid)
    os.write(status, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os._exit(0)


def _be(order: dict[str, Any], given: list[int]) -> None:
    unused = max(*order["numbers"], *given) + 1
    aside = [fcntl.fcntl(stream, fcntl.F_DUPFD, unused) for stream in given]
    for stream in given:
        os.close(stream)
    for number, stream in zip(order["numbers"], aside, strict=True):
        os.dup2(stream, number)
        os.close(stream)
    # New ones, as Python sees at its start whether they can seek and are terminals.
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.argv = order["args"]


def _command_line() -> None:
    from bot.cli.main import main

    main()


if __name__ == "__main__":
    for module in USED:
        importlib.import_module(module)
    serve(int(sys.argv[1]), _command_line)
