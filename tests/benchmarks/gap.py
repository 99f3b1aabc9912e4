"""How long a GPU would wait between two trainings: this loop beside a plain shell loop.

Run it with `.venv/bin/python -m tests.benchmarks.gap [--experiments N]`. Both loops train the same toy,
which takes 0.3 s and notes when it starts and ends. The shell loop is the practice at its barest: edit,
`git commit`, train, `git reset --hard HEAD~1`. They are run in turn, so that a busy machine is busy for both.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from loop.decision import KeepRule
from loop.engine import Engine, Plan
from loop.environment import training_environment
from loop.experiment import Goal, Proposal
from loop.journal import Journal
from loop.proposers.protocol import Context
from loop.trainer import Trainer
from loop.workspace import Workspace

TOY = """#!/bin/sh
date +%s%N >> "$TIMES"
sleep 0.3
printf -- '---\\nval_bpb: 1.0\\ntraining_seconds: 0.3\\n'
date +%s%N >> "$TIMES"
"""

SHELL_LOOP = """
set -e
for number in $(seq 0 "$1"); do
    echo "VALUE = $number  # of nothing" > train.py
    git commit --quiet --all --allow-empty --message "experiment $number"
    sh toy.sh > run.log 2>&1
    [ "$number" = 0 ] || git reset --quiet --hard HEAD~1
done
"""


class Counter:
    """Proposes the next whole number, at once."""

    name = "counter"

    def __init__(self) -> None:
        self._value = 0

    async def propose(self, context: Context) -> Proposal:
        """Return an edit that has never been tried."""
        self._value += 1
        source = f"VALUE = {self._value}  # of nothing\n"
        return Proposal(source, f"VALUE {self._value}", "", self.name, context.parent)


def make_repository(folder: Path) -> Path:
    """Return a new repository that holds the toy."""
    folder.mkdir()
    (folder / "prepare.py").write_text("TIME_BUDGET = 1\n")
    (folder / "train.py").write_text("VALUE = 0  # of nothing\n")
    (folder / "toy.sh").write_text(TOY)
    git = ["git", "-c", "user.name=toy", "-c", "user.email=toy@localhost"]
    subprocess.run([*git, "init", "--quiet", "-b", "main"], cwd=folder, check=True)
    for key in ("user.name", "user.email"):
        subprocess.run([*git, "config", key, "toy"], cwd=folder, check=True)
    subprocess.run([*git, "add", "--all"], cwd=folder, check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "toy"], cwd=folder, check=True)
    return folder


async def our_loop(folder: Path, experiments: int) -> list[float]:
    """Return the gaps of this project's engine, in milliseconds."""
    repository = make_repository(folder / "repository")
    times = folder / "times"
    journal = Journal(folder / "state.db")
    workspace = Workspace(repository=repository, path=folder / "worktrees" / "gap", tag="gap")
    base = workspace_base(repository)
    workspace.create(base)
    run = journal.create_run(
        tag="gap",
        repository=repository,
        base_branch="main",
        base_commit=base,
        metric="val_bpb",
        goal=Goal.MINIMIZE,
        time_budget=30,
    )
    environment = training_environment({"PATH": "/usr/bin:/bin"}, {"TIMES": str(times)})
    engine = Engine(
        run,
        plan=Plan(KeepRule(), environment, command=("sh", "toy.sh")),
        journal=journal,
        workspace=workspace,
        trainer=Trainer(),
        proposer=Counter(),
        folder=folder / "run",
    )
    await engine.conduct(experiments)
    workspace.close()
    journal.close()
    return gaps(times)


def workspace_base(repository: Path) -> str:
    """Return the commit that is checked out."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, check=True)
    return head.stdout.decode().strip()


def shell_loop(folder: Path, experiments: int) -> list[float]:
    """Return the gaps of the plain loop, in milliseconds."""
    repository = make_repository(folder / "repository")
    times = folder / "times"
    command = ["env", f"TIMES={times}", "sh", "-c", SHELL_LOOP, "loop", str(experiments)]
    subprocess.run(command, cwd=repository, check=True)
    return gaps(times)


def gaps(times: Path) -> list[float]:
    """Return the milliseconds from each end to the next start."""
    stamps = [int(line) / 1e6 for line in times.read_text().split()]
    return [start - end for end, start in zip(stamps[1::2], stamps[2::2], strict=False)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    ours: list[float] = []
    floor: list[float] = []
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as ours_in, tempfile.TemporaryDirectory() as floor_in:
            floor += shell_loop(Path(floor_in), arguments.experiments)
            ours += asyncio.run(our_loop(Path(ours_in), arguments.experiments))
    for name, values in (("this loop", ours), ("shell loop", floor)):
        print(f"{name:10}  median {statistics.median(values):6.1f} ms  worst {max(values):6.1f} ms")
    print(f"ratio of the medians {statistics.median(ours) / statistics.median(floor):.2f}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
