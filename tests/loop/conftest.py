"""Fixtures of the loop's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from loop.workspace import Workspace
from tests.loop.real_git import git, make_repository

Open: TypeAlias = Callable[..., Workspace]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with prepare.py, train.py, program.md and one commit on branch main."""
    return make_repository(tmp_path / "repository")


@pytest.fixture
def base(repository: Path) -> str:
    """The commit of the repository."""
    return git(repository, "rev-parse", "main")


@pytest.fixture
def open_workspace(repository: Path, tmp_path: Path) -> Iterator[Open]:
    """A function that opens a workspace by its tag (`mar12`), as a new process would."""
    opened = []

    def open_(tag: str = "mar12", *, of: Path = repository, **options: object) -> Workspace:
        path = tmp_path / "state" / "worktrees" / tag
        workspace = Workspace(repository=of, path=path, tag=tag, **options)  # type: ignore[arg-type]
        opened.append(workspace)
        return workspace

    yield open_
    for workspace in opened:
        workspace.close()


@pytest.fixture
def workspace(open_workspace: Open, base: str) -> Workspace:
    """A run mar12 whose baseline was kept."""
    made = open_workspace()
    made.create(base)
    made.remember(0, base)
    made.launch(base)
    made.keep(base, base)
    return made
