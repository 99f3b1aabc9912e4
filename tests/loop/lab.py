"""A laboratory for tests of the engine: a real repository, journal and trainings, and ideas on demand."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType

from loop.engine.ahead.waiting import is_worthwhile
from loop.engine.conductor import nothing_blocks, nothing_closes
from loop.engine.plan import NO_SANDBOX, Plan
from loop.engine.remote.trainings import RemoteTrainings
from loop.engine.run import Engine
from loop.engine.stages import KeepRule
from loop.engine.trainings import Trainings
from loop.errors import UserError
from loop.evidence import Doubt
from loop.experiment import EventKind, Experiment, Goal, Proposal, Reason, Run, Status
from loop.folders import RunFolders
from loop.git.workspace import Workspace
from loop.lanes.cluster import Cluster
from loop.lanes.local import WHOLE
from loop.lanes.node import Recipe
from loop.lanes.protocol import Slot
from loop.process.environment import Launcher, training_environment
from loop.process.trainer import Trainer
from loop.proposers.protocol import Context, Proposer
from loop.sandbox.sandbox import Sandbox
from loop.store.evidence.repeats import Repeats, trainings_under_way
from loop.store.journal import Journal
from tests.copies import connect, copy_of
from tests.git_settings import NO_MAINTENANCE

GIT_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nowhere",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "ann",
    "GIT_AUTHOR_EMAIL": "ann@localhost",
    "GIT_COMMITTER_NAME": "ann",
    "GIT_COMMITTER_EMAIL": "ann@localhost",
    **NO_MAINTENANCE,
}


def git(folder: Path, *arguments: str) -> str:
    """Run git as a user would and return what it printed."""
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=GIT_ENVIRONMENT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def program(body: str) -> str:
    """Return a train.py that does `body`.

    There `summary(value)` prints a summary block, and `wait()` lasts until the test opens the gate.
    """
    return f"""\
import os, sys, time

def summary(value, seconds=1.0):
    print("---")
    print(f"val_bpb: {{value:.6f}}")
    print(f"training_seconds: {{seconds:.1f}}")
    print("total_seconds: 2.0")
    print("peak_vram_mb: 512.0", flush=True)

def wait():
    print("waiting", flush=True)
    while not os.path.exists(os.environ["TORCH_GATE"]):
        time.sleep(0.005)

