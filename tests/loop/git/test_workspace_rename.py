from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loop.errors import UserError
from loop.git.workspace import Workspace
from tests.loop.conftest import Open
from tests.loop.real_git import TRAIN, git, kept, refs, status


def check_renamed(workspace: Workspace, repository: Path, commits: list[str]) -> None:
    assert workspace.tag == "mar13"
    assert workspace.path.name == "mar13"
    ours = {name: sha for name, sha in refs(repository).items() if "autoresearch" in name}
    assert ours == {
        "refs/heads/autoresearch/mar13": commits[-1],
        **{f"refs/autoresearch/mar13/{number}": sha for number, sha in enumerate(commits)},
    }
    assert git(workspace.path, "symbolic-ref", "HEAD") == "refs/heads/autoresearch/mar13"
    assert str(workspace.path) in git(repository, "worktree", "list", "--porcelain").splitlines()[4]
    git(repository, "worktree", "prune")
    assert status(workspace) == ""
    workspace.launch(commits[-1])  # the next training: no alias is needed
    assert [entry.name for entry in workspace.path.parent.iterdir()] == ["mar13"]
    assert workspace.repair(commits[-1]) == []
    assert kept(workspace, len(commits), f"LR = {len(commits)}\n").sha == workspace.head()


@contextmanager
def training_in(workspace: Workspace) -> Iterator[None]:
    """Have a process at work in the worktree, as a training is."""
    training = subprocess.Popen(["cat"], cwd=workspace.path, stdin=-1)
    try:
        yield
    finally:
        training.communicate(timeout=30)


def test_a_rename_moves_branch_refs_and_folder(workspace: Workspace, repository: Path, base: str) -> None:
    first, second = kept(workspace, 1, "LR = 1\n"), kept(workspace, 2, "LR = 2\n")
    git(repository, "pack-refs", "--all")
    workspace.check_rename("mar13")
    workspace.rename("mar13")
    check_renamed(workspace, repository, [base, first.sha, second.sha])


def test_a_training_finds_its_paths_through_a_rename(workspace: Workspace, base: str) -> None:
    path = workspace.path
    program = f"read _; cat train.py > by_folder; cat '{path}/train.py' > '{path}/by_path'"
    training = subprocess.Popen(["sh", "-c", program], cwd=path, stdin=-1)
    workspace.rename("mar13")
    training.communicate(b"\n", timeout=30)
    assert (workspace.path / "by_folder").read_text() == TRAIN
    assert (workspace.path / "by_path").read_text() == TRAIN
    assert path.is_symlink()
    workspace.launch(base)
    assert not os.path.lexists(path)


def test_names_may_change_twice_and_back_during_one_training(workspace: Workspace, base: str) -> None:
    first = workspace.path
    workspace.rename("mar13")
    workspace.rename("mar14")
    assert (first / "train.py").read_text() == TRAIN
    workspace.rename("mar13")
    workspace.rename("mar12")
    assert workspace.path == first
    assert not first.is_symlink()
    workspace.launch(workspace.commit(base, "LR = 1\n", "x").sha)
    assert [entry.name for entry in first.parent.iterdir()] == ["mar12"]


def test_the_old_name_is_free_again_for_a_new_run(
    workspace: Workspace, open_workspace: Open, base: str
) -> None:
    workspace.rename("mar13")
    workspace.launch(base)
    again = open_workspace("mar12")
    again.create(base)
    again.rename("mar14")
    assert status(again) == status(workspace) == ""


def test_the_old_name_is_free_though_the_renamed_run_never_trains_again(
    workspace: Workspace, open_workspace: Open, base: str
) -> None:
    workspace.rename("mar13")
    again = open_workspace("mar12")
    again.create(base)
    assert not again.path.is_symlink()
    assert status(again) == status(workspace) == ""
    assert again.repair(base) == workspace.repair(base) == []


def test_the_old_name_can_be_adopted(
    workspace: Workspace, open_workspace: Open, repository: Path, base: str
) -> None:
    workspace.rename("mar13")
    git(repository, "branch", "autoresearch/mar12", base)
    again = open_workspace("mar12")
    again.adopt()
    assert status(again) == status(workspace) == ""


def test_a_new_run_that_git_refuses_leaves_the_renamed_one_as_it_is(
    workspace: Workspace, open_workspace: Open, base: str
) -> None:
    workspace.rename("mar13")
    with pytest.raises(UserError, match="git worktree failed"):
        open_workspace("mar12").create("0" * 40)
    assert status(workspace) == ""


@pytest.mark.parametrize("names", [("mar13", "mar14", "mar12"), ("mar13", "mar14", "mar15", "mar13")])
def test_any_earlier_name_can_be_taken_again_during_one_training(
    workspace: Workspace, base: str, names: tuple[str, ...]
) -> None:
    paths = [workspace.path.with_name(name) for name in ("mar12", *names)]
    with training_in(workspace):
        for name in names:
            workspace.check_rename(name)
            workspace.rename(name)
        assert all((path / "train.py").read_text() == TRAIN for path in paths)
    assert not workspace.path.is_symlink()
    assert workspace.repair(base) == []
    assert [entry.name for entry in workspace.path.parent.iterdir()] == [names[-1]]


def test_another_run_can_have_the_old_name(workspace: Workspace, open_workspace: Open, base: str) -> None:
    other = open_workspace("mar14")
    other.create(base)
    workspace.rename("mar13")
    other.check_rename("mar12")
    other.rename("mar12")
    assert not other.path.is_symlink()
    assert status(other) == status(workspace) == ""
    assert other.repair(base) == workspace.repair(base) == []


