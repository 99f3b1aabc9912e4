"""The embedded proposer: varies the constants of the program. It needs no network and no model.

The thinking is done in a process of its own, because Optuna would triple the memory of the bot and hold up
its event loop.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from pathlib import Path

from loop.errors import LoopError
from loop.experiment import Proposal
from loop.proposers.protocol import Context
from loop.proposers.search_worker import decode_answer, encode_request
from loop.proposers.suggest import NAME

_MODULE = "loop.proposers.search_worker"
_HOME = Path(__file__).parents[2]  # `python -m` looks here first, wherever the bot was started
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class SearchProposer:
    """Proposes by `suggest`, in a worker process of low priority.

    `python` is the interpreter for it, `frozen` the names of constants to leave alone; `limit` is in seconds,
    and generous because a training may hold all processors.
    """

    name = NAME

    def __init__(
        self, *, python: str, frozen: Collection[str] = frozenset(), seed: int = 0, limit: float = 120.0
    ) -> None:
        self._python = python
        self._frozen = frozen
        self._seed = seed
        self._limit = limit

    async def propose(self, context: Context) -> Proposal:
        """Return the next program to train. When cancelled, the worker is ended first.

        Raises:
            LoopError: there is nothing left to try, or the worker failed.
        """
        request = encode_request(context, self._frozen, self._seed)
        try:
            worker = await asyncio.create_subprocess_exec(
                *(self._python, "-m", _MODULE),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=_HOME,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | _THREADS,
                start_new_session=True,  # Ctrl-C at the terminal is for the bot, which ends the worker itself
            )
        except OSError as error:
            raise LoopError(f"The search worker cannot be started with {self._python}: {error}.") from error
        try:
            async with asyncio.timeout(self._limit):
                answer, errors = await worker.communicate(request)
        except TimeoutError:
            raise LoopError(f"The search worker gave no answer within {self._limit:g} s.") from None
        finally:
            if worker.returncode is None:
                worker.kill()
                await worker.wait()
        if worker.returncode != 0:
            lines = errors.decode(errors="replace").strip().splitlines()
            last = lines[-1] if lines else f"exit status {worker.returncode}"
            raise LoopError(f"The search worker failed: {last}")
        return decode_answer(answer)
