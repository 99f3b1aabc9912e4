from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from loop.git.workspace import Workspace
from tests.loop.conftest import Open
from tests.loop.real_git import PREPARE, commit_files, git, kept, make_repository, refs, snapshot


def everything(workspace: Workspace, base: str) -> None:
    """Do all that a workspace can do."""
    workspace.create(base)
    workspace.remember(0, base)
    workspace.move_head(base, base)
    first = kept(workspace, 1, "LR = 1\n")
    second = workspace.commit(first.sha, "LR = 2\n", "zweite → x")
    workspace.remember(2, second.sha)
    workspace.restore()
    (workspace.path / "prepare.py").unlink()
    workspace.repair(first.sha)
    workspace.diff(second.sha)
    workspace.carry_over("LR = 2\n", base, first.sha)
    workspace.release()
    workspace.rename("mar13")
    subprocess.run(["rm", "-r", str(workspace.path)], check=True)
    workspace.repair(first.sha)
    kept(workspace, 3, "LR = 3\n")


@pytest.fixture
def dirty(repository: Path) -> Path:
    """A checkout in the middle of somebody's work."""
    commit_files(repository, {"tracked.txt": "one\n", "gone.txt": "x\n"}, "second")
    git(repository, "switch", "--quiet", "-c", "feature")
    (repository / "train.py").write_text("half = 'done'\n")
    (repository / "tracked.txt").write_text("two\n")
    git(repository, "add", "tracked.txt")
    (repository / "tracked.txt").write_text("three\n")
    (repository / "gone.txt").unlink()
    (repository / "untracked").mkdir()
    (repository / "untracked" / "results.tsv").write_text("mine\n")
    (repository / "results.tsv").write_text("mine too\n")
    (repository / "link").symlink_to("tracked.txt")
    git(repository, "tag", "v1")
    os.utime(repository / "prepare.py", (1, 1))  # git would like to refresh its index
    return repository


def test_a_checkout_in_the_middle_of_work_stays_as_it_is(
    dirty: Path, open_workspace: Open, base: str
) -> None:
    before, other = snapshot(dirty), refs(dirty)
    everything(open_workspace(), base)
    assert snapshot(dirty) == before
    assert {name: sha for name, sha in refs(dirty).items() if "autoresearch" not in name} == other


def test_the_user_may_commit_meanwhile(workspace: Workspace, repository: Path, base: str) -> None:
    commit = workspace.commit(base, "LR = 1\n", "x")
    workspace.remember(1, commit.sha)
    theirs = commit_files(repository, {"train.py": "theirs = 1\n", "prepare.py": "theirs = 2\n"}, "theirs")
    workspace.move_head(commit.sha, base)
    workspace.restore()
    assert (workspace.path / "prepare.py").read_text() == PREPARE
    assert git(repository, "rev-parse", "main") == theirs
    assert git(repository, "status", "--porcelain") == ""
    assert git(repository, "show", "--format=", "--name-only", commit.sha) == "train.py"
    assert workspace.head() == commit.sha


HOOKS = (
    "applypatch-msg",
    "commit-msg",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-rewrite",
    "pre-auto-gc",
    "pre-commit",
    "prepare-commit-msg",
    "reference-transaction",
    "update",
)


def test_no_program_of_the_users_ever_runs(
    open_workspace: Open, repository: Path, tmp_path: Path, base: str
) -> None:
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $0 >> '{ran}'\nexit 1\n")
    program.chmod(0o755)
    for hook in HOOKS:
        (repository / ".git" / "hooks" / hook).symlink_to(program)
    for name in ("core.fsmonitor", "core.editor", "gpg.program", "diff.external", "core.pager"):
        git(repository, "config", name, str(program))
    git(repository, "config", "commit.gpgSign", "true")
    git(repository, "config", "log.showSignature", "true")
    everything(open_workspace(), base)
    assert not ran.exists()


def test_variables_of_a_hook_do_not_lead_to_another_repository(
    open_workspace: Open, repository: Path, tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = make_repository(tmp_path / "theirs")
    before, own = snapshot(theirs), snapshot(repository)
    with monkeypatch.context() as patch:
        patch.setenv("GIT_DIR", str(theirs / ".git"))
        patch.setenv("GIT_INDEX_FILE", str(theirs / ".git" / "index"))
        patch.setenv("GIT_WORK_TREE", str(theirs))
        patch.setenv("GIT_COMMON_DIR", str(theirs / ".git"))
        patch.setenv("GIT_OBJECT_DIRECTORY", str(theirs / ".git" / "objects"))
        patch.setenv("GIT_NAMESPACE", "theirs")
        patch.setenv("GIT_PREFIX", "sub/")
        everything(open_workspace(), base)
    assert snapshot(theirs) == before
    assert refs(theirs).keys() == {"refs/heads/main"}
    assert snapshot(repository) == own
    assert "refs/heads/autoresearch/mar13" in refs(repository)
