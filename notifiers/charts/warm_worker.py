"""A process that has done its imports before it is asked: matplotlib takes a second to start."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import TypeVar

from loop.process.worker import WorkerError, call_worker, end_worker, start_for

T = TypeVar("T")


class WarmWorker:
    """Calls one function as `run_worker` does, where it can in a process that has done its imports before.

    Such a process is started after each call and waits, with 72 MB of memory, for the next one, however late
    that comes. `close` it before the event loop ends; a process whose bot was killed ends by itself.
    """

    def __init__(
        self,
        function: str,
        *,
        name: str,
        python: str,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._function = function
        self._name = name
        self._python = python
        self._settings = settings or {}
        self.spare: asyncio.Task[asyncio.subprocess.Process] | None = None

    async def call(self, *arguments: object, returns: type[T], limit: float) -> T:
        spare, self.spare = self.spare, None
        try:
            worker = await spare if spare is not None else None
            if worker is None or worker.returncode is not None:
                worker = await self._start()
            return await call_worker(worker, arguments, returns=returns, name=self._name, limit=limit)
        finally:
            self.get_ready()

    def get_ready(self) -> None:
        """Start a process for the call to come."""
        if self.spare is None:
            self.spare = asyncio.create_task(self._start())

    async def close(self) -> None:
        spare, self.spare = self.spare, None
        if spare is not None:
            with suppress(WorkerError):
                await end_worker(await spare)

    async def _start(self) -> asyncio.subprocess.Process:
        return await start_for(self._function, name=self._name, python=self._python, settings=self._settings)
