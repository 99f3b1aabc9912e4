"""What is read of a run for those who propose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loop.experiment import Ending
from loop.proposers.reader import ContextReader
from loop.workspace import Workspace
from tests.loop.lab import Lab, value


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path / "lab", value(1.5))
    yield made
    made.close()


@pytest.fixture
def workspace(lab: Lab) -> Iterator[Workspace]:
    made = Workspace(repository=lab.repository, path=lab.worktree, tag="mar12")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("ending", "exit_code", "log", "full"),
    [
        (Ending.EXITED, 1, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", True),
        (Ending.EXITED, 1, "NameError: name 'x' is not defined", False),
        (Ending.EXITED, -9, "step 1", True),  # the system's memory was full
        (Ending.EXITED, 137, "step 1", True),  # the same below a shell
        (Ending.DEADLINE, -9, "step 1", False),  # it was killed by us
        (Ending.EXITED, -11, "step 1", False),
    ],
)
async def test_a_full_memory_is_told_apart_from_a_bug(
    lab: Lab, workspace: Workspace, ending: Ending, exit_code: int, log: str, full: bool
) -> None:
    await lab.engine(value(1.6)).conduct(1)
    baseline, _ = lab.experiments()
    folder = lab.home / "logs"
    folder.mkdir()
    (folder / "0.log").write_text(log)
    reader = ContextReader(journal=lab.journal, workspace=workspace, folder=folder)
    failure = reader.failure(replace(baseline, ending=ending, exit_code=exit_code))
    assert (failure.out_of_memory, failure.log) == (full, log)
    assert failure.source == value(1.5)
