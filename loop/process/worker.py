"""One function in a process of its own, so that the libraries it needs never enter the bot.

`run_worker` is for the bot; what it starts is this module, with the name of the function. Values pass through
the pipes as pickles: both ends run this project's code, and what a model or a repository wrote is text in it.
`in_thread` is for blocking work within the bot: git, SQLite, the disk. It must end by itself, as a cancelled
caller waits for it.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import pickle
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from loop.errors import UserError

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def in_thread(function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call `function` in a worker thread; a caller that is cancelled first waits for the call's end."""
    call = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait({call})
        raise


_HOME = Path(__file__).parents[2]  # `python -m` looks here first, wherever the bot was started
_ENVIRONMENT = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"),  # where matplotlib remembers the fonts
)
_THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_NICENESS = 10  # a training that needs the processor goes first
_STDERR = 65_536  # bytes of its end that are kept
_POLL = 0.01  # seconds
_UNREADABLE = (  # what pickle raises for bytes that are no pickle of ours
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError),
    ImportError,
)


class WorkerError(UserError):
    """Why a worker gave no answer, as a sentence that begins with its name."""


def own_environment() -> dict[str, str]:
    """Return what processes of ours get of the bot's environment: no secret is in it."""
    return {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}


async def start_worker(
    module: str, *arguments: str, environment: Mapping[str, str], python: str = sys.executable
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(python, "-m", module, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=_HOME,
        env=environment,
        start_new_session=True,
    )


async def run_worker(
    function: str,
    *arguments: object,
    returns: type[_T],
    name: str,
    limit: float,
    python: str = sys.executable,
    settings: Mapping[str, str] | None = None,
) -> _T:
    """Return what `function`, as `module:name`, returns for `arguments`; it may be a coroutine function.

    It has `limit` seconds and an allow-listed environment with `settings` added. What it started in its group
    ends with it, also when the caller is cancelled. Errors call the worker by `name`; a `UserError` that the
    function raised is raised here.
    """
    worker = await start_for(function, name=name, python=python, settings=settings or {})
    return await call_worker(worker, arguments, returns=returns, name=name, limit=limit)


async def start_for(
    function: str, *, name: str, python: str, settings: Mapping[str, str]
) -> asyncio.subprocess.Process:
    environment = own_environment() | _THREADS | dict(settings)
    try:
        return await start_worker(__name__, function, python=python, environment=environment)
    except OSError as error:
        raise WorkerError(f"{name} cannot be started with {python}: {error.strerror}.") from error


async def call_worker(
    worker: asyncio.subprocess.Process,
    arguments: tuple[object, ...],
    *,
    returns: type[_T],
    name: str,
    limit: float,
) -> _T:
    try:
        async with asyncio.timeout(limit):
            answer, errors = await _ask(worker, await in_thread(pickle.dumps, arguments))
    except TimeoutError:
        raise WorkerError(f"{name} gave no answer within {limit:g} s.") from None
    finally:
        await end_worker(worker)
    if worker.returncode != 0:
        raise WorkerError(f"{name} failed: {last_words(worker, errors)}.")
    return _read(answer, returns, name)


def last_words(worker: asyncio.subprocess.Process, errors: bytes) -> str:
    """Return the last line that a worker wrote to stderr, or its exit status."""
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit status {worker.returncode}"


async def end_worker(worker: asyncio.subprocess.Process) -> None:
    if worker.returncode is None:
        _kill_group(worker)
        await _exit(worker)


async def _ask(worker: asyncio.subprocess.Process, request: bytes) -> tuple[bytes, bytes]:
    assert worker.stdin is not None
    assert worker.stdout is not None
    assert worker.stderr is not None
    errors = asyncio.ensure_future(_tail(worker.stderr))
    try:
        with suppress(ConnectionError):  # it ended without reading all: its exit status says why
            worker.stdin.write(request)
            await worker.stdin.drain()
        worker.stdin.close()
        answer = await worker.stdout.read()
        await _exit(worker)
        _kill_group(worker)  # what is left of it may hold stderr open
        return answer, await errors
    finally:
        errors.cancel()


async def _tail(stream: asyncio.StreamReader) -> bytes:
    kept = b""
    while part := await stream.read(_STDERR):
        kept = (kept + part)[-_STDERR:]
    return kept


async def _exit(worker: asyncio.subprocess.Process) -> None:
    """Wait for the worker alone: in Python 3.11 its `wait` waits for all that hold its pipes."""
    while worker.returncode is None:  # noqa: ASYNC110 - nothing else says so
        await asyncio.sleep(_POLL)


def _kill_group(worker: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError, PermissionError):  # the latter for a zombie on macOS
        os.killpg(worker.pid, signal.SIGKILL)


def _read(answer: bytes, returns: type[_T], name: str) -> _T:
    try:
        result, error = pickle.loads(answer)  # noqa: S301 - written by `main` below, in a process that we started
    except _UNREADABLE as unreadable:
        raise WorkerError(f"{name} gave no readable answer: {unreadable}.") from unreadable
    if isinstance(error, UserError):
        raise error
    if not isinstance(result, returns):
        raise WorkerError(f"{name} gave no readable answer: it is a {type(result).__name__}.")
    return result


def main() -> None:
    os.nice(_NICENESS)
    pipe = os.dup(1)  # which no process that it starts inherits
    os.dup2(2, 1)  # what a library prints is no answer
    sys.stdout = sys.stderr
    module, _, name = sys.argv[1].partition(":")
    function = getattr(importlib.import_module(module), name)  # while the bot has nothing to ask yet
    request = sys.stdin.buffer.read()
    if not request:
        return  # nor ever will have
    arguments = pickle.loads(request)  # noqa: S301 - the bot wrote it
    answer: tuple[object, UserError | None]
    try:
        result = function(*arguments)
        answer = asyncio.run(result) if inspect.iscoroutine(result) else result, None
    except UserError as error:
        answer = None, error
    with os.fdopen(pipe, "wb") as stdout:
        pickle.dump(answer, stdout)


if __name__ == "__main__":
    main()
