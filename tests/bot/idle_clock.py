"""A clock that skips what an event loop would only wait for; what is at work takes the time that it takes.

Servers and clients of a test live in one loop, so while nothing is ready and no thread works nothing will
happen before the next timer. Unlike `tests.loop.virtual_time` this is for real sockets.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

_CLOCKS = {"time": time.time, "monotonic": time.monotonic}
"""The machine's: one loop may be made before another one is closed, which is not to bring its clock back."""

GRACE = 0.02
"""Seconds in which what was written to a socket comes out of it, however busy the machine is."""

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


def waited() -> float:
    """Return how many seconds the present loop has not waited so far; work counts nothing."""
    return time.monotonic() - _CLOCKS["monotonic"]()


class IdleLoop(asyncio.SelectorEventLoop):
    """A loop that does not wait; until it is closed `time.time` and `time.monotonic` are as if it had."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        self._clocks = {name: self._skipping.ahead(clock) for name, clock in _CLOCKS.items()}
        for name, clock in self._clocks.items():
            setattr(time, name, clock)
        super().__init__(self._skipping)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        future = super().run_in_executor(executor, func, *args)
        self._skipping.threads += 1
        future.add_done_callback(self._note_end)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - its
        """Wait for the threads for as long as they take: a limit would be skipped at once."""
        del timeout
        await super().shutdown_default_executor()

    async def until(self, condition: Callable[[], object]) -> None:
        """Return after the turn in which something holds that nobody signals."""
        holds = self.create_future()
        self._skipping.watched[holds] = condition
        try:
            await holds
        finally:
            del self._skipping.watched[holds]

    def close(self) -> None:
        super().close()
        for name, clock in self._clocks.items():
            if getattr(time, name) is clock:
                setattr(time, name, _CLOCKS[name])

    def _note_end(self, _future: asyncio.Future[Any]) -> None:
        self._skipping.threads -= 1


class _Skipping(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.threads = 0  # at work
        self.watched: dict[asyncio.Future[None], Callable[[], object]] = {}
        self._skipped = 0.0

    def ahead(self, clock: Callable[[], float]) -> Callable[[], float]:
        return lambda: clock() + self._skipped

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        for future, condition in self.watched.items():
            if not future.done() and condition():
                future.set_result(None)
                timeout = 0
        if timeout is None or timeout <= GRACE or self.threads:
            return super().select(timeout)
        ready = super().select(GRACE)
        if not ready:
            self._skipped += timeout - GRACE
        return ready
