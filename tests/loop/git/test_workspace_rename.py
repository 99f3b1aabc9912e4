from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from loop.errors import UserError
from loop.git.workspace import Workspace
from tests.loop.conftest import Open
from tests.loop.real_git import git, kept, refs, status


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
    assert workspace.repair(commits[-1]) == []
    assert [entry.name for entry in workspace.path.parent.iterdir()] == ["mar13"]
    assert kept(workspace, len(commits), f"LR = {len(commits)}\n").sha == workspace.head()


def test_a_rename_moves_branch_refs_and_folder(workspace: Workspace, repository: Path, base: str) -> None:
    first, second = kept(workspace, 1, "LR = 1\n"), kept(workspace, 2, "LR = 2\n")
    git(repository, "pack-refs", "--all")
    workspace.check_rename("mar13")
    workspace.rename("mar13")
    check_renamed(workspace, repository, [base, first.sha, second.sha])


def test_names_may_change_twice_and_back(workspace: Workspace, base: str) -> None:
    first = workspace.path
    for tag in ("mar13", "mar14", "mar13", "mar12"):
        workspace.rename(tag)
    assert workspace.path == first
    assert [entry.name for entry in first.parent.iterdir()] == ["mar12"]
    assert workspace.repair(base) == []


def test_the_old_name_is_free_for_another_run(
    workspace: Workspace, open_workspace: Open, repository: Path, base: str
) -> None:
    workspace.rename("mar13")
    again = open_workspace("mar12")
    again.create(base)
    again.rename("mar14")
    git(repository, "branch", "autoresearch/mar12", base)
    adopted = open_workspace("mar12")
    adopted.adopt()
    assert status(again) == status(workspace) == status(adopted) == ""
    assert again.repair(base) == workspace.repair(base) == adopted.repair(base) == []


def test_a_new_run_that_git_refuses_leaves_the_renamed_one_as_it_is(
    workspace: Workspace, open_workspace: Open, base: str
) -> None:
    workspace.rename("mar13")
    with pytest.raises(UserError, match=r"There is no train\.py in commit 0000000"):
        open_workspace("mar12").create("0" * 40)
    assert status(workspace) == ""


def test_a_run_without_a_worktree_is_renamed_and_gets_one(
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


def leave_link_as_an_earlier_release(repository: Path, old: Path, new: Path) -> None:
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
    leave_link_as_an_earlier_release,
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


def test_a_rename_that_is_done_may_be_asked_for_again(
    workspace: Workspace, open_workspace: Open, repository: Path, base: str
) -> None:
    workspace.rename("mar13")
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
