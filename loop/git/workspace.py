"""A run's place in git: its worktree, its branch, and a ref for every experiment.

The branch `autoresearch/<tag>` moves with a verdict and never else, by compare-and-swap. An experiment is
committed as an object only, ahead of time if need be; `refs/autoresearch/<tag>/<number>` keeps it. Nothing
trains in the worktree: it is for people, at the head of the branch, with `results.tsv` and `run.log`. Nothing
is ever reset or cleaned, and of the user's repository nothing is touched but these refs, a few lines of
`info/exclude` and the registration of the worktree.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from loop.errors import UserError
from loop.files import check_no_link, check_path, place, writing
from loop.git.commands import (
    Git,
    GitError,
    count_lines,
    is_commit_id,
    locate,
    merge_texts,
    read_diff,
    read_diffs,
)
from loop.git.commits import commits_in
from loop.git.repository import check_tag, decode
from loop.git.worktree import Worktree, remove_stale_locks
from loop.text import one_line

EXCLUDED = ("/results.tsv", "/results.tsv.aside", "/run.log")  # what a run writes, kept out of git

AUTHOR = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "autoresearch-bot"), ("EMAIL", "autoresearch-bot@localhost"))
}
"""Who commits where the user's git configuration has no name."""


class BranchMoved(UserError):  # noqa: N818 - it says what happened
    """A run's branch is not where the run left it; it is never moved back by force."""


@dataclass(frozen=True, slots=True)
class Commit:
    """An experiment's commit and the lines that it adds to and removes from the editable file."""

    sha: str
    lines_added: int
    lines_removed: int


