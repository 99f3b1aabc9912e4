"""A machine whose trainings end as and when a test wants, and a proposer that always thinks of something."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loop.errors import UserError
from loop.experiment import Ending, Outcome, Proposal
from loop.proposers.protocol import Context

BASELINE = "A = 0\n" + "\n" * 6 + "B = 0\n" + "\n" * 6 + "# spare\n" * 20


class Machine:
    """Where trainings run: they outlive the process that started them, supervisors without a job do not."""

    def __init__(self, *, may_train: Callable[[], bool], lanes: int = 1) -> None:
        self.lanes = lanes
        self.prompt = True  # a training that is asked to end does so at once
        self.trainings: dict[Path, MadeUpTraining] = {}  # by the folder of the attempt
        self.armed: set[int] = set()  # the supervisors that wait for a job
        self._pids = itertools.count(1)
        self._may_train = may_train

    def running(self) -> list[MadeUpTraining]:
        return [training for training in self.trainings.values() if training.outcome is None]

    def arm(self) -> MadeUpSupervisor:
        supervisor = MadeUpSupervisor(next(self._pids), self)
        self.armed.add(supervisor.pid)
        return supervisor

    def launch(self, supervisor: MadeUpSupervisor, folder: Path) -> MadeUpTraining:
        assert len(self.running()) < self.lanes, "two trainings at once"
        assert self._may_train(), "a training was started that nobody wants"
        assert folder not in self.trainings, "an attempt was made twice"
        supervisor.dismiss()
        self.trainings[folder] = MadeUpTraining(self, folder)
        return self.trainings[folder]

    def find(self, folder: Path, supervisor_pid: int | None) -> MadeUpTraining:
        """Return the training of an attempt; one that never began has vanished, or is still to begin."""
        found = self.trainings.get(folder)
        if found is None:
            found = MadeUpTraining(self, folder)
            if supervisor_pid not in self.armed:
                found.finish(Ending.VANISHED)
        return found


class MadeUpTraining:
    def __init__(self, machine: Machine, folder: Path) -> None:
        self.folder = folder
        self.outcome: Outcome | None = None
        self._ended = asyncio.Event()
        self._machine = machine

    def finish(self, ending: Ending, value: float | None = None, *, doubted: bool = False) -> None:
        numbers = {} if value is None else {"val_bpb": value, "training_seconds": 1.0, "doubted": doubted}
        code = 1 if ending is Ending.EXITED and value is None else None
        self.outcome = Outcome(ending, code, 1.0, 2.0, numbers)
        self._ended.set()

    def alive(self) -> bool:
        return self.outcome is None

    async def wait(self) -> Outcome:
        await self._ended.wait()
        assert self.outcome is not None
        return self.outcome

    async def end(self, ending: Ending) -> None:
        if self._machine.prompt and self.outcome is None:
            self.finish(ending)


@dataclass(frozen=True, slots=True)
class MadeUpSupervisor:
    pid: int
    machine: Machine
    started: float = 0.0

    def dismiss(self) -> None:
        self.machine.armed.remove(self.pid)


class Thinker:
    """Proposes something new each time: at one of two far places, or a line less. It may fail first."""

    name = "thinker"

    def __init__(self) -> None:
        self.failures = 0
        self._numbers = itertools.count(1)

    async def propose(self, context: Context) -> Proposal:
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise UserError("out of ideas")
        number = next(self._numbers)
        first, *others = context.source.splitlines(keepends=True)
        if number % 3 == 0:
            first = f"A = {number}\n"
        elif number % 3 == 1 or others[-1] != "# spare\n":
            place = next(i for i, line in enumerate(others) if line.startswith("B"))
            others[place] = f"B = {number}\n"
        else:
            others.pop()
        return Proposal("".join((first, *others)), f"idea {number}", "", self.name, context.parent)
