"""How tests of the engine make, start and end one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest

from loop.engine.run import Engine
from loop.errors import UserError
from loop.experiment import (
    EventKind,
)
from loop.git.workspace import Workspace
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


@contextmanager
def failing_git(*, moved: bool) -> Iterator[None]:
    """Let each move of the branch fail, after it was `moved` or before."""
    move_head = Workspace.move_head

    def move_and_fail(self: Workspace, commit: str, old: str) -> None:
        if moved:
            move_head(self, commit, old)
        raise UserError("no room")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workspace, "move_head", move_and_fail)
        with pytest.raises(UserError, match="no room"):
            yield
