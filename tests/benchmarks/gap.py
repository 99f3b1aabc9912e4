"""How long a GPU would wait between two trainings: this loop beside a plain shell loop.

Run it with `.venv/bin/python -m tests.benchmarks.gap [--experiments N] [--sandbox KIND...]`. All loops train
the same toy, which takes 0.3 s and notes when it starts and ends. The shell loop is the practice at its
barest: edit, `git commit`, train, `git reset --hard HEAD~1`; it has no sandbox. They are run in turn, so that
a busy machine is busy for all.

With `--imports torch torch._dynamo torch._inductor.compile_fx` it measures instead until the first line after
these imports of a program, in bwrap, which then does nothing for `--seconds`: without and with a Python that
has waited for its turn.
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


IMPORTS = """{imports}
import os, time
VALUE = 0  # of nothing
def note():
    with open(os.environ["TIMES"], "a") as times:
        times.write(f"{{time.time_ns()}}\\n")
note()
time.sleep({seconds})
print("---\\nval_bpb: 1.0\\ntraining_seconds: {seconds}", flush=True)
note()
os._exit(0)  # at its end PyTorch takes its time
"""


class Counter:
    """Proposes the next whole number as the VALUE of a program, at once."""

    name = "counter"

    def __init__(self, train: str = TRAIN) -> None:
        self._value = 0
        self._train = train

    async def propose(self, context: Context) -> Proposal:
        """Return an edit that has never been tried."""
        self._value += 1
        source = self._train.replace("VALUE = 0 ", f"VALUE = {self._value} ")
        return Proposal(source, f"VALUE {self._value}", "", self.name, context.parent)


async def our_loop(folder: Path, experiments: int, sandbox: Sandbox) -> list[float]:
    """Return the gaps of this project's engine, in seconds."""
    repository = make_repository(folder / "repository", train=TRAIN, toy=TOY)
    found, _ = await conduct_toys(
        folder, repository, proposer=Counter(), settings={}, experiments=experiments, sandbox=sandbox
    )
    return found


async def importing_loop(folder: Path, train: str, experiments: int, *, starts_ahead: bool) -> list[float]:
    """Return the seconds from the end of a training to the first line after the imports of the next."""
    found, _ = await conduct_toys(
        folder,
        make_repository(folder / "repository", train=train, toy=""),
        proposer=Counter(train),
        settings={},
        experiments=experiments,
        sandbox=find_sandbox(SandboxKind.BWRAP),
        command=(sys.executable, "train.py"),
        starts_ahead=starts_ahead,
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
    parser.add_argument("--imports", nargs="+", default=[])
    parser.add_argument("--seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    if arguments.imports:
        compare_imports(arguments)
        return
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
    tell(found, floor, "the shell loop")


def compare_imports(arguments: argparse.Namespace) -> None:
    """Measure and print how long a program takes to its first line after the imports."""
    imports = "\n".join(f"import {name}" for name in arguments.imports)
    train = IMPORTS.format(imports=imports, seconds=arguments.seconds)
    found: dict[str, list[float]] = {"plainly": [], "after waiting": []}
    for _ in range(arguments.rounds):
        for values, starts_ahead in zip(found.values(), (False, True), strict=True):
            with tempfile.TemporaryDirectory() as folder:
                loop = importing_loop(Path(folder), train, arguments.experiments, starts_ahead=starts_ahead)
                values.extend(asyncio.run(loop))
    tell(found, statistics.median(found["plainly"]), "the plain start")


def tell(found: dict[str, list[float]], floor: float, of: str) -> None:
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    for name, values in found.items():
        median, worst = statistics.median(values), max(values)
        times = f"median {1e3 * median:6.1f} ms  worst {1e3 * worst:6.1f} ms"
        print(f"{name:17} {times}  {median / floor:.2f} of {of}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