{body}
"""


def value(number: float) -> str:
    """Return a train.py that reports `number` at once."""
    return program(f"summary({number})")


def make_folders(folder: Path, files: tuple[tuple[str, str], ...]) -> None:
    """Make a repository with one commit of `files`, and a home with an empty journal and a worktree."""
    repository, home = folder / "repository", folder / "home"
    repository.mkdir()
    git(repository, "init", "--quiet", "--initial-branch=main", "--template=")
    for name, text in files:
        (repository / name).write_text(text)
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message=first")
    home.mkdir(mode=0o700)
    Journal(home / "state.db").close()
    workspace = Workspace(repository=repository, path=home / "worktrees" / "mar12", tag="mar12")
    workspace.create((repository / ".git/refs/heads/main").read_text().strip())


class Ideas:
    """A proposer with one given program for each experiment after the baseline; then it waits for ever.

    Asked again for the same experiment, because its edit did not fit a new best, it gives the same program.
    """

    name = "ideas"

    def __init__(self, *programs: str) -> None:
        self.contexts: list[Context] = []
        self.failures: list[UserError] = []
        self.asked = asyncio.Event()
        self._programs = list(programs)

    def replace(self, number: int, program: str) -> None:
        """Give another program for an experiment, from the next asking on."""
        self._programs[number - 1] = program

    async def propose(self, context: Context) -> Proposal:
        self.contexts.append(context)
        self.asked.set()
        if self.failures:
            raise self.failures.pop(0)
        number = len(context.experiments)
        if number > len(self._programs):
            await asyncio.Event().wait()
        source = self._programs[number - 1]
        return Proposal(source, f"idea {number}", "because", self.name, context.parent)


def be_doubtful(engine: Engine, doubt: Callable[[Experiment], Doubt]) -> None:
    """Let an engine find this of a number, whatever it has evaluated."""

    def found(run: Run, evaluated: Experiment) -> Doubt:
        return doubt(evaluated)

    engine.evaluations.doubt = found  # type: ignore[method-assign]


class Lab:
    """A run of its own in `folder`, with engines that can be made anew as after a restart of the bot."""

    def __init__(
        self,
        folder: Path,
        baseline: str,
        *,
        prepare: str = "TIME_BUDGET = 300\n",
        files: Mapping[str, str] = MappingProxyType({}),
        time_budget: float = 300.0,
    ) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.gate = folder / "gate"
        self.repository = folder / "repository"
        contents = {"prepare.py": prepare, "train.py": baseline, **files}
        copy_of(folder, make_folders, tuple(contents.items()))
        connect(self.home / "worktrees/mar12", self.repository / ".git/worktrees/mar12")
        self.base = (self.repository / ".git/refs/heads/main").read_text().strip()
        self.journal = Journal(self.home / "state.db")
        self.run = self.journal.create_run(
            tag="mar12",
            repository=self.repository,
            base_branch="main",
            base_commit=self.base,
            metric="val_bpb",
            goal=Goal.MINIMIZE,
            time_budget=time_budget,
        )

    def reopen(self, folder: Path) -> None:
        """Be the laboratory that another one has made in `folder`, as after a restart of the bot."""
        self.folder, self.home = folder, folder / "home"
        self.gate, self.repository = folder / "gate", folder / "repository"
        self.journal = Journal(self.home / "state.db")
        (self.run,) = self.journal.runs()
        self.base = self.run.base_commit

    def engine(
        self,
        *programs: str,
        ideas: Proposer | None = None,
        crash_streak: int = 5,
        deadline: float = 600.0,
        pattern: str = "",
        noise_runs: int = 0,
        sandbox: Sandbox = NO_SANDBOX,
        evaluate: tuple[str, ...] = (),
        data: tuple[Path, ...] = (),
        readable: tuple[Path, ...] = (),
        environ: Mapping[str, str] = MappingProxyType({}),
        starts_ahead: Callable[[Mapping[str, str]], bool] = is_worthwhile,
        certify_repeats: int = 3,
        is_blocked: Callable[[Run], Awaitable[bool]] = nothing_blocks,
        doubt: Callable[[Experiment], Doubt] | None = None,
        timer: Callable[[], float] = time.monotonic,
        slots: Sequence[Slot] = WHOLE,
        blocker: Callable[[Run, Slot], Awaitable[Reason | None]] = nothing_closes,
        cluster: Cluster | None = None,
        recipe: Recipe | None = None,
    ) -> Engine:
        """Return a new engine on the run, as a bot just started makes it."""
        run = self.journal.run_by_id(self.run.id)
        workspace = self._workspace(run.renamed_from or run.tag)
        environment = training_environment(os.environ, {"TORCH_GATE": str(self.gate), **environ})
        make = partial(RemoteTrainings, cluster) if cluster else Trainings
        trainings = make(
            Plan(
                KeepRule(pattern=pattern),
                self.launcher(environment),
                deadline=deadline,
                crash_streak=crash_streak,
                noise_runs=noise_runs,
                sandbox=sandbox,
                evaluate=evaluate,
                data=data,
                readable=readable,
                starts_ahead=starts_ahead,
                recipe=recipe,
                certify_repeats=certify_repeats,
                retry_seconds=(0.0,),
                rest_seconds=(0.0,),
            ),
            journal=self.journal,
            workspace=workspace,
            trainer=Trainer(pattern=pattern),
            folders=self.folders,
            slots=slots,
        )
        made = Engine(
            run,
            trainings,
            ideas or Ideas(*programs),
            is_blocked=is_blocked,
            timer=timer,
            blocker=blocker,
        )
        if doubt is not None:
            be_doubtful(made, doubt)
        return made

    def launcher(self, environ: Mapping[str, str]) -> Launcher:
        command = (sys.executable, "-S", "train.py")  # a Python without site-packages starts fastest
        return Launcher(self.home / "environments", override=command, editable="train.py", environ=environ)

    @property
    def folders(self) -> RunFolders:
        return RunFolders(self.home, self.run.id)

    def experiments(self) -> list[Experiment]:
        return self.journal.experiments(self.run.id)

    def now(self) -> Run:
        """Return the run as the journal has it."""
        return self.journal.run_by_id(self.run.id)

    @property
    def worktree(self) -> Path:
        return self.home / "worktrees" / self.now().tag

    def open_gate(self) -> None:
        """Let the training that waits go on."""
        self.gate.touch()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that an event of the journal brings about."""
        news = asyncio.Event()
        loop = asyncio.get_running_loop()

        def notice() -> None:
            loop.call_soon_threadsafe(news.set)

        self.journal.listeners.append(notice)
        while not condition():
            await news.wait()
            news.clear()
        self.journal.listeners.remove(notice)

    async def until_training(self, number: int, attempt: int = 1) -> None:
        """Wait until a training of an experiment, perhaps a repeat, has begun and waits at the gate."""

        def begun() -> bool:
            under_way = trainings_under_way(self.journal, self.run.id)
            return (number, attempt) in [(found, training.k) for found, training, _ in under_way]

        await self.until(begun)
        log = self.worktree / "run.log"
        while not (log.exists() and "waiting" in log.read_text()):  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.005)

    @property
    def repeats(self) -> Repeats:
        return Repeats(self.journal)

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.journal.events_after(0, limit=10_000)]

    def check_invariants(self) -> None:
        """Hold git, the journal and results.tsv against each other (true after every verdict)."""
        run = self.now()
        decided = [e for e in self.experiments() if e.status is not None]
        best = self.journal.best(run.id)
        expected_head = best.commit if best else self.base
        # Two processes for all of it: this is asked after every step of many tests.
        listed = git(self.repository, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        refs = dict(line.split() for line in listed)
        assert refs[f"refs/heads/{run.branch}"] == expected_head
        for experiment in decided:
            if experiment.attempt:
                assert refs[f"refs/autoresearch/{run.tag}/{experiment.number}"] == experiment.commit
        rows = (self.worktree / "results.tsv").read_text().splitlines()[1:]
        assert [row.split("\t")[0] for row in rows] == [e.commit[:7] for e in decided]
        told = [Status.DISCARD if e.status is Status.QUARANTINE else e.status for e in decided]
        assert [row.split("\t")[3] for row in rows] == told
        assert [e.number for e in self.experiments()] == list(range(len(self.experiments())))
        checkout = git(self.repository, "status", "--porcelain=v2", "--branch").splitlines()
        assert checkout == [f"# branch.oid {self.base}", "# branch.head main"]

    def close(self) -> None:
        self.journal.close()

    def _workspace(self, tag: str) -> Workspace:
        return Workspace(repository=self.repository, path=self.home / "worktrees" / tag, tag=tag)
