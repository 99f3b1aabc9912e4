"""Work in order in each place, without one long piece of it keeping everybody waiting."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

log = logging.getLogger(__name__)

Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
_T = TypeVar("_T")

HEAD_START = 2.0
LINGER_SECONDS = 2.0  # that work at hand gets at the end


class Lanes:
    """Begins the work of each place in the order in which it came.

    A piece of work begins when the one before it is done, or has had `head_start` seconds for itself: quick
    commands are obeyed strictly one after another, and a slow one does not keep the next for long.
    """

    def __init__(self, head_start: float = HEAD_START) -> None:
        self._head_start = head_start
        self._waiting: dict[str, deque[Work]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def put(self, place: str, work: Work) -> None:
        """Add work to the end of a place's lane."""
        if place in self._waiting:
            self._waiting[place].append(work)
        else:
            self._waiting[place] = deque([work])
            self.begin(self._serve(place))

    def begin(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Begin something at once, whatever waits; it ends with the lanes."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def close(self) -> None:
        """Finish what is at hand within a moment; what has not begun by then never does."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=LINGER_SECONDS)
        while self._tasks:
            late = set(self._tasks)
            for task in late:
                task.cancel()
            await asyncio.wait(late)

    async def _serve(self, place: str) -> None:
        waiting = self._waiting[place]
        while waiting:
            task = self.begin(waiting.popleft()())
            await asyncio.wait({task}, timeout=self._head_start)
        del self._waiting[place]

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a command failed", exc_info=error)
