"""What tests of coding agents need: proposers that ask the fake agent, and a look at what they leave."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil

from loop.proposers.agent.coding_agent import MARK, CodingAgent
from loop.proposers.agent.presets import Preset, own_command
from loop.proposers.protocol import Failure
from loop.text import secrets_in
from tests.loop import fake_agent
from tests.loop.proposers.contexts import context_of, trial
from tests.loop.real_git import TRAIN, refs, snapshot

KEY = "sk-test-0123456789abcdef"
CHAT_TOKEN = "123456789:AAFakeFakeFakeFakeFakeFakeFakeFake_x"
FAKE = (sys.executable, "-I", "-S", fake_agent.__file__)
EDITED = TRAIN.replace(fake_agent.BEFORE, fake_agent.AFTER)


class Bench:
    """Makes coding agents that work on one repository."""

    def __init__(self, repository: Path, base: str, folder: Path) -> None:
        self.repository = repository
        self.folder = folder / "agents"
        self.context = replace(context_of(TRAIN), parent=base)
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "OPENAI_API_KEY": KEY,
            "AWS_SECRET_ACCESS_KEY": "another-secret-0123456789",
            "TELEGRAM_BOT_TOKEN": CHAT_TOKEN,
            "CUDA_VISIBLE_DEVICES": "0",
            "https_proxy": "http://me:password@proxy:3128",
        }

    def agent(self, *arguments: object, limit: float = 60.0, editable: str = "train.py") -> CodingAgent:
        """Return a proposer that asks the fake agent with these arguments."""
        return self.of(own_command((*FAKE, *map(str, arguments))), limit=limit, editable=editable)

    def of(self, preset: Preset, *, limit: float = 60.0, editable: str = "train.py") -> CodingAgent:
        return CodingAgent(
            preset,
            repository=self.repository,
            folder=self.folder,
            environ=self.environ,
            secrets=secrets_in(self.environ),
            limit=limit,
            editable=editable,
        )

    def failure(self, source: str) -> Failure:
        return Failure(trial(7, "wider", {}, None, None), source, "boom", out_of_memory=False)


@contextmanager
def untouched(repository: Path, base: str, folder: Path) -> Iterator[Bench]:
    """Give a bench, and see in the end that repository and machine are as they were."""
    before, known = snapshot(repository), refs(repository)
    made = Bench(repository, base, folder)
    yield made
    assert snapshot(repository) == before
    assert refs(repository) == known
    assert not list(made.folder.glob("*"))
    assert not processes(folder)


def processes(folder: Path) -> list[psutil.Process]:
    """Return the living processes that carry an agent's mark or the folder on their command line."""
    found = []
    for process in psutil.process_iter(["environ", "cmdline", "status"]):
        marked = (process.info["environ"] or {}).get(MARK, "").startswith(str(folder))
        named = any(str(folder) in part for part in process.info["cmdline"] or ())
        if (marked or named) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found
