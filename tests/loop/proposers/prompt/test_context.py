"""What is read of a run for those who propose."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loop.errors import UserError
from loop.evaluation.noise import Noise
from loop.experiment import Ending
from loop.git.workspace import Workspace
from loop.logs.capture import LOG
from loop.proposers.prompt import context
from loop.proposers.prompt.context import ContextReader
from tests.loop.lab import Lab, git, value
from tests.loop.trainings import trained


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path / "lab", value(1.5))
    yield made
    made.close()


@pytest.fixture
def workspace(lab: Lab) -> Workspace:
    return workspace_of(lab)


def workspace_of(lab: Lab) -> Workspace:
    return Workspace(repository=lab.repository, path=lab.worktree, tag="mar12")


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A run of a baseline and what is worse, for tests that read it."""
    yield from run_of(tmp_path_factory.mktemp("short"), 1.6)


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The same with six experiments."""
    yield from run_of(tmp_path_factory.mktemp("long"), 1.4, 1.6, 1.7, 1.3, 1.8, 1.9)


def run_of(folder: Path, *numbers: float) -> Iterator[Lab]:
    made = Lab(folder / "lab", value(1.5))
    asyncio.run(made.engine(*map(value, numbers)).conduct(len(numbers)))
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
def test_a_full_memory_is_told_apart_from_a_bug(
    short_run: Lab, ending: Ending, exit_code: int, log: str, full: bool
) -> None:
    lab = short_run
    baseline, _ = lab.experiments()
    lab.folders.log(0).write_text(log)
    reader = ContextReader(journal=lab.journal, workspace=workspace_of(lab), folders=lab.folders)
    failure = reader.failure(trained(baseline, ending=ending, exit_code=exit_code), baseline.parent)
    assert (failure.out_of_memory, failure.log) == (full, log)
    assert failure.source == value(1.5)


async def test_a_crash_has_its_log_before_that_is_filed(lab: Lab, workspace: Workspace) -> None:
    await lab.engine(value(1.6)).conduct(1)
    crash = lab.experiments()[1]
    reader = ContextReader(journal=lab.journal, workspace=workspace, folders=lab.folders)
    attempt = lab.folders.attempt(crash.number, crash.attempt)
    attempt.mkdir(parents=True)
    (attempt / LOG).write_text("KeyError: 1")
    assert reader.failure(crash, crash.parent).log == "KeyError: 1"


async def test_a_crash_is_shown_as_it_is_on_what_was_kept_since(lab: Lab, workspace: Workspace) -> None:
    apart = "A = 1\n# a\n# a\n# a\nB = 1\n" + value(1.4)
    await lab.engine(apart, apart.replace("A = 1", "A = oops")).conduct(2)
    crash = lab.experiments()[-1]
    reader = ContextReader(journal=lab.journal, workspace=workspace, folders=lab.folders)

    def kept(program: str) -> str:
        return workspace.commit(crash.parent, program, "kept since").sha

    on_another = reader.failure(crash, kept(apart.replace("B = 1", "B = 2")))
    assert on_another.source == "A = oops\n# a\n# a\n# a\nB = 2\n" + value(1.4)
    with pytest.raises(UserError, match="conflicts with what was kept since"):
        reader.failure(crash, kept(apart.replace("A = 1", "A = 2")))


def test_the_noise_of_the_run_is_told(short_run: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = short_run
    reader = ContextReader(journal=lab.journal, workspace=workspace_of(lab), folders=lab.folders)
    assert reader.read(lab.now()).noise is None  # nothing was trained again
    measured = Noise(0.0005, 2)
    monkeypatch.setattr(context, "read_noise", lambda _journal, _run: measured)
    assert reader.read(lab.now()).noise == measured


async def test_a_diff_that_git_has_lost_is_left_out(lab: Lab, workspace: Workspace) -> None:
    await lab.engine(value(1.4), value(1.3)).conduct(2)
    lost = replace(lab.experiments()[1], commit="abcdef1")  # as a table has it that was adopted
    lab.journal.record(lost)
    read = ContextReader(journal=lab.journal, workspace=workspace, folders=lab.folders).read(lab.now())
    assert set(read.changes) == {2}


def test_the_fixed_files_and_those_about_the_repository_are_read(lab: Lab, workspace: Workspace) -> None:
    texts = {"README.md": "# What this is\n", "program.md": "Lower val_bpb.\n", "notes.md": "mine\n"}
    for name, text in texts.items():
        (lab.repository / name).write_text(text)
    git(lab.repository, "add", "--all")
    git(lab.repository, "commit", "--quiet", "--message=texts")
    run = replace(lab.now(), base_commit=git(lab.repository, "rev-parse", "HEAD"))
    read = ContextReader(journal=lab.journal, workspace=workspace, folders=lab.folders).read(run)
    fixed = (lab.repository / "prepare.py").read_text()
    assert read.files == {name: texts[name] for name in ("README.md", "program.md")} | {"prepare.py": fixed}


@pytest.mark.parametrize(
    ("most", "shown"),
    [(2, [4, 5, 6]), (4, [1, 3, 4, 5, 6]), (5, [1, 2, 3, 4, 5, 6]), (7, [0, 1, 2, 3, 4, 5, 6])],
)
def test_what_the_first_that_is_shown_was_compared_with_is_shown_too(
    long_run: Lab, monkeypatch: pytest.MonkeyPatch, most: int, shown: list[int]
) -> None:
    monkeypatch.setattr("loop.proposers.prompt.context.SHOWN", most)
    reader = ContextReader(
        journal=long_run.journal, workspace=workspace_of(long_run), folders=long_run.folders
    )
    assert [experiment.number for experiment in reader.read(long_run.now()).experiments] == shown
