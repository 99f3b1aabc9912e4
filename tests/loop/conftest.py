"""Fixtures of the loop's tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from loop.errors import UserError
from loop.git.workspace import Workspace
from loop.sandbox.sandbox import Sandbox, SandboxKind, find_sandbox
from tests.copies import connect, copy_of
from tests.loop import toys
from tests.loop.real_git import git, make_repository
from tests.loop.training_bench import Bench

Open: TypeAlias = Callable[..., Workspace]


@pytest.fixture(scope="session")
def bwrap() -> Sandbox:
    try:
        return find_sandbox(SandboxKind.BWRAP)
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with prepare.py, train.py, program.md and one commit on branch main."""
    return make_repository(tmp_path / "repository")


@pytest.fixture
def base(repository: Path) -> str:
    """The commit of the repository."""
    return git(repository, "rev-parse", "main")


@pytest.fixture
def open_workspace(repository: Path, tmp_path: Path) -> Open:
    """A function that opens a workspace by its tag (`mar12`), as a new process would."""

    def open_(tag: str = "mar12", *, of: Path = repository, **options: object) -> Workspace:
        path = tmp_path / "state" / "worktrees" / tag
        return Workspace(repository=of, path=path, tag=tag, **options)  # type: ignore[arg-type]

    return open_


@pytest.fixture
def workspace(open_workspace: Open, repository: Path, tmp_path: Path) -> Workspace:
    """A run mar12 whose baseline was kept."""
    copy_of(tmp_path, keep_baseline)
    connect(tmp_path / "state/worktrees/mar12", repository / ".git/worktrees/mar12")
    return open_workspace()


def keep_baseline(folder: Path) -> None:
    repository = make_repository(folder / "repository")
    base = git(repository, "rev-parse", "main")
    made = Workspace(repository=repository, path=folder / "state/worktrees/mar12", tag="mar12")
    made.create(base)
    made.remember(0, base)
    made.move_head(base, base)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A worktree for trainings, of which none may be left in the end."""
    yield Bench(tmp_path)
    left = toys.leftovers(tmp_path)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


@pytest.fixture
def pipes(tmp_path: Path) -> Iterator[toys.Pipes]:
    """What a toy says that it is ready with, and waits for."""
    pipes = toys.Pipes(tmp_path)
    yield pipes
    pipes.close()
