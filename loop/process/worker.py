"""One piece of heavy work in a process of its own, so that its libraries never enter the bot."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from loop.errors import LoopError

_HOME = Path(__file__).parents[2]  # `python -m` looks here first, wherever the bot was started
_ENVIRONMENT = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"),  # where matplotlib remembers the fonts
)
_THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class WorkerError(LoopError):
    """Why a worker brought nothing, as a clause that goes on from its name: `failed: …`."""


async def start_worker(
    module: str, *, python: str, environment: Mapping[str, str]
) -> asyncio.subprocess.Process:
    """Start `python -m module` with pipes and no part in the terminal, so that a Ctrl-C there is for the bot.

    Raises:
        WorkerError: it cannot be started.
    """
    try:
        return await asyncio.create_subprocess_exec(
            *(python, "-m", module),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=_HOME,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise WorkerError(f"cannot be started with {python}: {error.strerror}") from error


async def run_worker(
    module: str, request: bytes, *, python: str, limit: float, settings: Mapping[str, str] | None = None
) -> bytes:
    """Return what `python -m module` writes to its stdout when it is given `request` on stdin.

    It has `limit` seconds and an allow-listed environment with `settings` added. When the caller is
    cancelled, the worker is ended first.

    Raises:
        WorkerError: it cannot be started, takes too long, or fails.
    """
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    environment |= _THREADS | dict(settings or {})
    worker = await start_worker(module, python=python, environment=environment)
    try:
        async with asyncio.timeout(limit):
            answer, errors = await worker.communicate(request)
    except TimeoutError:
        raise WorkerError(f"gave no answer within {limit:g} s") from None
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
    if worker.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise WorkerError(f"failed: {lines[-1] if lines else f'exit status {worker.returncode}'}")
    return answer
