"""A night on a Ray cluster whose parts are killed: nothing lost, nothing trained twice.

Run it with `make ray`. Two nodes with three GPUs that are not there, toys of three seconds; in the middle of
trainings a node is killed and comes back, then the bot, then the head with all nodes, which come back too.
"""
# ruff: noqa: T201

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import psutil

from loop.errors import UserError
from loop.experiment import Ending, EventKind, RunState, Status
from loop.process.supervisor import MARK
from loop.store.evidence.repeats import trainings_under_way
from loop.store.journal import Journal
from tests.bot.real_bot import RealBot
from tests.ray_cluster.nodes import RayCluster, cluster, enter_network, until, why_not

EXPERIMENTS = 20
TOY = f"""\
import json, os, time

LEARNING_RATE = 0.01
WIDTH = 64
DEPTH = 8
MOMENTUM = 0.9
WEIGHT_DECAY = 0.1

def note(what):
    line = json.dumps({{"what": what, "mark": os.environ["{MARK}"]}})
    with open(os.environ["TORCH_LEDGER"], "a") as ledger:
        ledger.write(line + "\\n")

note("begin")
print("step 00001 (50.0%) | loss: 2.5 | remaining: 1s", flush=True)
time.sleep(3)
value = 1 + abs(LEARNING_RATE - 0.02) + abs(WIDTH - 128) / 1000 + abs(DEPTH - 6) / 100
print("---")
print(f"val_bpb: {{value:.6f}}")
print("training_seconds: 1.0")
print("total_seconds: 2.0")
print("peak_vram_mb: 512.0", flush=True)
note("end")
"""


class Night:
    def __init__(self, folder: Path, ray: RayCluster) -> None:
        self.ray = ray
        self.ledger = folder / "ledger"
        self.ledger.touch()
        (folder / "bot").mkdir()
        self.bot = RealBot(
            folder / "bot",
            train=TOY,
            EXECUTOR="ray",
            RAY_ADDRESS=ray.address,
            TRAIN_COMMAND=f"{sys.executable} -I -S train.py",
        )
        self.bot.environment["PYTHONWARNINGS"] = "default"
        self.bot.forks = False
        self._process: subprocess.Popen[bytes] | None = None
        self._output = folder / "bot.out"
        self._before = 0

    def doctor(self) -> str:
        """Return what the doctor says of the cluster."""
        found = subprocess.run(
            self.bot.command("doctor", "--all"),
            cwd=self.bot.folder,
            env=self.bot.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return next(line for line in found.stdout.splitlines() if " ray: " in line)

    def start_bot(self) -> None:
        self._before = self.count("begin")
        command = self.bot.command(
            "up", "--tag", "night", "--experiments", str(EXPERIMENTS), "--exit-when-done"
        )
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=self.bot.folder,
                env=self.bot.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def kill_bot(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def trains(self, made: int, lanes: int) -> bool:
        """Tell whether so many experiments were made, and as many trainings as lanes begun since a look."""
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(f"the bot ended: {self._output.read_text()[-2000:]}")
        path = self.bot.home / "state.db"
        if not path.exists():
            return False
        with suppress(UserError, ValueError), closing(Journal(path, read_only=True)) as journal:
            (run,) = journal.runs()
            decided = sum(journal.counts(run.id).values())
            under_way = trainings_under_way(journal, run.id)
            begun = self.count("begin") - self._before
            return decided >= made and len(under_way) >= lanes and begun >= lanes
        return False

    def notes(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.ledger.read_text().splitlines()]

    def count(self, what: str) -> int:
        return sum(note["what"] == what for note in self.notes())

    def tell(self) -> None:
        """Print what the bot says, for a failure."""
        for path in (self._output, self.bot.home / "bot.log", self.bot.home / "ray.log"):
            print(f"{path.name}:\n{path.read_text()[-4000:] if path.exists() else ''}")

    def wait(self) -> None:
        assert self._process is not None
        code = self._process.wait(timeout=300)
        assert code == 0, self._output.read_text()[-3000:]

    def check(self) -> list[str]:
        """Hold the journal against what the toys say."""
        notes = self.notes()
        begun = Counter(note["mark"] for note in notes if note["what"] == "begin")
        assert max(begun.values()) == 1, "an attempt was trained twice"
        with closing(Journal(self.bot.home / "state.db", read_only=True)) as journal:
            (run,) = journal.runs()
            assert run.state is RunState.DONE
            experiments = journal.experiments(run.id)
            assert [each.number for each in experiments] == list(range(len(experiments)))
            assert len(experiments) > EXPERIMENTS
            statuses = Counter(each.status for each in experiments)
            assert set(statuses) <= {Status.KEEP, Status.DISCARD}, statuses
            assert all(each.ending is Ending.EXITED for each in experiments)
            ended = sum(note["what"] == "end" for note in notes)
            interrupted = [
                e for e in journal.events_after(0, limit=100_000) if e.kind is EventKind.INTERRUPTED
            ]
            assert len(interrupted) >= 1, "no node was lost"
            attempts = sum(each.attempt for each in experiments)
            kept, lost = statuses[Status.KEEP], len(interrupted)
            lines = [
                f"{len(experiments)} experiments, each with one verdict: {kept} kept, 0 crashes",
                f"{attempts} trainings begun, {ended} came to their end, {lost} were lost with machines",
            ]
            lines += [f"  {event.data.get('reason', '')}" for event in interrupted]
            notices = [e for e in journal.events_after(0, limit=100_000) if e.kind is EventKind.NOTED]
            lines += [f"told: {e.data.get('reason', '')}" for e in notices]
        return lines


def is_training(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "train.py" in process.cmdline()
    return False


def main() -> None:
    if reason := why_not():
        sys.exit(reason)
    enter_network()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, cluster() as ray, ExitStack() as stack:
        night = Night(Path(name), ray)
        stack.push(lambda kind, *_: night.tell() if kind else None)
        stack.callback(night.kill_bot)
        night.bot.environment["TRAIN_ENV"] = "TORCH_LEDGER"
        os.environ["TORCH_LEDGER"] = str(night.ledger)

        def say(text: str) -> None:
            print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

        ray.start_head()
        ray.start("a", gpus=2)
        ray.start("b", gpus=1)
        say("head and two nodes started")
        print(night.doctor())
        night.start_bot()
        until(lambda: night.trains(2, 2))
        ray.kill("a")
        say("node a killed in the middle of two trainings")
        ray.start("a", gpus=2)
        until(lambda: night.trains(5, 2))
        night.kill_bot()
        say("bot killed")
        night.start_bot()
        until(lambda: night.trains(8, 2))
        for part in ("head", "a", "b"):
            ray.kill(part)
        say("head killed, and the nodes with it")
        ray.start_head()
        ray.start("a", gpus=2)
        ray.start("b", gpus=1)
        night.wait()
        say("the night is over")
        for line in night.check():
            print(line)
        left = [each for node in ray.nodes.values() for each in node.tree() if is_training(each)]
        assert not left
    print("nothing lost, nothing double")
    assert not [p for p in psutil.process_iter(["environ"]) if name in str(p.info["environ"])]


if __name__ == "__main__":
    main()
