"""A run of toy trainings, conducted by a real engine on real git and a real journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from loop.engine.plan import NO_SANDBOX, Plan
from loop.engine.remote.trainings import RemoteTrainings
from loop.engine.run import Engine
from loop.engine.stages import KeepRule
from loop.engine.trainings import Trainings
from loop.experiment import Goal
from loop.folders import RunFolders
from loop.git.workspace import Workspace
from loop.lanes.cluster import Cluster
from loop.lanes.local import WHOLE
from loop.lanes.node import Recipe
from loop.lanes.protocol import Slot
from loop.process.environment import Launcher, training_environment
from loop.process.trainer import Trainer
from loop.proposers.protocol import Proposer
from loop.results.report import RunStatus, run_status
from loop.sandbox.sandbox import Sandbox
from loop.store.journal import Journal
from tests.loop.lab import git

_BUDGET = 600.0


def make_repository(folder: Path, *, train: str, toy: str) -> Path:
    """Return a new repository with these as `train.py` and `toy.sh`, in which anybody may commit."""
    folder.mkdir()
    (folder / "prepare.py").write_text(f"TIME_BUDGET = {_BUDGET:.0f}\n")
    (folder / "train.py").write_text(train)
    (folder / "toy.sh").write_text(toy)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "config", "user.name", "toy")
    git(folder, "config", "user.email", "toy@localhost")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=toy")
    return folder


async def conduct_toys(
    folder: Path,
    repository: Path,
    *,
    proposer: Proposer,
    settings: Mapping[str, str],
    experiments: int,
    sandbox: Sandbox = NO_SANDBOX,
    command: tuple[str, ...] = ("sh", "toy.sh"),
    starts_ahead: bool = False,
    slots: Sequence[Slot] = WHOLE,
    cluster: Cluster | None = None,
    recipe: Recipe | None = None,
) -> tuple[list[float], RunStatus]:
    """Make so many experiments after the baseline with the `toy.sh` of a repository, or another command.

    The toy gets the `settings` and notes in the file `$TIMES` when it starts and ends. Returns the seconds
    from each end to the next start, and the run's last status.
    """
    times, base = folder / "times", git(repository, "rev-parse", "HEAD")
    times.touch()
    journal = Journal(folder / "state.db")
    workspace = Workspace(repository=repository, path=folder / "worktrees" / "toy", tag="toy")
    workspace.create(base)
    run = journal.create_run(
        tag="toy",
        repository=repository,
        base_branch="main",
        base_commit=base,
        metric="val_bpb",
        goal=Goal.MINIMIZE,
        time_budget=_BUDGET,
    )
    environment = training_environment({"PATH": "/usr/bin:/bin"}, {"TIMES": str(times), **settings})
    launcher = Launcher(folder / "environments", override=command, editable="train.py", environ=environment)
    make = partial(RemoteTrainings, cluster) if cluster else Trainings
    trainings = make(
        Plan(
            KeepRule(),
            launcher,
            deadline=2 * _BUDGET,
            sandbox=sandbox,
            writable=(times,),
            starts_ahead=lambda _: starts_ahead,
            recipe=recipe,
        ),
        journal=journal,
        workspace=workspace,
        trainer=Trainer(),
        folders=RunFolders(folder, run.id),
        slots=slots,
    )
    engine = Engine(run, trainings, proposer)
    try:
        await engine.conduct(experiments)
        return gaps(times), run_status(journal, run, worktree=workspace.path)
    finally:
        journal.close()


def gaps(times: Path) -> list[float]:
    """Return the seconds from each end to the next start, of stamps in nanoseconds."""
    stamps = [int(line) / 1e9 for line in times.read_text().split()]
    return [start - end for end, start in zip(stamps[1::2], stamps[2::2], strict=False)]
