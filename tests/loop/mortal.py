"""An engine that can fail or die at any step, on a machine whose trainings end as a test wants.

Engine, git and journal are real. Everything happens in one thread and in virtual time, so that a failure can
be repeated turn by turn.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import selectors
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from loop.decision import KeepRule
from loop.engine import Engine, Plan
from loop.errors import LoopError
from loop.experiment import Ending, Outcome, Proposal, RunState
from loop.proposers.protocol import Context
from loop.trainer import Job, Trainer
from loop.workspace import Commit, Workspace
from tests.loop.lab import Lab

BASELINE = "A = 0\n" + "\n" * 6 + "B = 0\n" + "\n" * 6 + "# spare\n" * 20


class Death(BaseException):
    """The process ends here and now."""


class TroubleError(LoopError):
    """The disk is full, or whatever else passes."""


class Fuse:
    """Counts what a process does to journal, git and trainings.

    After `death` more of these steps it ends; after `trouble` more, one of them fails.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.dead = self.troubled = False
        self._death = self._trouble = math.inf

    def set(self, *, death: float, trouble: float) -> None:
        """Forget what was set before."""
        self._death, self._trouble = death, trouble
        self.troubled = False

    def step(self) -> None:
        """Note a step that is done, or is to be done next."""
        self.steps += 1
        self._death -= 1
        self.dead = self.dead or self._death < 0
        if self.dead:
            raise Death

    def try_step(self) -> None:
        """Note a step that is to be done next and may fail."""
        self.step()
        self._trouble -= 1
        if self._trouble < 0:
            self._trouble, self.troubled = math.inf, True
            raise TroubleError


class Timeless(selectors.DefaultSelector):
    """A selector for which a turn of the loop takes a millisecond and a wait no time at all."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.on_rest: Callable[[], None] = lambda: None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if timeout is None and not ready:
            self.on_rest()
        self.now += timeout if timeout and not ready else 0.001
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time that can tell when nothing happens by itself any more."""

    def __init__(self) -> None:
        self._timeless = Timeless()
        super().__init__(self._timeless)
        self.set_default_executor(Inline())

    def time(self) -> float:
        return self._timeless.now

    async def rest(self) -> None:
        """Wait until nothing is left to do but to wait for what never comes."""
        resting = self.create_future()
        self._timeless.on_rest = lambda: None if resting.done() else resting.set_result(None)
        await resting


