"""A worktree with a toy in it, for tests that start trainings by the trainer."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

from loop.logs.capture import LOG
from loop.process import supervisor as program
from loop.process.environment import training_environment
from loop.process.trainer import Job, Supervisor, Trainer, TrainingProcess
from tests.loop import toys

NUMBERS = {
    "val_bpb": 1.0,
    "training_seconds": 300.0,
    "total_seconds": 325.0,
    "peak_vram_mb": 1024.0,
    "num_steps": 12.0,
}
SHORT = 2.0  # seconds of a deadline, in which a toy gets ready even on a busy machine


class Bench:
    """A worktree with a toy in it, and the trainings started there."""

    def __init__(self, folder: Path) -> None:
        self.trainer = Trainer()
        self.folder = folder
        self.supervisor: Supervisor | None = None

    def job(self, source: str) -> Job:
        (self.folder / "train.py").write_text(source)
        return Job(
            argv=toys.COMMAND,
            cwd=self.folder,
            env=training_environment(os.environ, {}),
            log=self.folder / "run.log",
            folder=self.folder / "0-1",
            deadline=100.0,
            grace=0.1,
        )

    async def start(self, job: Job) -> TrainingProcess:
        self.supervisor = self.trainer.arm()
        return self.trainer.start(self.supervisor, job)

    def reattach(self) -> TrainingProcess:
        """Find the training as a bot started anew does."""
        assert self.supervisor is not None
        return Trainer().attach(self.folder / "0-1", self.supervisor.pid, self.supervisor.started)

    def record(self) -> dict[str, object]:
        data: dict[str, object] = json.loads((self.folder / "0-1" / program.STARTED).read_text())
        return data

    def write(self, name: str, text: str) -> None:
        (self.folder / "0-1").mkdir(exist_ok=True)
        (self.folder / "0-1" / name).write_text(text)

    def kill_supervisor(self) -> None:
        assert self.supervisor is not None
        os.kill(self.supervisor.pid, signal.SIGKILL)

    @property
    def kept(self) -> str:
        """What is kept of the training's log."""
        return (self.folder / "0-1" / LOG).read_text(errors="replace")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(0.005)
