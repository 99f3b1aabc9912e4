from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loop.errors import DiskError, UserError
from loop.git import commands
from loop.git.commands import Git, GitError, locate
from tests.loop.real_git import TRAIN, git, make_repository


def test_a_failure_is_one_sentence_of_git_itself(repository: Path) -> None:
    with pytest.raises(GitError) as told:
        Git(repository / ".git")("rev-parse", "--verify", "absent")
    assert str(told.value) == "git rev-parse failed: Needed a single revision."


@pytest.mark.parametrize(
    ("reason", "passes"), [("No space left on device", True), ("Permission denied", False)]
)
def test_a_full_disk_is_told_from_what_stays_wrong(repository: Path, reason: str, passes: bool) -> None:
    git_ = Git(repository / ".git")
    with pytest.raises(GitError, match=reason) as told:
        git_("-c", f"alias.fill=!echo fatal: unable to write: {reason} >&2; false", "fill")
    assert isinstance(told.value, DiskError) is passes


def test_reading_follows_what_was_committed_meanwhile(repository: Path) -> None:
    git_ = Git(repository / ".git")
    assert git_.read("main:train.py") == TRAIN.encode()
    assert git_.read("main:absent.py") is None
    assert git_.read("main") is None  # not a file
    (repository / "train.py").write_text("x = 1\n")
    git(repository, "commit", "--quiet", "-am", "x")
    git(repository, "gc", "--quiet", "--prune=now")
    assert git_.read("main:train.py") == b"x = 1\n"


def test_an_operation_lists_once_what_its_commands_switch_off(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[str] = []
    run = commands._run

    def count(*args: Any, **kwargs: Any) -> tuple[int, bytes]:
        listed.extend(word for word in args[1] if word == "--get-regexp")
        return run(*args, **kwargs)

    monkeypatch.setattr(commands, "_run", count)
    git_ = Git(repository / ".git")
    for _ in range(2):
        with git_.operation():
            git_("update-ref", "refs/x/1", "main")
            with git_.operation():
                git_("update-ref", "refs/x/2", "main")
            git_("update-ref", "refs/x/3", "main")
    assert len(listed) == 2
    git_("update-ref", "refs/x/4", "main")
    git_("update-ref", "refs/x/5", "main")
    assert len(listed) == 4


def test_a_large_file_is_read_whole(repository: Path) -> None:
    text = "0123456789abcdef\n" * 300_000
    (repository / "train.py").write_text(text)
    git(repository, "commit", "--quiet", "-am", "x")
    git_ = Git(repository / ".git")
    assert git_.read("main:train.py") == text.encode()


def test_a_repository_that_vanished_is_told_of(repository: Path, tmp_path: Path) -> None:
    git_ = Git(repository / ".git")
    repository.rename(tmp_path / "moved")
    with pytest.raises(UserError, match="not a git repository"):
        git_.read("main:train.py")
    with pytest.raises(GitError, match="not a git repository"):
        git_("rev-parse", "main")


def test_a_path_with_a_link_is_located_where_it_really_is(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(repository)
    found = locate(tmp_path / "link")
    assert found.top == repository
    assert found.common == found.directory == repository / ".git"


def test_a_repository_is_located_once_while_it_is_the_same(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(path: Path) -> bool:
        runs.clear()
        assert locate(path).common == path / ".git"
        return bool(runs)

    runs: list[None] = []
    run = commands._run

    def count(*args: Any, **kwargs: Any) -> tuple[int, bytes]:
        runs.append(None)
        return run(*args, **kwargs)

    monkeypatch.setattr(commands, "_run", count)
    assert asked(repository)
    assert not asked(repository)
    git(repository, "config", "user.name", "another")
    assert asked(repository)
    repository.rename(tmp_path / "moved")
    with pytest.raises(UserError, match="There is no folder"):
        locate(repository)
    assert asked(tmp_path / "moved")
    repository.symlink_to(tmp_path / "moved")
    assert locate(repository).common == tmp_path / "moved" / ".git"
    repository.unlink()
    make_repository(repository)
    assert asked(repository)
    shutil.rmtree(repository / ".git")
    with pytest.raises(UserError, match="is not a git repository"):
        locate(repository)


def test_a_machine_without_git_is_told_what_to_do(tmp_path: Path) -> None:
    program = (
        f"from pathlib import Path; from loop.git.commands import locate; locate(Path({str(tmp_path)!r}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        env={"PATH": str(tmp_path)},
    )
    last = result.stderr.splitlines()[-1]
    assert last == "loop.errors.UserError: git is not installed or does not run: install git and try again."


def test_a_git_that_went_away_is_told(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = Git(repository / ".git")
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    assert commands.commit_of("main")
    (tmp_path / "programs" / "git").unlink()
    with pytest.raises(UserError, match="git is not installed or does not run"):
        commands.commit_of("main")


@pytest.mark.parametrize("mode", [0o755, 0o775, 0o700])
def test_what_git_writes_is_as_open_as_the_repository(tmp_path: Path, mode: int) -> None:
    """The bot keeps its state from everybody else, but a shared repository stays shared."""
    repository = tmp_path / "repository"
    git(tmp_path, "init", "--quiet", str(repository))  # without a commit, whose id may have a folder already
    objects = repository / ".git" / "objects"
    objects.chmod(mode)
    (tmp_path / "text").write_text(f"{mode}")
    before = os.umask(0o077)
    try:
        name = Git(repository / ".git")("hash-object", "-w", "--no-filters", "--", str(tmp_path / "text"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((objects / name[:2]).stat().st_mode) == mode
