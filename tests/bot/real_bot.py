"""A real bot process on a toy repository, driven as its user drives it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from bot.local.wire import send
from tests.bot.preloaded import Forked, preloaded
from tests.copies import copy_of
from tests.loop.lab import git

TOY = """\
import os
import time

LEARNING_RATE = 0.01  # of nothing in particular
WIDTH = 64  # likewise

print("step 00001 (50.0%) | loss: 2.5 | remaining: 1s", flush=True)
gate = os.environ.get("TORCH_GATE")
while gate and not os.path.exists(gate):
    time.sleep(0.01)
value = 1 + abs(LEARNING_RATE - 0.02) + abs(WIDTH - 128) / 1000
print("---")
print(f"val_bpb: {value:.6f}")
print("training_seconds: 1.0")
print("total_seconds: 2.0")
print("peak_vram_mb: 512.0")
"""


def make_repository(folder: Path, train: str, time_budget: int) -> None:
    (folder / "prepare.py").write_text(f"TIME_BUDGET = {time_budget}\n")
    (folder / "train.py").write_text(train)
    git(folder, "init", "--quiet", "--initial-branch=main", "--template=")
    (folder / ".git/info").mkdir()
    (folder / ".git/info/exclude").touch()
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=first")


Process: TypeAlias = Forked | subprocess.Popen[str]


class RealBot:
    """The command line on a state directory and a toy repository of its own."""

    forks = True
    mounts: int | None = None  # a process whose mounts it is to have; it has to be forked for that

    def __init__(self, folder: Path, *, train: str = TOY, time_budget: int = 60, **settings: str) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.repository = folder / "repository"
        copy_of(self.repository, make_repository, train, time_budget)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "AUTORESEARCH_HOME": str(self.home),
            "REPOSITORY": str(self.repository),
            "DATA_PATHS": "",
            "SANDBOX": "none",  # toys wait for files of the test's, and start sooner
            "WAKE_UP": "",  # whatever the time of day is
            "NOISE_RUNS": "0",  # toys have no noise
            "PYTHONWARNINGS": "error",
            **settings,
        }

    def command(self, *arguments: str) -> list[str]:
        return [str(Path(sys.executable).with_name("autoresearch")), *arguments]

    def launch(self, *arguments: str, stdout: int, stderr: int) -> Process:
        """Start the command line, without an input, in a forked process where that makes no difference."""
        with Path(os.devnull).open() as nothing:
            streams: dict[str, Any] = {"stdin": nothing.fileno(), "stdout": stdout, "stderr": stderr}
            command, folder, env = self.command(*arguments), self.folder, self.environment
            if self.forks and preloaded().suits(env):
                return preloaded().start(command, cwd=folder, env=env, mounts=self.mounts, **streams)
            assert self.mounts is None
            return subprocess.Popen(command, cwd=folder, env=env, text=True, **streams)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            with self.launch(*arguments, stdout=out.fileno(), stderr=err.fileno()) as process:
                try:
                    code = process.wait(timeout=100)
                except BaseException:
                    process.kill()
                    raise
            for file in (out, err):
                file.seek(0)
            return subprocess.CompletedProcess(arguments, code, out.read(), err.read())

    def say(self, command: str) -> str:
        """Give a running bot a command as `autoresearch send` does, without a process; return the answer."""
        reply = asyncio.run(send(self.home / "bot.sock", command))
        assert not reply.refused
        return "\n".join(filter(None, (reply.message.text, reply.message.block)))

    @contextmanager
    def start(self, *arguments: str) -> Iterator[Process]:
        """Start the bot, to be ended by the test, or by a failure of it; its output is a pipe of lines."""
        read, write = os.pipe()
        with os.fdopen(read) as output, self.launch("up", *arguments, stdout=write, stderr=write) as process:
            os.close(write)
            process.stdout = output
            try:
                yield process
            except BaseException:
                process.kill()
                raise

    def json(self, *arguments: str) -> Any:
        """Run a command with --json and read what it prints."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def gated(bot: RealBot) -> Path:
    """Let every training wait until the returned file is made."""
    gate = bot.folder / "gate"
    bot.environment["TORCH_GATE"] = str(gate)
    return gate


def read_until(bot: Process, text: str) -> str:
    """Read the bot's output up to the line that contains `text`."""
    assert bot.stdout is not None
    seen = ""
    while text not in seen:
        line = bot.stdout.readline()
        assert line, f"the bot ended before it said {text!r}:\n{seen}"
        seen += line
    return seen
