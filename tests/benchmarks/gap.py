"""How long a GPU would wait between two trainings: this loop beside a plain shell loop.

Run it with `.venv/bin/python -m tests.benchmarks.gap [--experiments N] [--sandbox KIND...]`. All loops train
the same toy, which takes 0.3 s and notes when it starts and ends. The shell loop is the practice at its
barest: edit, `git commit`, train, `git reset --hard HEAD~1`; it has no sandbox. They are run in turn, so that
a busy machine is busy for all.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from loop.experiment import Proposal
from loop.proposers.protocol import Context
from loop.sandbox.sandbox import Sandbox, SandboxKind, find_sandbox
from tests.benchmarks.toy_run import conduct_toys, gaps, make_repository

TRAIN = "VALUE = 0  # of nothing\n"

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


async def our_loop(folder: Path, experiments: int, sandbox: Sandbox) -> list[float]:
    """Return the gaps of this project's engine, in seconds."""
    repository = make_repository(folder / "repository", train=TRAIN, toy=TOY)
    found, _ = await conduct_toys(
        folder, repository, proposer=Counter(), settings={}, experiments=experiments, sandbox=sandbox
    )
    return found


def shell_loop(folder: Path, experiments: int) -> list[float]:
    """Return the gaps of the plain loop, in seconds."""
    repository = make_repository(folder / "repository", train=TRAIN, toy=TOY)
    times = folder / "times"
    command = ["env", f"TIMES={times}", "sh", "-c", SHELL_LOOP, "loop", str(experiments)]
    subprocess.run(command, cwd=repository, check=True)
    return gaps(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sandbox", nargs="+", type=SandboxKind, default=list(SandboxKind))
    arguments = parser.parse_args()
    sandboxes = {f"sandbox {kind}": find_sandbox(kind) for kind in arguments.sandbox}
    found: dict[str, list[float]] = {"shell loop": []}
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            found["shell loop"] += shell_loop(Path(folder), arguments.experiments)
        for name, sandbox in sandboxes.items():
            with tempfile.TemporaryDirectory() as folder:
                ours = asyncio.run(our_loop(Path(folder), arguments.experiments, sandbox))
            found.setdefault(name, []).extend(ours)
    floor = statistics.median(found["shell loop"])
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    for name, values in found.items():
        median, worst = statistics.median(values), max(values)
        times = f"median {1e3 * median:6.1f} ms  worst {1e3 * worst:6.1f} ms"
        print(f"{name:17} {times}  {median / floor:.2f} of the shell loop")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
