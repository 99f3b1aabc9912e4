from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from loop.git.workspace import Workspace
from tests.loop.conftest import Open
from tests.loop.real_git import commit_files, git, snapshot


def replaced_by_link(file: Path) -> None:
    copy = file.with_suffix(".copy")
    file.rename(copy)
    file.symlink_to(copy)


def replaced_by_folder(file: Path) -> None:
    file.unlink()
    (file / "inner").mkdir(parents=True)


def replaced_by_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    "tamper",
    [
        Path.unlink,
        replaced_by_link,
        replaced_by_folder,
        replaced_by_pipe,
        lambda file: file.write_text("TIME_BUDGET = 60 * 6\n"),
        lambda file: file.write_text("TIME_BUDGET = 60 * 5\r\n"),
    ],
)
def test_a_frozen_file_that_was_tampered_with_is_found_and_restored(
    workspace: Workspace, base: str, tamper: Callable[[Path], object]
) -> None:
    assert workspace.frozen_changed(base) == ()
    tamper(workspace.path / "prepare.py")
    assert workspace.frozen_changed(base) == ("prepare.py",)
    workspace.restore_frozen(base)
    assert workspace.frozen_changed(base) == ()
    assert git(workspace.path, "status", "--porcelain", "--untracked-files=no") == ""


def test_a_folder_turned_into_a_link_does_not_lead_out_of_the_worktree(
    open_workspace: Open, repository: Path
) -> None:
    commit = commit_files(repository, {"lib/prepare.py": "x = 1\n", "lib/train.py": "y = 1\n"}, "lib")
    before = snapshot(repository)
    workspace = open_workspace(editable="lib/train.py", frozen=("prepare.py", "lib/prepare.py"))
    workspace.create(commit)
    (workspace.path / "lib").rename(workspace.path / "away")
    (workspace.path / "lib").symlink_to(repository / "lib")
    assert workspace.frozen_changed(commit) == ("lib/prepare.py",)
    workspace.launch(workspace.commit(commit, "y = 2\n", "x").sha)
    workspace.restore_frozen(commit)
    assert snapshot(repository) == before
    assert not (workspace.path / "lib").is_symlink()
    assert (workspace.path / "lib" / "train.py").read_text() == "y = 2\n"
