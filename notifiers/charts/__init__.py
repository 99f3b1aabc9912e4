"""The progress chart of a run as a picture, which a process of its own draws: matplotlib is slow to start.

Start at `scene.py`: what a chart shows, as data, also for the page. `bot` imports this; `drawing.py` is
imported only in the process that draws.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeVar

from loop.experiment import Run
from loop.process.worker import WorkerError, call_worker, end_worker, in_thread, run_worker, start_for
from loop.store.experiments import Row
from notifiers.charts.scene import ChartError, Scene, alt_text, make_scene
from notifiers.message import Attachment

_DRAW, _NAME = "notifiers.charts.drawing:draw", "its worker"
_SETTINGS = {"MATPLOTLIBRC": os.devnull}  # a person's own style is for their own figures

T = TypeVar("T")


async def chart_of(run: Run, rows: Sequence[Row], *, drawing: WarmWorker | None = None) -> Attachment:
    """Return the chart of a run, drawn by `drawing` where that is given.

    Raises:
        ChartError: it cannot be drawn.
    """
    scene = await in_thread(make_scene, rows, metric=run.metric, goal=run.goal, title=run.tag)
    return Attachment(f"{run.tag}.png", await draw(scene, drawing=drawing), alt_text(scene))


async def draw(
    scene: Scene, *, drawing: WarmWorker | None = None, python: str = sys.executable, limit: float = 60.0
) -> bytes:
    """Return a scene as a PNG, drawn within `limit` seconds by `drawing`, else by a new process of `python`.

    Raises:
        ChartError: it cannot be drawn.
    """
    try:
        if drawing is not None:
            return await drawing.call(scene, returns=bytes, limit=limit)
        return await run_worker(
            _DRAW, scene, returns=bytes, name=_NAME, python=python, limit=limit, settings=_SETTINGS
        )
    except WorkerError as error:
        raise ChartError(f"The chart cannot be drawn: {error}") from None


class WarmWorker:
    """Calls `function`, which draws, where it can in a process that has done its imports before.

    Such a process is started after each call and waits, with 72 MB of memory, for the next one, however late
    that comes. `close` it before the event loop ends; a process whose bot was killed ends by itself.
    """

    def __init__(self, function: str = _DRAW) -> None:
        self._function = function
        self.spare: asyncio.Task[asyncio.subprocess.Process] | None = None

    async def call(self, *arguments: object, returns: type[T], limit: float) -> T:
        spare, self.spare = self.spare, None
        try:
            worker = await spare if spare is not None else None
            if worker is None or worker.returncode is not None:
                worker = await self._start()
            return await call_worker(worker, arguments, returns=returns, name=_NAME, limit=limit)
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
        return await start_for(self._function, name=_NAME, python=sys.executable, settings=_SETTINGS)
