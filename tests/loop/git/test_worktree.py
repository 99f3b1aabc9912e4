from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from loop.errors import UserError
from loop.git.commands import Git
from loop.git.worktree import Worktree, remove_stale_locks
from tests.loop.real_git import commit_files, git


@pytest.fixture
def worktree(repository: Path, tmp_path: Path) -> Worktree:
    runner = Git(repository / ".git")
    made = Worktree(runner, tmp_path / "trees" / "one")
    made.add("-b", "one", "--", str(made.path), "main")
    return made


def registration(worktree: Worktree) -> Path:
    found = worktree.find_registration()
    assert found is not None
    return found


def test_it_is_found_among_the_worktrees_of_others(
    worktree: Worktree, repository: Path, tmp_path: Path
) -> None:
    git(repository, "worktree", "add", "--quiet", "-b", "other", str(tmp_path / "elsewhere" / "one"))
    (repository / ".git" / "worktrees" / "broken").mkdir()
    assert registration(worktree) == repository / ".git" / "worktrees" / "one"


def test_relative_pointers_as_newer_gits_write_them_are_sound(worktree: Worktree, repository: Path) -> None:
    found = registration(worktree)
    (found / "gitdir").write_text(f"{os.path.relpath(worktree.path / '.git', found)}\n")
    (worktree.path / ".git").write_text(f"gitdir: {os.path.relpath(found, worktree.path)}\n")
    assert registration(worktree) == found
    assert not worktree.connect()
    assert git(worktree.path, "status", "--porcelain") == ""


def test_a_worktree_reached_by_a_link_is_the_same(worktree: Worktree, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "trees")
    seen = Worktree(worktree._git, tmp_path / "link" / "one")
    assert seen.head() == "refs/heads/one"
    assert not seen.connect()
    assert seen.repair("one") == ""


def test_a_forgotten_worktree_leaves_nothing(worktree: Worktree, repository: Path) -> None:
    worktree.forget()
    assert not worktree.path.exists()
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    with pytest.raises(UserError, match="is not a git worktree any more"):
        worktree.tidy()
    worktree.forget()


def test_the_index_follows_head_without_touching_files(worktree: Worktree, repository: Path) -> None:
    (worktree.path / "train.py").write_text("changed\n")
    git(worktree.path, "add", "train.py")
    assert git(worktree.path, "status", "--porcelain") == "M  train.py"
    worktree.tidy()
    assert git(worktree.path, "status", "--porcelain") == " M train.py"
    assert (worktree.path / "train.py").read_text() == "changed\n"
    (worktree.path / "new").touch()
    git(worktree.path, "add", "new")
    commit_files(repository, {"more.py": "x\n"}, "more")
    git(worktree.path, "symbolic-ref", "HEAD", "refs/heads/main")
    worktree.tidy()
    assert git(worktree.path, "status", "--porcelain") == " D more.py\n M train.py\n?? new"


def test_files_in_folders_with_odd_names_are_filled_in(worktree: Worktree, repository: Path) -> None:
    name = "ordner ü\n/\tx.py"
    (repository / name).parent.mkdir()
    (repository / name).write_text("x")
    git(repository, "add", "-A")
    git(repository, "commit", "--quiet", "-m", "x")
    git(repository, "update-ref", "refs/heads/one", "main")
    assert worktree.fill() == [name]
    assert (worktree.path / name).read_text() == "x"
    assert worktree.fill() == []


def test_missing_files_are_written_as_they_are_stored(worktree: Worktree, repository: Path) -> None:
    commit_files(repository, {"a.bin": "stored", "lib/b.bin": "stored too"}, "x")
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module")
    git(repository, "commit", "--quiet", "-m", "module")
    git(repository, "update-ref", "refs/heads/one", "main")
    git(repository, "config", "filter.x.smudge", "false")
    git(repository, "config", "filter.x.required", "true")
    (repository / ".git" / "info" / "attributes").write_text("*.bin filter=x\n")
    assert worktree.fill() == ["a.bin", "lib/b.bin", "module"]
    assert (worktree.path / "a.bin").read_text() == "stored"
    assert (worktree.path / "module").is_dir()
    assert worktree.fill() == []


def test_a_folder_turned_into_a_link_leads_no_missing_file_out(
    worktree: Worktree, repository: Path, tmp_path: Path
) -> None:
    commit_files(repository, {"lib/a.py": "x"}, "x")
    git(repository, "update-ref", "refs/heads/one", "main")
    (tmp_path / "outside").mkdir()
    (worktree.path / "lib").symlink_to(tmp_path / "outside")
    assert worktree.fill() == ["lib/a.py"]
    assert list((tmp_path / "outside").iterdir()) == []
    assert not (worktree.path / "lib").is_symlink()


def test_only_old_locks_are_removed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loop.git.worktree.LOCK_AGE", 0.2)
    old, absent, ahead = (tmp_path / name for name in ("old.lock", "absent.lock", "ahead.lock"))
    old.touch()
    os.utime(old, (1, 1))
    ahead.touch()
    os.utime(ahead, (time.time() + 9999,) * 2)  # the clock was set back
    started = time.monotonic()
    assert list(remove_stale_locks([old, absent])) == [old]
    assert list(remove_stale_locks([ahead])) == [ahead]
    assert time.monotonic() - started >= 0.2
