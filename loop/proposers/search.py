"""The embedded proposer: varies the constants of the program. It needs no network and no model.

The thinking is done in a process of its own (`loop.proposers.suggest`), because Optuna would triple the
memory of the bot and hold up its event loop.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Collection

from loop.errors import LoopError
from loop.experiment import Proposal
from loop.proposers.protocol import Context
from loop.proposers.suggest import pack

NICENESS = 10
"""The worker yields to a training that needs the processors."""


class SearchProposer:
    """Proposes by `suggest`; `frozen` are names of constants to leave alone, `limit` is in seconds."""

    name = "search"

    def __init__(
        self, *, python: str, frozen: Collection[str] = frozenset(), seed: int = 0, limit: float = 120.0
    ) -> None:
        self._python = python
        self._frozen = frozen
        self._seed = seed
        self._limit = limit

    async def propose(self, context: Context) -> Proposal:
        """Return the next thing to try.

        Raises:
            LoopError: there is nothing left to try, or the worker failed.
        """
        worker = await asyncio.create_subprocess_exec(
            *("nice", "-n", str(NICENESS), self._python, "-m", "loop.proposers.suggest"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        try:
            async with asyncio.timeout(self._limit):
                output, errors = await worker.communicate(pack(context, self._frozen, self._seed))
        except TimeoutError:
            raise LoopError(f"The search worker gave no answer within {self._limit:.0f} s.") from None
        finally:
            if worker.returncode is None:
                worker.kill()
                await worker.wait()
        if worker.returncode != 0:
            last = (errors.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            raise LoopError(f"The search worker failed: {last}")
        answer = json.loads(output)
        if "error" in answer:
            raise LoopError(answer["error"])
        return Proposal(**answer["proposal"])
