"""The embedded proposer: varies the constants of the program. It needs no network and no model.

The thinking is done in a process of its own, because Optuna would triple the memory of the bot and hold up
its event loop.
"""

from __future__ import annotations

from collections.abc import Collection

from loop.errors import LoopError
from loop.experiment import Proposal
from loop.process.threads import in_thread
from loop.process.worker import WorkerError, run_worker
from loop.proposers.protocol import Context
from loop.proposers.search.suggest import NAME
from loop.proposers.search.worker import decode_answer, encode_request

_MODULE = "loop.proposers.search.worker"


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
        request = await in_thread(encode_request, context, self._frozen, self._seed)
        try:
            answer = await run_worker(_MODULE, request, python=self._python, limit=self._limit)
        except WorkerError as error:
            raise LoopError(f"The search worker {error}.") from None
        return decode_answer(answer)
