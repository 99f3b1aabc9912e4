"""A place to make runs in, of which no process may be left."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from loop.process.trainer import Trainer
from tests.loop.engine.engines import MakeLab
from tests.loop.forked_supervisors import forking, forks_supervisors
from tests.loop.lab import Lab


@pytest.fixture(autouse=True)
def forked_supervisors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start them without their imports; the tests of the trainer and whole bots start real ones."""
    if sys.platform == "linux":
        monkeypatch.setattr(Trainer, "arm", staticmethod(forking().arm))


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[MakeLab]:
    labs: list[Lab] = []

    def make(baseline: str, prepare: str = "TIME_BUDGET = 300\n") -> Lab:
        labs.append(Lab(tmp_path / str(len(labs)), baseline, prepare=prepare))
        return labs[-1]

    yield make
    for lab in labs:
        lab.close()
    assert not supervisors()


def supervisors() -> list[int]:
    """Return those below this process that live."""
    found = []
    for child in psutil.Process().children(recursive=True):
        if forks_supervisors(child.pid):
            continue
        with suppress(psutil.NoSuchProcess):  # it has just ended
            if any("supervisor" in word for word in child.cmdline()):
                found.append(child.pid)
    return found
