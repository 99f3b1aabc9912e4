"""How tests of the engine make, start and end one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psutil

from loop.engine.run import Engine
from loop.experiment import (
    EventKind,
)
from tests.loop.lab import Lab

MakeLab = Callable[..., Lab]


def conduct(engine: Engine, experiments: int | None = None) -> asyncio.Task[None]:
    return asyncio.create_task(engine.conduct(experiments))


async def end(task: asyncio.Task[None]) -> None:
    """End the engine as a bot does that is told to end: the training goes on without it."""
    task.cancel()
    await asyncio.wait({task})


def told(lab: Lab, kind: EventKind) -> list[dict[str, object]]:
    return [dict(e.data) for e in lab.journal.events_after(0, limit=10_000) if e.kind is kind]


def kill(lab: Lab) -> None:
    (begun,) = lab.repeats.under_way(lab.run.id)
    supervisor = psutil.Process(begun.training.supervisor_pid)
    for process in (supervisor, *supervisor.children(recursive=True)):
        process.kill()
