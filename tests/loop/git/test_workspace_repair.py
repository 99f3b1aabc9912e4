from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from loop.errors import UserError
from loop.git.workspace import BranchMoved, Workspace
from tests.loop.conftest import Open
from tests.loop.real_git import TRAIN, commit_files, git, kept, make_repository, snapshot, status


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


def test_a_sound_workspace_needs_no_repair(workspace: Workspace, base: str) -> None:
    assert workspace.repair(base) == []


@pytest.mark.parametrize("pruned", [False, True])
def test_a_worktree_deleted_by_hand_is_made_again(
    workspace: Workspace, repository: Path, pruned: bool
) -> None:
    best = kept(workspace, 1, "LR = 1\n")
    subprocess.run(["rm", "-r", str(workspace.path)], check=True)
    if pruned:
        git(repository, "worktree", "prune")
    (sentence,) = workspace.repair(best.sha)
    assert "was missing and has been made again" in sentence
    assert (workspace.path / "train.py").read_text() == "LR = 1\n"
    assert status(workspace) == ""
    kept(workspace, 2, "LR = 2\n")


def test_repair_leaves_other_missing_worktrees_of_the_user_registered(
    workspace: Workspace, repository: Path, tmp_path: Path, base: str
) -> None:
    drive = tmp_path / "drive"
    git(repository, "worktree", "add", "--quiet", "-b", "side", str(drive))
    drive.rename(tmp_path / "unplugged")
    subprocess.run(["rm", "-r", str(workspace.path)], check=True)
    workspace.repair(base)
    (tmp_path / "unplugged").rename(drive)
    assert git(drive, "status", "--porcelain") == ""


def test_a_creation_cut_off_by_a_power_cut_is_completed(
    open_workspace: Open, repository: Path, base: str
) -> None:
    workspace = open_workspace()
    path = workspace.path
    git(repository, "worktree", "add", "--quiet", "--no-checkout", "-b", "autoresearch/mar12", str(path))
    (registration,) = (repository / ".git" / "worktrees").iterdir()
    (registration / "HEAD").write_bytes(b"")
    (registration / "locked").write_text("initializing")
    workspace.repair(base)
    assert status(workspace) == ""


def test_a_stale_lock_is_removed(workspace: Workspace, repository: Path, base: str) -> None:
    common = repository / ".git"
    locks = [
        common / "worktrees" / "mar12" / "index.lock",
        common / "worktrees" / "mar12" / "HEAD.lock",
        common / "refs" / "heads" / "autoresearch" / "mar12.lock",
        common / "refs" / "autoresearch" / "mar12" / "1.lock",
    ]
    foreign = common / "refs" / "heads" / "main.lock"
    for lock in (*locks, foreign):
        lock.touch()
        os.utime(lock, (1, 1))
    commit = workspace.commit(base, "LR = 1\n", "x")
    for action in (
        workspace.restore,
        lambda: workspace.remember(1, commit.sha),
        lambda: workspace.move_head(commit.sha, base),
    ):
        with pytest.raises(UserError, match=r"git .* failed"):
            action()
    assert len(workspace.repair(base)) == len(locks)
    kept(workspace, 1, "LR = 1\n")
    assert foreign.exists()


def test_a_lock_with_a_living_owner_is_waited_for(
    workspace: Workspace, repository: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loop.git.worktree.LOCK_AGE", 60.0)  # a busy machine takes its time to remove one
    lock = repository / ".git" / "worktrees" / "mar12" / "index.lock"
    owner = subprocess.Popen(["sh", "-c", f": > '{lock}'; echo; sleep 0.3; rm '{lock}'"], stdout=-1)
    assert owner.stdout is not None
    owner.stdout.readline()
    assert workspace.repair(base) == []
    assert owner.wait() == 0
    owner.stdout.close()


def test_a_broken_link_to_git_is_mended(workspace: Workspace, base: str) -> None:
    for damage in (Path.unlink, lambda file: file.write_text("gitdir: /nowhere\n")):
        damage(workspace.path / ".git")
        (sentence,) = workspace.repair(base)
        assert "found each other again" in sentence
        assert status(workspace) == ""


def test_a_git_file_planted_by_a_training_leads_nobody_astray(
    workspace: Workspace, tmp_path: Path, base: str
) -> None:
    planted = make_repository(tmp_path / "planted")
    before = snapshot(planted)
    (workspace.path / ".git").write_text(f"gitdir: {planted}/.git\n")
    commit = kept(workspace, 1, "LR = 1\n")
    workspace.repair(commit.sha)
    assert snapshot(planted) == before
    assert status(workspace) == ""


def test_a_folder_that_git_forgot_is_never_overwritten(
    workspace: Workspace, repository: Path, base: str
) -> None:
    (workspace.path / "results.tsv").write_text("precious")
    subprocess.run(["rm", "-r", str(repository / ".git" / "worktrees")], check=True)
    with pytest.raises(UserError, match="move the folder away, and it is made again"):
        workspace.repair(base)
    assert (workspace.path / "results.tsv").read_text() == "precious"
    workspace.path.rename(workspace.path.with_name("aside"))
    workspace.repair(base)
    assert status(workspace) == ""


def test_a_worktree_switched_to_another_branch_comes_back(
    workspace: Workspace, repository: Path, base: str
) -> None:
    git(workspace.path, "switch", "--quiet", "-c", "elsewhere")
    assert workspace.repair(base) == [f"The worktree {workspace.path} is on branch autoresearch/mar12 again."]
    assert status(workspace) == ""


def test_missing_files_come_back(workspace: Workspace, base: str) -> None:
    (workspace.path / "program.md").unlink()
    assert workspace.repair(base) == ["Missing files were written again: program.md."]
    assert status(workspace) == ""


def test_the_editable_goes_back_to_the_best(workspace: Workspace, base: str) -> None:
    (workspace.path / "train.py").write_text("by hand\n")
    assert workspace.repair(base) == [f"train.py was put back to the best, {base[:7]}."]
    assert (workspace.path / "train.py").read_text() == TRAIN


@pytest.mark.parametrize("replaced", [replaced_by_link, replaced_by_folder, replaced_by_pipe])
def test_what_is_in_the_place_of_the_editable_is_not_followed_or_waited_for(
    workspace: Workspace, base: str, replaced: Callable[[Path], None]
) -> None:
    replaced(workspace.path / "train.py")
    workspace.restore()
    assert not (workspace.path / "train.py").is_symlink()
    assert (workspace.path / "train.py").read_text() == TRAIN
    assert git(workspace.path, "status", "--porcelain", "--untracked-files=no") == ""


@pytest.mark.parametrize("level", [0, 1])
def test_a_link_in_the_place_of_the_worktree_or_its_folder_is_refused(
    workspace: Workspace, tmp_path: Path, base: str, level: int
) -> None:
    folder = (workspace.path, workspace.path.parent)[level]
    outside = tmp_path / "outside"
    folder.rename(outside)
    folder.symlink_to(outside)
    before = snapshot(outside)
    with pytest.raises(UserError, match=r"is a link to .*outside: remove it"):
        workspace.repair(base)
    assert snapshot(outside) == before


def test_no_worktree_is_made_where_a_link_lies(open_workspace: Open, tmp_path: Path, base: str) -> None:
    workspace = open_workspace()
    (tmp_path / "outside").mkdir()
    workspace.path.parent.mkdir(parents=True)
    workspace.path.symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="exists already"):
        workspace.create(base)
    workspace.path.unlink()
    workspace.path.parent.rmdir()
    workspace.path.parent.symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="is a link to"):
        workspace.create(base)
    assert list((tmp_path / "outside").iterdir()) == []


