"""Python in processes that are forked off from one that has imported the slow packages, torch above all.

After the imports everything is as in a process of its own, but that `sys.modules` has those packages.

    python tests/training/preloaded.py SOCKET MODULE…
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from tests.bot.preloaded import Forked

TO_PREPARE = ("numpy", "pyarrow.parquet", "tiktoken", "tokenizers")
TO_TRAIN = ("numpy", "torch.nn.attention")


@cache
def _orders(*modules: str) -> socket.socket:
    """The socket of a process that has imported the modules; it ends with this one."""
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(theirs.fileno()), *modules],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def forked(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: int,
    stdout: int,
    stderr: int,
    pass_fds: Sequence[int] = (),
    modules: Sequence[str] = TO_TRAIN,
) -> Forked:
    """Start `python *command`."""
    numbers = (0, 1, 2, *pass_fds)
    order = {"argv": command, "cwd": str(cwd), "env": dict(env), "numbers": numbers}
    read, write = os.pipe()
    given = [stdin, stdout, stderr, *pass_fds, write]
    socket.send_fds(_orders(*modules), [json.dumps(order).encode()], given)
    os.close(write)
    return Forked(read)


def run_forked(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], modules: Sequence[str] = TO_TRAIN
) -> subprocess.CompletedProcess[str]:
    """Run `python *command` to its end."""
    with (
        Path(os.devnull).open() as nothing,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        code = forked(
            command,
            cwd=cwd,
            env=env,
            modules=modules,
            stdin=nothing.fileno(),
            stdout=out.fileno(),
            stderr=err.fileno(),
        ).wait()
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(command, code, out.read(), err.read())


# The other side


def _serve(orders: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that wait for the forked ones are not waited for
    while True:
        order, given, *_ = socket.recv_fds(orders, 1 << 17, 8)
        if not order:
            return
        if os.fork() == 0:
            orders.close()
            _fork(json.loads(order), given)
        for each in given:
            os.close(each)


def _fork(order: dict[str, Any], given: list[int]) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *files, status = given
    pid = os.fork()
    if pid == 0:
        os.close(status)
        _be(order, files)
        _end(_status())
    for each in files:
        os.close(each)
    os.write(status, b"%d\n" % pid)
    os.write(status, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os._exit(0)


def _be(order: dict[str, Any], files: list[int]) -> None:
    unused = max(*order["numbers"], *files) + 1
    aside = [fcntl.fcntl(each, fcntl.F_DUPFD, unused) for each in files]
    for each in files:
        os.close(each)
    for number, each in zip(order["numbers"], aside, strict=True):
        os.dup2(each, number)
        os.close(each)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.argv = order["argv"]


def _status() -> int:
    """Do what `python *sys.argv` does; return its exit status."""
    try:
        sys.path.insert(0, str(Path.cwd()))
        if sys.argv[0] == "-c":
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(sys.argv.pop(1), vars(main))
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)  # noqa: T201
        return 1
    except BaseException:  # noqa: BLE001 - as Python does
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def _end(status: int) -> NoReturn:
    """End as Python does, but leave what was imported: to take it apart copies all its pages."""
    vars(threading)["_shutdown"]()
    vars(atexit)["_run_exitfuncs"]()
    gc.collect()  # for what complains when it was never closed
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    for module in sys.argv[2:]:
        importlib.import_module(module)
    gc.freeze()  # no search for garbage is to copy the pages of what was imported
    with socket.socket(fileno=int(sys.argv[1])) as taken:
        _serve(taken)