def test_another_run_cannot_have_the_old_name_while_a_training_may_need_it(
    workspace: Workspace, open_workspace: Open, base: str
) -> None:
    other = open_workspace("mar14")
    other.create(base)
    path = workspace.path
    with training_in(workspace):
        workspace.rename("mar13")
        for refuse in (other.check_rename, other.rename):
            with pytest.raises(UserError, match="mar13, which was mar12: choose another tag, or wait"):
                refuse("mar12")
        assert path.resolve() == workspace.path
    other.rename("mar12")


def test_a_run_without_a_worktree_leaves_the_one_behind_a_link_alone(
    workspace: Workspace, open_workspace: Open, repository: Path, base: str
) -> None:
    other = open_workspace("mar14")
    other.create(base)
    subprocess.run(["rm", "-r", str(other.path)], check=True)
    git(repository, "worktree", "prune")
    workspace.rename("mar13")
    other.rename("mar12")
    assert git(workspace.path, "symbolic-ref", "HEAD") == "refs/heads/autoresearch/mar13"
    assert workspace.repair(base) == []
    assert other.repair(base) == [f"The worktree {other.path} was missing and has been made again."]
    assert status(other) == status(workspace) == ""


def take_branch(workspace: Workspace, repository: Path) -> None:
    git(repository, "branch", "autoresearch/mar13")


def take_refs(workspace: Workspace, repository: Path) -> None:
    git(repository, "update-ref", "refs/autoresearch/mar13/0", "main")


def take_folder(workspace: Workspace, repository: Path) -> None:
    workspace.path.with_name("mar13").mkdir()


def take_link(workspace: Workspace, repository: Path) -> None:
    workspace.path.with_name("mar13").symlink_to(repository)


@pytest.mark.parametrize("take", [take_branch, take_refs, take_folder, take_link])
def test_a_name_that_is_taken_is_refused_and_nothing_changes(
    workspace: Workspace, repository: Path, take: Callable[[Workspace, Path], None], base: str
) -> None:
    take(workspace, repository)
    before = refs(repository)
    for refuse in (workspace.check_rename, workspace.rename):
        with pytest.raises(UserError, match="choose another tag"):
            refuse("mar13")
    assert refs(repository) == before
    assert (workspace.tag, workspace.path.name) == ("mar12", "mar12")
    assert workspace.repair(base) == []


def test_a_name_that_cannot_be_is_refused(workspace: Workspace) -> None:
    with pytest.raises(UserError, match="cannot name a branch"):
        workspace.rename("../x")


def test_what_git_refuses_is_taken_back(workspace: Workspace, repository: Path, base: str) -> None:
    blocked = repository / ".git" / "refs" / "autoresearch" / "mar13"
    blocked.write_text("in the way")  # of refs/autoresearch/mar13/0
    before = refs(repository)
    with pytest.raises(UserError, match="git update-ref failed"):
        workspace.rename("mar13")
    blocked.unlink()
    assert refs(repository) == before
    assert workspace.repair(base) == []


def move_head(repository: Path, old: Path, new: Path) -> None:
    git(old, "symbolic-ref", "HEAD", "refs/heads/autoresearch/mar13")


def make_a_ref(repository: Path, old: Path, new: Path) -> None:
    git(repository, "update-ref", "refs/autoresearch/mar13/0", "refs/autoresearch/mar12/0")


def make_all_refs(repository: Path, old: Path, new: Path) -> None:
    for name, sha in refs(repository).items():
        git(repository, "update-ref", name.replace("mar12", "mar13"), sha)


def delete_a_ref(repository: Path, old: Path, new: Path) -> None:
    git(repository, "update-ref", "-d", "refs/heads/autoresearch/mar12")


def delete_old_refs(repository: Path, old: Path, new: Path) -> None:
    for name in refs(repository):
        if "mar12" in name:
            git(repository, "update-ref", "-d", name)


def move_folder(repository: Path, old: Path, new: Path) -> None:
    old.rename(new)


def leave_link(repository: Path, old: Path, new: Path) -> None:
    old.symlink_to("mar13")


def move_registration(repository: Path, old: Path, new: Path) -> None:
    git(repository, "worktree", "repair", str(new))


STEPS = (
    move_head,
    make_a_ref,
    make_all_refs,
    delete_a_ref,
    delete_old_refs,
    move_folder,
    leave_link,
    move_registration,
)


@pytest.mark.parametrize("steps", [STEPS[:done] for done in range(1, len(STEPS) + 1)])
def test_an_interrupted_rename_is_completed_by_calling_it_again(
    workspace: Workspace,
    open_workspace: Open,
    repository: Path,
    base: str,
    steps: tuple[Callable[[Path, Path, Path], None], ...],
) -> None:
    commits = [base, kept(workspace, 1, "LR = 1\n").sha]
    for step in steps:
        step(repository, workspace.path, workspace.path.with_name("mar13"))
    after = open_workspace("mar12")  # a new process
    after.rename("mar13")
    check_renamed(after, repository, commits)


def test_a_rename_whose_alias_is_gone_is_still_complete(
    workspace: Workspace, open_workspace: Open, repository: Path, base: str
) -> None:
    workspace.rename("mar13")
    workspace.launch(base)
    again = open_workspace("mar12")  # the process died before it could note the end of the rename
    again.rename("mar13")
    check_renamed(again, repository, [base])


def test_a_rename_goes_on_where_the_worktree_was_deleted(
    workspace: Workspace, open_workspace: Open, repository: Path, base: str
) -> None:
    subprocess.run(["rm", "-r", str(workspace.path)], check=True)
    git(repository, "worktree", "prune")
    workspace.rename("mar13")
    workspace.repair(base)
    check_renamed(workspace, repository, [base])