def test_links_that_an_earlier_release_left_go(workspace: Workspace, base: str) -> None:
    for name, target in (("mar10", "mar11"), ("mar11", "mar12"), ("foreign", "/tmp")):
        workspace.path.with_name(name).symlink_to(target)
    assert workspace.repair(base) == []
    assert sorted(path.name for path in workspace.path.parent.iterdir()) == ["foreign", "mar12"]


# A run that ended


def test_a_released_branch_can_be_checked_out_and_is_taken_again(
    workspace: Workspace, repository: Path
) -> None:
    best = kept(workspace, 1, "LR = 1\n")
    workspace.release()
    workspace.release()
    assert status(workspace) == ""
    assert (workspace.path / "train.py").read_text() == "LR = 1\n"
    git(repository, "checkout", "--quiet", "autoresearch/mar12")
    with pytest.raises(UserError, match=r"is checked out in .*: switch to another branch there"):
        workspace.repair(best.sha)
    git(repository, "checkout", "--quiet", "main")
    assert workspace.repair(best.sha) == []
    assert git(workspace.path, "symbolic-ref", "HEAD") == "refs/heads/autoresearch/mar12"
    kept(workspace, 2, "LR = 2\n")


def test_a_released_branch_that_a_person_moved_is_told_when_the_run_goes_on(
    workspace: Workspace, repository: Path, base: str
) -> None:
    workspace.release()
    git(repository, "checkout", "--quiet", "autoresearch/mar12")
    commit_files(repository, {"train.py": "by hand\n"}, "by hand")
    git(repository, "checkout", "--quiet", "main")
    with pytest.raises(BranchMoved):
        workspace.repair(base)


def test_a_released_run_can_be_renamed_and_stays_released(
    workspace: Workspace, repository: Path, base: str
) -> None:
    workspace.release()
    git(repository, "checkout", "--quiet", "autoresearch/mar12")
    with pytest.raises(UserError, match="is checked out in"):
        workspace.rename("mar13")
    git(repository, "checkout", "--quiet", "main")
    workspace.rename("mar13")
    git(repository, "checkout", "--quiet", "autoresearch/mar13")
    git(repository, "checkout", "--quiet", "main")
    assert workspace.repair(base) == []


def test_a_run_without_a_worktree_has_nothing_to_release(workspace: Workspace, repository: Path) -> None:
    subprocess.run(["rm", "-r", str(workspace.path)], check=True)
    git(repository, "worktree", "prune")
    workspace.release()


def test_a_branch_moved_by_hand_is_named_and_left_there(
    workspace: Workspace, repository: Path, base: str
) -> None:
    best = kept(workspace, 1, "LR = 1\n")
    git(repository, "update-ref", "refs/heads/autoresearch/mar12", base)
    with pytest.raises(BranchMoved) as told:
        workspace.repair(best.sha)
    sentence = str(told.value)
    assert f"is at {base[:7]}, not at {best.sha[:7]}" in sentence
    assert workspace.head() == base
    subprocess.run(sentence.split("`")[1], shell=True, check=True, cwd="/")  # the sentence's own command
    workspace.repair(best.sha)


def test_a_branch_checked_out_by_the_user_is_named(workspace: Workspace, repository: Path, base: str) -> None:
    subprocess.run(["rm", "-r", str(workspace.path)], check=True)
    git(repository, "worktree", "prune")
    git(repository, "switch", "--quiet", "autoresearch/mar12")
    with pytest.raises(UserError, match=f"is checked out in {repository}"):
        workspace.repair(base)
    git(repository, "switch", "--quiet", "main")
    workspace.repair(base)
