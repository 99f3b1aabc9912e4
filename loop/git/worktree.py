"""A linked worktree: its folder, its index, its registration (gitrepository-layout(5)), and their repair.

`git worktree repair` and `git worktree prune` look after every worktree of a repository, the user's too. This
module touches one.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from loop.errors import UserError
from loop.files import make_folders
from loop.git.checkout import SUBMODULE, File, write_files
from loop.git.commands import Git, readable

LOCK_AGE = 2.0  # seconds before a git lock counts as left behind; git holds it for milliseconds
POLL = 0.05  # seconds between two looks at a lock that is still young


class Worktree:
    """The worktree at `path` of the repository that `git` runs on. It may be missing or damaged."""

    def __init__(self, git: Git, path: Path) -> None:
        self.path = path
        self._git = git

    def check_free(self) -> None:
        if os.path.lexists(self.path):
            raise UserError(f"{self.path} exists already: move it away, or choose another tag.")

    def add(self, *arguments: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Without a checkout, as that starts a second git, which an index of the caller's could mislead.
        self._git("worktree", "add", "--no-checkout", *arguments)
        self.fill()

    def forget(self) -> None:
        registration = self.find_registration()
        if registration:
            shutil.rmtree(registration)
        shutil.rmtree(self.path, ignore_errors=True)

    def repair(self, branch: str) -> str:
        """Make a missing worktree again, on `branch`, or repair its link to git; say what was done."""
        registration = self.find_registration()
        if self.path.is_dir() and any(entry.name != ".git" for entry in self.path.iterdir()):
            if registration is None or not _is_whole(registration):
                raise UserError(
                    f"{self.path} is not a git worktree any more: move the folder away, and it is made again."
                )
            return f"{self.path} and its repository found each other again." if self.connect() else ""
        self.forget()
        self.add("--", str(self.path), branch)
        return f"The worktree {self.path} was missing and has been made again."

    def fill(self) -> list[str]:
        """Bring the index in line with HEAD and write the files that are missing, as git stores them.

        Return the missing ones. A file of Git LFS is its pointer here: nothing trains in a worktree.
        """
        self._reset()
        missing = []
        for line in filter(None, self._run("ls-files", "-z", "--stage").split("\0")):
            facts, _, path = line.partition("\t")
            if not os.path.lexists(self.path / path):
                mode, name, _ = facts.split()
                missing.append(File(path, mode, name, 0))
                if mode == SUBMODULE:
                    make_folders(self.path, f"{path}/file")
        write_files(self._git, self.path, [file for file in missing if file.mode != SUBMODULE])
        self._refresh()
        return sorted(readable(file.path) for file in missing)

    def tidy(self) -> None:
        """Bring the index in line with HEAD; no file is touched."""
        self._reset()
        self._refresh()

    def _reset(self) -> None:
        # Entries that did not change keep their times, so that only changed files are read.
        self._run("read-tree", "--reset", "HEAD")

    def head(self) -> str:
        return self._run("symbolic-ref", "--quiet", "HEAD", accept=(0, 1))

    def set_head(self, ref: str) -> None:
        self._run("symbolic-ref", "HEAD", ref)

    def detach(self, commit: str) -> None:
        self._run("update-ref", "--no-deref", "HEAD", commit)

    def is_detached_at(self, commit: str) -> bool:
        return not self.head() and self._run("rev-parse", "--verify", "HEAD") == commit

    def locks(self) -> list[Path]:
        registration = self.find_registration()
        return [registration / name for name in ("index.lock", "HEAD.lock")] if registration else []

    def move(self, new: Path) -> None:
        """Rename the folder; goes on where an earlier call was cut off."""
        registration = self.find_registration()
        if self.path.is_dir() and not self.path.is_symlink():
            self.path.rename(new)
        self.path = new
        if new.is_dir() and (registration := registration or self.find_registration()):
            self._connect(registration)

    def drop_links(self) -> None:
        """Remove the links to this folder that renames by an earlier release left for their trainings."""
        links = [path for path in self.path.parent.glob("*") if path.is_symlink()]
        # All are looked at before the first goes, as one may lead over another.
        for link in [link for link in links if link.resolve() == self.path.resolve()]:
            link.unlink()

    def connect(self) -> bool:
        """Let the folder and its registration point at each other; False if they did."""
        return self._connect(self._registration())

    def _connect(self, registration: Path) -> bool:
        path = self.path.resolve()
        # git writes whole paths, and newer ones on request relative paths.
        changed = _point(registration / "gitdir", "", path / ".git")
        return _point(path / ".git", "gitdir: ", registration) or changed

    def find_registration(self) -> Path | None:
        for registration in sorted((self._git.directory / "worktrees").glob("*")):
            path = _registered_path(registration)
            if path and path.resolve() == self.path.resolve():
                return registration
        return None

    def _registration(self) -> Path:
        found = self.find_registration()
        if found is None:
            raise UserError(f"{self.path} is not a git worktree any more.")
        return found

    def _refresh(self) -> None:
        # Status 1 says that a file differs, as one does that a person edits.
        self._run("update-index", "-q", "--refresh", accept=(0, 1))

    def _run(self, *arguments: str, stdin: bytes = b"", accept: tuple[int, ...] = (0,)) -> str:
        # Not by the folder's `.git` file, which may have been turned to another repository.
        registration = self._registration()
        return self._git(*arguments, directory=registration, work_tree=self.path, stdin=stdin, accept=accept)


def remove_stale_locks(locks: Iterable[Path]) -> Iterator[Path]:
    """Remove the lock files that a killed git left behind, and yield each; a young one may go by itself."""
    for lock in locks:
        deadline = time.monotonic() + LOCK_AGE
        while (changed := _changed(lock)) is not None:
            if time.time() - changed > LOCK_AGE or time.monotonic() > deadline:
                lock.unlink(missing_ok=True)
                yield lock
                break
            time.sleep(POLL)


def _changed(lock: Path) -> float | None:
    try:
        return lock.lstat().st_mtime
    except OSError:
        return None


def _registered_path(registration: Path) -> Path | None:
    try:
        return (registration / os.fsdecode((registration / "gitdir").read_bytes()).strip()).parent
    except OSError:
        return None


def _is_whole(registration: Path) -> bool:
    try:
        return all((registration / name).read_bytes().strip() for name in ("HEAD", "commondir"))
    except OSError:
        return False


def _point(pointer: Path, prefix: str, target: Path) -> bool:
    """Let the file `pointer` name `target`, absolutely or relative to its folder; False if it did."""
    try:
        found = os.fsdecode(pointer.read_bytes()).strip()
    except OSError:
        found = ""
    named = os.path.normpath(pointer.parent / found.removeprefix(prefix))
    if found.removeprefix(prefix) and found.startswith(prefix) and named == os.path.normpath(target):
        return False
    made = pointer.with_name(f"{pointer.name}.new")
    made.write_bytes(os.fsencode(f"{prefix}{target}\n"))
    made.replace(pointer)
    return True
