from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loop.git import commands
from loop.git.commands import Git
from loop.git.commits import MOST_CONTENTS, MOST_FOLDERS, Commits
from tests.loop.real_git import PREPARE, TRAIN, commit_files, git


@pytest.fixture
def commits(repository: Path) -> Commits:
    return Commits(Git(repository / ".git"))


@pytest.fixture
def started(commits: Commits, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The git commands that were started."""
    names: list[str] = []
    start = commands._started

    def count(git: Any, arguments: tuple[str, ...], **options: Any) -> Any:
        names.append(commands._name(arguments))
        return start(git, arguments, **options)

    monkeypatch.setattr(commands, "_started", count)
    return names


def test_a_tree_is_made_with_one_file_changed(repository: Path) -> None:
    path = "a b/ü/train.py"
    commit = commit_files(repository, {path: "x = 1\n", "a b/ü/other.py": "y\n", "a b/t": "z\n"}, "x")
    (repository / path).write_text("x = 2\n")
    made = Commits(Git(repository / ".git")).with_blob(
        commit, path, git(repository, "hash-object", "-w", "--no-filters", "--", path)
    )
    git(repository, "add", "--", path)
    assert made == git(repository, "write-tree")


def test_what_a_commit_holds_is_asked_for_once(commits: Commits, base: str, started: list[str]) -> None:
    files = {"train.py": TRAIN.encode(), "prepare.py": PREPARE.encode()}
    for _ in range(2):
        assert commits.read_all(base, files) == files
        assert commits.read(base, "train.py") == TRAIN.encode()
    assert started == ["cat-file"]
    for _ in range(2):
        assert commits.entries(base).keys() == {"prepare.py", "program.md", "train.py"}
        assert commits.mode(base, "train.py") == "100644"
        assert commits.mode(base, "absent.py") is None
        assert commits.mode(base, "train.py/below.py") is None
        assert commits.mode(base, "absent/below.py") is None
    assert started == ["cat-file", "ls-tree"]


def test_a_commit_that_is_not_there_may_come(commits: Commits, base: str, started: list[str]) -> None:
    for _ in range(2):
        assert commits.read("1" * 40, "train.py") is None
    assert started == ["cat-file"] * 2
    for _ in range(2):
        assert commits.read_all(base, ("train.py", "absent.py"))["absent.py"] is None
    assert started == ["cat-file"] * 4


def test_what_is_given_need_not_be_asked_for(commits: Commits, base: str, started: list[str]) -> None:
    commits.keep(base, "train.py", b"given")
    assert commits.read(base, "train.py") == b"given"
    assert started == []


def test_only_the_last_ones_are_kept(commits: Commits, base: str, started: list[str]) -> None:
    for number in range(MOST_CONTENTS):
        commits.keep(base, f"{number}", b"")
    commits.read(base, "0")
    commits.keep(base, "new", b"")
    assert (commits.read(base, "0"), commits.read(base, "1")) == (b"", None)
    for number in range(2 * MOST_FOLDERS):
        commits.entries(base, f"folder{number}")
    assert started == ["cat-file", "ls-tree"]


def test_folders_below_have_their_own_entries(commits: Commits, repository: Path) -> None:
    commit = commit_files(repository, {"a/ü b/train.py": "x = 1\n", "a/c.py": "x\n"}, "x")
    assert commits.entries(commit, "a").keys() == {"ü b", "c.py"}
    assert commits.mode(commit, "a") == "040000"
    assert commits.mode(commit, "a/ü b/train.py") == "100644"
    assert commits.mode(commit, "a/train.py") is None