class Workspace:
    """The worktree of one run.

    Its methods block for some milliseconds and may be called from any thread. All raise `UserError` where git
    or the disk refuses.
    """

    def __init__(
        self,
        *,
        repository: Path,
        path: Path,
        tag: str,
        editable: str = "train.py",
        frozen: tuple[str, ...] = ("prepare.py",),
    ) -> None:
        check_tag(tag)
        for name in (editable, *frozen):
            check_path(name)
        self.repository = repository
        self.tag = tag
        self.editable = editable
        self.frozen = frozen
        directory = locate(repository).common
        self._git = Git(directory)
        self._commits = commits_in(directory)
        self._diffs = lru_cache(maxsize=256)(self._read_diff)
        self._worktree = Worktree(self._git, path.absolute())
        self._lock = threading.RLock()  # of the worktree and the refs
        self._executable: bool | None = None  # the editable file; no experiment changes it
        self._author: Mapping[str, str] | None = None

    @property
    def path(self) -> Path:
        return self._worktree.path

    # Life of the worktree

    def create(self, base: str) -> None:
        with self._working():
            _check_commit(base)
            self._check_free(self.tag)
            self._check_place()
            try:
                self._add("--no-track", "-b", _branch(self.tag), "--", str(self.path), base, commit=base)
            except BaseException:
                self._git("update-ref", "-d", self._ref, base, accept=(0, 1, 128))
                raise

    def adopt(self) -> None:
        """Make a worktree for the branch, which is there already, at its head."""
        with self._working():
            head = self.head()
            self._check_not_elsewhere()
            self._check_place()
            self._add("--", str(self.path), _branch(self.tag), commit=head)

    def _check_place(self) -> None:
        check_no_link(self.path.parent)
        self._worktree.check_free()

    def _add(self, *arguments: str, commit: str) -> None:
        try:
            names = (self.editable, *self.frozen)
            for name, content in self._commits.read_all(commit, names).items():
                self._check_there(commit, name, content)
            self._worktree.add(*arguments)
            self._exclude()
        except BaseException:
            self._worktree.forget()
            raise

    def repair(self, best: str) -> list[str]:
        """Repair what a crash or a hand left behind; return a sentence on each repair.

        The branch must be at `best`. The worktree takes it again after a `release`, and the editable file
        goes back to its text there.
        """
        with self._working():
            # Mostly it is where it is to be, which one command finds out.
            asked = "--format=%(objectname) %(worktreepath)", self._ref
            head, _, place = self._git("for-each-ref", *asked).partition(" ")
            head = head or self.head()
            if head != best:
                raise self._moved(head, best)
            if place and Path(place).resolve() != self.path.resolve():
                self._check_not_elsewhere()
            check_no_link(self.path.parent, self.path)
            self._worktree.drop_links()
            repairs = [f"A lock that git left behind was removed: {lock}." for lock in self._clear_locks()]
            if sentence := self._worktree.repair(_branch(self.tag)):
                repairs.append(sentence)
            if self._worktree.head() != self._ref:
                released = self._worktree.is_detached_at(head)
                self._worktree.set_head(self._ref)
                if not released:
                    repairs.append(f"The worktree {self.path} is on branch {_branch(self.tag)} again.")
            if missing := self._worktree.fill():
                repairs.append(f"Missing files were written again: {', '.join(missing)}.")
            if self._place(best):
                repairs.append(f"{self.editable} was put back to the best, {best[:7]}.")
            return repairs

    def release(self) -> None:
        """Let go of the branch of a run that ended, so that it can be checked out elsewhere.

        The worktree stays where it is; `repair` takes the branch again.
        """
        with self._working():
            if self._worktree.find_registration():
                try:
                    self._worktree.detach(self._ref)
                except GitError:
                    self._worktree.detach(self.head())

    def rename(self, new_tag: str) -> None:
        """Give branch, refs and worktree a new tag. One that was cut off is completed by calling it again."""
        check_tag(new_tag)
        with self._working():
            if new_tag == self.tag:
                return
            path = self.path.with_name(new_tag)
            new = f"refs/heads/{_branch(new_tag)}"
            self._clear_locks(new_tag)
            # HEAD of the worktree goes first: it is the mark of a rename that has begun.
            trees = (self._worktree, Worktree(self._git, path))
            worktree = next((tree for tree in trees if tree.find_registration()), None)
            head = worktree.head() if worktree else ""
            begun = head == new
            if not begun and (self._git.commit_of(self._ref) or not self._git.commit_of(new)):
                self.check_rename(new_tag)
                if worktree:
                    worktree.set_head(new)
            try:
                self._move_refs(new_tag)
            except UserError:
                if worktree and not begun:
                    worktree.set_head(self._ref)
                raise
            self._worktree.move(path)
            self.tag = new_tag
            if worktree and not head:
                self.release()

    def check_rename(self, new_tag: str) -> None:
        """Refuse a rename that could not be begun."""
        check_tag(new_tag)
        with self._working():
            self.head()
            self._check_free(new_tag)
            self._check_not_elsewhere()
            Worktree(self._git, self.path.with_name(new_tag)).check_free()

    # Experiments

    def head(self) -> str:
        """Return the commit of the branch: the last one kept."""
        head = self._git.commit_of(self._ref)
        if head is None:
            branch = _branch(self.tag)
            raise BranchMoved(
                f"Branch {branch} is gone from {self.repository}: "
                f"bring it back with `git branch {branch} COMMIT`, the best commit of the run."
            )
        return head

    def check_head(self, expected: str) -> None:
        """Raise `BranchMoved` unless the branch is at `expected`."""
        found = self._git.commit_of(self._ref)
        if found != expected:
            raise self._moved(found, expected)

    def source(self, commit: str) -> str:
        return self.text(commit, self.editable)

    def text(self, commit: str, path: str) -> str:
        """Return the text of a file in `commit`, line ends as they are."""
        return decode(self.content(commit, path), path)

    def commit(self, parent: str, source: str, description: str) -> Commit:
        """Make a commit on `parent` with `source` as the editable file; neither branch nor file moves."""
        try:
            content = source.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"The proposed {self.editable} is not valid text: {error.reason}.") from error
        if content == self.content(parent, self.editable):
            raise UserError(f"The proposal changes nothing in {self.editable}.")
        message = f"autoresearch: {one_line(description) or 'no description'}\n"
        with writing(self.path):
            blob = self._git("hash-object", "-w", "--no-filters", "--stdin", stdin=content)
            tree = self._commits.with_blob(parent, self.editable, blob)
            sha = self._git(
                *("commit-tree", tree, "-p", parent), stdin=message.encode(), environment=self._committer()
            )
        # Its training and its verdict should not wait for git.
        for name in self.frozen:
            self._commits.keep(sha, name, self.content(parent, name))
        self._commits.keep(sha, self.editable, content)
        return Commit(sha, *count_lines(self.diff(sha)))

    def remember(self, number: int, commit: str) -> None:
        """Make `commit` reachable for ever as experiment `number`."""
        with self._working():
            ref = f"{_experiments(self.tag)}/{number}"
            try:
                self._git("update-ref", ref, commit, "")
            except GitError:
                found = self._git.commit_of(ref)
                if found is None:
                    raise
                if found != commit:
                    raise UserError(
                        f"Experiment {number} of {self.tag} is commit {found[:7]} already, not {commit[:7]}: "
                        f"`git update-ref -d {ref}` in {self.repository} gives the number free."
                    ) from None

    def move_head(self, commit: str, old: str) -> None:
        """Move the branch from commit `old` to `commit`; done already is fine.

        Raises:
            BranchMoved: the branch is at neither.
        """
        _check_commit(commit, old)
        with self._working():
            try:
                self._git("update-ref", "-m", "autoresearch: the best", self._ref, commit, old)
            except GitError:
                head = self._git.commit_of(self._ref)
                if head == old:
                    raise
                if head != commit:
                    raise self._moved(head, commit) from None

    def check_movable(self) -> None:
        """Refuse to move a branch that a person has checked out: that of a run that ended is free for it."""
        with self._working():
            self._check_not_elsewhere()

    def restore(self) -> None:
        """Bring the worktree to the head of the branch, clean for git: a person may look."""
        with self._working():
            check_no_link(self.path)
            self._place(self.head())
            self._worktree.tidy()

    def carry_over(self, source: str, parent: str, best: str, *, wins: bool = False) -> str | None:
        """Return `source`, made of `parent`, on top of `best`; if they conflict it `wins`, or None."""
        texts = (self.source(parent), self.source(best), source)
        return source if parent == best else merge_texts(*texts, favour_theirs=wins)

    def diff(self, commit: str, before: str = "") -> str:
        """Return what `commit` changes in the editable file, since its parent or since `before`."""
        _check_commit(commit, *filter(None, [before]))
        return self._diffs(commit, before)

    def _read_diff(self, commit: str, before: str) -> str:
        return read_diff(self._git, commit, self.editable, before=before)

    def diffs(self, commits: Iterable[str]) -> dict[str, str]:
        """Return what each of many experiments changes in the editable file, by commit; see `read_diffs`."""
        return read_diffs(self._git, commits, self.editable)

    # Refs

    @property
    def _ref(self) -> str:
        return f"refs/heads/{_branch(self.tag)}"

    def _refs(self, tag: str) -> dict[str, str]:
        """Return the commits of a tag's refs, by what comes after the tag ("" for the branch)."""
        prefixes = (f"refs/heads/{_branch(tag)}", _experiments(tag))
        lines = self._git("for-each-ref", "--format=%(refname) %(objectname)", *prefixes).splitlines()
        found = dict(line.split(" ") for line in lines)
        return {name.removeprefix(prefixes[0]).removeprefix(prefixes[1]): sha for name, sha in found.items()}

    def _move_refs(self, new_tag: str) -> None:
        taken = self._refs(new_tag)
        steps = []
        for rest, commit in self._refs(self.tag).items():
            prefix = f"refs/heads/{_branch('')}" if not rest else _experiments("")
            old, new = f"{prefix}{self.tag}{rest}", f"{prefix}{new_tag}{rest}"
            if taken.get(rest, commit) != commit:
                raise UserError(f"{new} is another run's: `git update-ref -d {new}` gives the name free.")
            if rest not in taken:
                steps.append(f"create {new} {commit}\n")
            steps.append(f"delete {old} {commit}\n")
        if steps:
            self._git("update-ref", "--stdin", stdin="".join(steps).encode())

    def _check_free(self, tag: str) -> None:
        if self._refs(tag):
            raise UserError(f"{self.repository} has a run {_branch(tag)} already: choose another tag.")
        prefix = _branch("").removesuffix("/")
        if self._git.commit_of(f"refs/heads/{prefix}"):
            raise UserError(
                f"The branch {prefix} of {self.repository} is in the way of {_branch(tag)}: "
                f"rename it with `git branch -m {prefix} OTHER`."
            )

    def _moved(self, head: str | None, expected: str) -> BranchMoved:
        command = shlex.join(("git", "-C", str(self.repository), "update-ref", self._ref, expected))
        found = f"is at {head[:7]}, not at {expected[:7]} where the run left it" if head else "is gone"
        save = " Save what you need from it, then run" if head else " Run"
        return BranchMoved(f"Branch {_branch(self.tag)} {found}.{save} `{command}` and /resume.")

    def _check_not_elsewhere(self) -> None:
        path = self._git.checkout_of(_branch(self.tag))
        if path and path.resolve() != self.path.resolve():
            raise UserError(
                f"Branch {_branch(self.tag)} is checked out in {path}, but the run needs it for itself: "
                "switch to another branch there."
            )

    def _clear_locks(self, *other_tags: str) -> list[Path]:
        common = self._git.directory
        locks = self._worktree.locks()
        for tag in (self.tag, *other_tags):
            locks.append(common / f"refs/heads/{_branch(tag)}.lock")
            locks += (common / _experiments(tag)).glob("*.lock")
        return list(remove_stale_locks(locks))

    def _exclude(self) -> None:
        file = self._git.directory / "info" / "exclude"
        file.parent.mkdir(exist_ok=True)
        found = file.read_bytes() if file.exists() else b""
        missing = [line for line in EXCLUDED if line.encode() not in found.splitlines()]
        if missing:
            start = "\n" if found and not found.endswith(b"\n") else ""
            with file.open("ab") as end:
                end.write((start + "".join(f"{line}\n" for line in missing)).encode())

    # Files and commits

    def content(self, commit: str, path: str) -> bytes:
        _check_commit(commit)
        return self._check_there(commit, path, self._commits.read(commit, path))

    def _check_there(self, commit: str, path: str, content: bytes | None) -> bytes:
        if content is None:
            raise UserError(f"There is no {path} in commit {commit[:7]} of {self.repository}.")
        return content

    def _place(self, commit: str) -> bool:
        content = self.content(commit, self.editable)
        if self._executable is None:
            self._executable = self._commits.mode(commit, self.editable) == "100755"
        return place(self.path, self.editable, content, executable=self._executable)

    def _committer(self) -> Mapping[str, str]:
        if self._author is None:
            try:
                for who in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
                    self._git("-c", "user.useConfigOnly=true", "var", who)
                self._author = {}
            except GitError:
                self._author = AUTHOR
        return self._author

    @contextmanager
    def _working(self) -> Iterator[None]:
        with self._lock, writing(self.path), self._git.operation():
            yield


def _branch(tag: str) -> str:
    return f"autoresearch/{tag}"


def _experiments(tag: str) -> str:
    return f"refs/autoresearch/{tag}"


def _check_commit(*commits: str) -> None:
    for commit in commits:
        if not is_commit_id(commit):
            raise UserError(f"{commit!r} is not a whole commit id.")
