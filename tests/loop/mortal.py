"""A process of the bot that may fail or die at any step: before or after whatever it does to the world.

Engine, git and journal are real, the trainings made up.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

from loop.engine.plan import Plan
from loop.engine.run import Engine
from loop.engine.stages import KeepRule
from loop.engine.trainings import Trainings
from loop.errors import UserError
from loop.evidence import Belief, Doubt
from loop.experiment import Actor, Cause, EventKind, Experiment, Reason, Status
from loop.folders import RunFolders
from loop.git.workspace import Commit, Workspace
from loop.lanes.protocol import Slot
from loop.process.trainer import Job, Trainer
from loop.store.journal import Journal
from tests.loop.lab import Lab, be_doubtful
from tests.loop.made_up import Machine, MadeUpSupervisor, MadeUpTraining, Thinker

TROUBLES = (UserError, OSError, sqlite3.Error)


def is_doubted(experiment: Experiment) -> Doubt:
    belief = Belief.UNSURE if experiment.numbers.get("doubted") else Belief.BELIEVED
    return Doubt(belief, ("it looks too good",))


class Death(BaseException):
    """The process ends here and now."""


class Fuse:
    """Lets a process die, or fail at what it does to the world, after some more steps."""

    def __init__(self) -> None:
        self.dead = self.troubled = False
        self._misfortune = ""
        self._left = 0

    def light(self, misfortune: str = "", after: int = 0) -> None:
        """Let "trouble" or "death" come after so many steps, in place of what was to come."""
        self._misfortune, self._left, self.troubled = misfortune, after, False

    @contextmanager
    def step(self, error: type[Exception]) -> Iterator[None]:
        """Do one step, unless it fails with `error` or the process dies before; it may also die after it."""
        self._live()
        if self._burn("trouble"):
            self.light()
            self.troubled = True
            raise error("The disk is full.")
        yield
        self._live()

    def _live(self) -> None:
        self.dead = self.dead or self._burn("death")
        if self.dead:
            raise Death

    def _burn(self, misfortune: str) -> bool:
        if self._misfortune != misfortune:
            return False
        self._left -= 1
        return self._left < 0


class MortalJournal(Journal):
    def __init__(self, lab: Lab, fuse: Fuse) -> None:
        self._fuse = fuse
        super().__init__(lab.journal.path)
        self.execute("PRAGMA synchronous = OFF")  # quicker: no power is cut here

    @contextmanager
    def transaction(self) -> Iterator[Callable[..., None]]:
        with self._fuse.step(sqlite3.OperationalError), super().transaction() as append:
            yield append


class MortalWorkspace(Workspace):
    def __init__(self, lab: Lab, tag: str, fuse: Fuse) -> None:
        super().__init__(repository=lab.repository, path=lab.home / "worktrees" / tag, tag=tag)
        self._fuse = fuse

    def repair(self, best: str) -> list[str]:
        with self._fuse.step(UserError):
            return super().repair(best)

    def rename(self, new_tag: str) -> None:
        with self._fuse.step(UserError):
            super().rename(new_tag)

    def commit(self, parent: str, source: str, description: str) -> Commit:
        with self._fuse.step(UserError):
            return super().commit(parent, source, description)

    def remember(self, number: int, commit: str) -> None:
        with self._fuse.step(UserError):
            super().remember(number, commit)

    def move_head(self, commit: str, old: str) -> None:
        with self._fuse.step(UserError):
            super().move_head(commit, old)

    def restore(self) -> None:
        with self._fuse.step(UserError):
            super().restore()


class MortalTrainer:
    """What an engine uses of `Trainer`."""

    secrets = ()

    def __init__(self, machine: Machine, fuse: Fuse) -> None:
        self._machine = machine
        self._fuse = fuse

    def arm(self) -> MadeUpSupervisor:
        with self._fuse.step(UserError):
            return self._machine.arm()

    def start(self, supervisor: MadeUpSupervisor, job: Job) -> MadeUpTraining:
        with self._fuse.step(OSError):
            return self._machine.launch(supervisor, job.folder)

    def attach(self, folder: Any, supervisor_pid: int | None, _: float | None) -> MadeUpTraining:
        return self._machine.find(folder, supervisor_pid)


class Life:
    """One process of the bot, from its start to its death; it is to make `limit` experiments, if any."""

    def __init__(self, lab: Lab, machine: Machine, thinker: Thinker, limit: int | None) -> None:
        self.fuse = Fuse()
        self._machine = machine
        self._limit = limit
        run = lab.now()
        self._journal = MortalJournal(lab, self.fuse)
        self._workspace = MortalWorkspace(lab, run.renamed_from or run.tag, self.fuse)
        trainings = Trainings(
            Plan(
                KeepRule(equal_within=0.0),
                lab.launcher({}),
                deadline=600.0,
                crash_streak=2,
                noise_runs=1,
                retry_seconds=(0.0,),
            ),
            journal=self._journal,
            workspace=self._workspace,
            trainer=cast(Trainer, MortalTrainer(machine, self.fuse)),
            folders=RunFolders(lab.home, run.id),
            slots=tuple(map(Slot, range(machine.lanes))),
        )
        self.engine = Engine(run, trainings, thinker)
        be_doubtful(self.engine, is_doubted)
        self._conducting: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def idle(self) -> bool:
        """Tell whether nobody conducts the run."""
        return self._conducting is None or self._conducting.done()

    def conduct(self) -> None:
        """Go on with the run, as the host does."""
        if self.idle:
            self._conducting = self._start(self.engine.conduct(self._limit))

    def give(self, order: str) -> None:
        """Give a command without waiting for it; it may be refused."""
        self._start(self._obey(order))

    def check(self) -> None:
        """Raise what went wrong, except for the trouble that was made."""
        done = [task for task in self._tasks if task.done() and not self.fuse.dead]
        for task in done:
            self._tasks.remove(task)
            with suppress(*(TROUBLES if self.fuse.troubled else ())):
                task.result()

    async def die(self) -> None:
        self.fuse.dead = True
        for task in self._tasks:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._machine.armed.clear()
        self._journal.close()
        for end in ends:
            assert not isinstance(end, AssertionError), end

    async def _obey(self, order: str) -> None:
        name, _, argument = order.partition(" ")
        with suppress(*TROUBLES):
            match name:
                case "pause" | "resume" | "skip":
                    await self._steer(name, argument)
                case "rerun":
                    await self.engine.rerun(int(argument), 2)
                case "retag":
                    await self.engine.retag(argument)
                case "accept" | "reject":
                    await self._take_back(name, argument)
                case "close" | "open":
                    await self._tend_lane(name, int(argument))
                case "stop":
                    await self.engine.stop()
                case "stall":
                    for training in self._machine.running():
                        await self.engine.end_stalled(training.folder)

    async def _steer(self, name: str, argument: str) -> None:
        if name == "pause":
            await self.engine.pause(now=argument == "now")
        elif name == "skip":
            await self.engine.skip()
        else:
            await self.engine.resume()
            self.conduct()

    async def _tend_lane(self, name: str, lane: int) -> None:
        if name == "open":
            await self.engine.open_lane(lane)
        elif lane < self._machine.lanes:
            await self.engine.close_lane(lane, Reason(Actor.HEARTBEAT, cause=Cause.GPU_FULL))

    async def _take_back(self, name: str, which: str) -> None:
        """Decide about the first or the last result that there is to decide about."""
        wanted = [Status.QUARANTINE] if name == "accept" else [Status.QUARANTINE, Status.KEEP]
        experiments = self._journal.experiments(self.engine.run.id)
        found = [e.number for e in experiments if e.status in wanted and e.number]
        if found:
            number = found[0 if which == "first" else -1]
            kind = EventKind.ACCEPTED if name == "accept" else EventKind.REJECTED
            await self.engine.correct(kind, number)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._tasks.append(asyncio.create_task(work))
        return self._tasks[-1]
