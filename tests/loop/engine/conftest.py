"""A place to make runs in, of which no process may be left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.loop.engine.engines import MakeLab
from tests.loop.lab import Lab


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
        with suppress(psutil.NoSuchProcess):  # it has just ended
            if any("supervisor" in word for word in child.cmdline()):
                found.append(child.pid)
    return found