class Inline(ThreadPoolExecutor):
    """Does at once what is meant for a thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - whoever waits for the future gets it, as of a thread
            future.set_exception(error)
        return future


class Brittle(Workspace):
    """A workspace of a process that may fail or die before whatever it does to git, and die after it."""

    def __init__(self, lab: Lab, tag: str, fuse: Fuse) -> None:
        super().__init__(repository=lab.repository, path=lab.home / "worktrees" / tag, tag=tag)
        self._fuse = fuse

    def repair(self, best: str, *, keep_editable: bool = False) -> list[str]:
        with self._risk():
            return super().repair(best, keep_editable=keep_editable)

    def rename(self, new_tag: str) -> None:
        with self._risk():
            super().rename(new_tag)

    def commit(self, parent: str, source: str, description: str) -> Commit:
        with self._risk():
            return super().commit(parent, source, description)

    def launch(self, number: int, commit: str) -> None:
        with self._risk():
            super().launch(number, commit)

    def keep(self, commit: str, parent: str) -> None:
        with self._risk():
            super().keep(commit, parent)

    def restore(self) -> None:
        with self._risk():
            super().restore()

    @contextmanager
    def _risk(self) -> Iterator[None]:
        self._fuse.try_step()
        yield
        self._fuse.step()


class Machine:
    """Where trainings run: they outlive the process that started them, supervisors without a job do not."""

    def __init__(self, lab: Lab) -> None:
        self.prompt = True  # a training that is asked to end does so at once
        self.trainings: dict[Path, MadeUpTraining] = {}  # by the folder of the attempt
        self.armed: set[int] = set()  # the supervisors that wait for a job
        self.pids = itertools.count(1)
        self._lab = lab

    def running(self) -> list[MadeUpTraining]:
        return [training for training in self.trainings.values() if training.outcome is None]

    def launch(self, folder: Path) -> MadeUpTraining:
        assert not self.running(), "two trainings at once"
        state = self._lab.now().state
        assert state is RunState.RUNNING, f"a training was started while the run was {state}"
        assert folder not in self.trainings, "an attempt was made twice"
        self.trainings[folder] = MadeUpTraining(self)
        return self.trainings[folder]


class MadeUpTraining:
    """A training that ends as and when the test wants."""

    def __init__(self, machine: Machine) -> None:
        self.outcome: Outcome | None = None
        self._ended = asyncio.Event()
        self._machine = machine

    def finish(self, ending: Ending, value: float | None = None) -> None:
        numbers = {} if value is None else {"val_bpb": value, "training_seconds": 1.0}
        code = 1 if ending is Ending.EXITED and value is None else None
        self.outcome = Outcome(ending, code, 1.0, 2.0, numbers)
        self._ended.set()

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


class MadeUpTrainer:
    """What an engine uses of `Trainer`."""

    def __init__(self, machine: Machine, fuse: Fuse) -> None:
        self._machine = machine
        self._fuse = fuse

    async def arm(self) -> MadeUpSupervisor:
        await asyncio.sleep(0)
        supervisor = MadeUpSupervisor(next(self._machine.pids), self._machine)
        self._machine.armed.add(supervisor.pid)
        return supervisor

    async def start(self, supervisor: MadeUpSupervisor, job: Job) -> MadeUpTraining:
        await asyncio.sleep(0)
        self._fuse.try_step()
        supervisor.dismiss()
        return self._machine.launch(job.folder)

    def attach(self, *, folder: Path, supervisor_pid: int | None, **_: object) -> MadeUpTraining:
        found = self._machine.trainings.get(folder)
        if found is None:
            found = MadeUpTraining(self._machine)
            if supervisor_pid not in self._machine.armed:  # one that waits for its job lives
                found.finish(Ending.VANISHED)
        return found


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
            raise LoopError("out of ideas")
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


class Life:
    """One process of the bot, from its start to its death."""

    def __init__(self, lab: Lab, machine: Machine, thinker: Thinker, limit: int | None) -> None:
        self.fuse = Fuse()
        self._lab = lab
        self._machine = machine
        self._limit = limit
        lab.journal.listeners.append(self.fuse.step)
        run = lab.now()
        self._workspace = Brittle(lab, run.renamed_from or run.tag, self.fuse)
        self.engine = Engine(
            run,
            plan=Plan(KeepRule(), {}, crash_streak=2, retry_seconds=(0.0,)),
            journal=lab.journal,
            workspace=self._workspace,
            trainer=cast(Trainer, MadeUpTrainer(machine, self.fuse)),
            proposer=thinker,
            folder=lab.home / "runs" / str(run.id),
            clock=itertools.count(1.0).__next__,
        )
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
        """Raise what went wrong, except for death and trouble."""
        for task in self._tasks:
            if task.done() and not self.fuse.dead:
                with suppress(TroubleError):
                    task.result()

    async def die(self) -> None:
        self.fuse.dead = True
        self._lab.journal.listeners.remove(self.fuse.step)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._machine.armed.clear()
        self._workspace.close()

    async def _obey(self, order: str) -> None:
        name, _, argument = order.partition(" ")
        command = getattr(self.engine, name)
        try:
            if argument == "now":
                await command(now=True)
            else:
                await command(*filter(None, [argument]))
        except LoopError:
            return
        if name == "resume":
            self.conduct()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._tasks.append(asyncio.create_task(work))
        return self._tasks[-1]
