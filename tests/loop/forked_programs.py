"""Python programs that are forked off from a process that has imported much, where it would start them.

Python takes 15 ms to start, and most toys are done in one. The new process has what the program would have:
its folder, variables, arguments, streams, session and limits.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

really: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen


class Begun(BaseException):
    """Raised in the new process, up to where it can `become` the program."""


class Started:
    """A new process, seen from the one that started it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid


def start(
    argv: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str],
    stdin: int,
    stdout: int,
    stderr: int,
    preexec_fn: Callable[[], None],
    pass_fds: Sequence[int] = (),
    **options: Any,
) -> Started | subprocess.Popen[bytes]:
    """Do as `subprocess.Popen`, with a fork for `python file.py` and `python -S file.py`."""
    words = argv[2:] if argv[1:2] == ["-S"] else argv[1:]
    if argv[0] != sys.executable or not words or not words[0].endswith(".py"):
        streams = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        options |= {"cwd": cwd, "env": env, "preexec_fn": preexec_fn, "pass_fds": pass_fds}
        return really(argv, **streams, **options)
    if pid := os.fork():
        return Started(pid)
    try:
        source = os.open(os.devnull, os.O_RDONLY) if stdin == subprocess.DEVNULL else stdin
        for number, stream in enumerate((source, stdout, stderr)):
            os.dup2(stream, number)
        os.chdir(cwd)
        os.setsid()
        preexec_fn()
    except OSError:
        os._exit(127)
    os.environ.clear()
    os.environ.update(env)
    raise Begun(words, pass_fds)


def become(begun: Begun) -> NoReturn:
    """Be the program that has begun."""
    sys.argv, passed = begun.args
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    first = 3
    for kept in (*sorted(passed), 65536):
        os.closerange(first, kept)
        first = kept + 1
    file = os.path.abspath(sys.argv[0])  # noqa: PTH100 - pathlib takes long to import
    sys.path[:] = [os.path.dirname(file), *sys.path]  # noqa: PTH120
    at_once = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    out = open(1, "wb", buffering=0 if at_once else -1, closefd=False)  # noqa: SIM115
    sys.stdout = type(sys.stdin)(out, "utf-8", write_through=at_once)

    def tell(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        while trace and trace.tb_frame.f_code.co_filename != file:
            trace = trace.tb_next  # without our own frames
        sys.__excepthook__(kind, error.with_traceback(trace), trace)

    sys.excepthook = tell
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__file__ = file
    with open(file, "rb") as text:  # noqa: PTH123
        program = compile(text.read(), file, "exec", dont_inherit=True)
    exec(program, vars(main))
    sys.stdout.flush()
    os._exit(0)  # skips the interpreter's own clean-up
