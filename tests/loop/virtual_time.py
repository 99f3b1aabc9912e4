"""An event loop in virtual time and without threads, so that what happened can be repeated turn by turn."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

TURN = 0.001
"""Seconds that a turn of the loop takes."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop for which a wait takes no time, and that can tell when nothing is left to do.

    Work for threads is done between two turns of the loop. It begins after the next of `lags` turns, again
    and again from the first, and after as many more its result is known.
    """

    def __init__(self) -> None:
        self.lags: tuple[int, ...] = (0,)
        self._timeless = _Timeless()
        super().__init__(self._timeless)
        self.set_default_executor(_Between(self))
        # Tasks that a death ended have no heirs. Told of at the collector's whim, within whatever runs then,
        # they could upset a parser (CPython 3.11).
        self.set_exception_handler(lambda _loop, _context: None)

    def time(self) -> float:
        return self._timeless.now

    async def rest(self) -> None:
        """Wait until nothing is left to do but to wait for what never comes."""
        resting = self.create_future()
        self._timeless.on_rest = lambda: None if resting.done() else resting.set_result(None)
        await resting


class _Timeless(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.on_rest: Callable[[], None] = lambda: None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if timeout is None and not ready:
            self.on_rest()
        self.now += timeout if timeout and not ready else TURN
        return ready


class _Between(ThreadPoolExecutor):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop
        self._calls = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        lags = self._loop.lags
        lag = TURN * lags[self._calls % len(lags)]
        self._calls += 1

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                done = partial(future.set_result, fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - whoever waits for the future gets it, as of a thread
                done = partial(future.set_exception, error)
            self._later(lag, done)

        self._later(lag, work)
        return future

    def _later(self, lag: float, work: Callable[[], None]) -> None:
        if lag:
            self._loop.call_later(lag, work)
        else:
            work()
