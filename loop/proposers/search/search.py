"""The embedded proposer: varies the constants of the program. It needs no network and no model."""

from __future__ import annotations

from collections.abc import Collection

from loop.experiment import Proposal
from loop.process.worker import run_worker
from loop.proposers.protocol import Context
from loop.proposers.search.suggest import NAME


class SearchProposer:
    """Proposes by `suggest`, in a worker: it needs numpy, and processor time that is the event loop's.

    `python` is the interpreter for it, `frozen` the names of constants to leave alone; `limit` is in seconds,
    and generous because a training may hold all processors.
    """

    name = NAME

    def __init__(
        self, *, python: str, frozen: Collection[str] = frozenset(), seed: int = 0, limit: float = 120.0
    ) -> None:
        self._python = python
        self._frozen = frozenset(frozen)
        self._seed = seed
        self._limit = limit

    async def propose(self, context: Context) -> Proposal:
        """Return the next program to train.

        Raises:
            UserError: there is nothing left to try, or the worker failed.
        """
        return await run_worker(
            "loop.proposers.search.suggest:suggest",
            *(context, self._frozen, self._seed),
            returns=Proposal,
            name="The search worker",
            python=self._python,
            limit=self._limit,
        )
