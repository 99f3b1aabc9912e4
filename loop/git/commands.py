"""Git commands by GitPython, shut off from the user's hooks and from every other repository.

GitPython's `Git` is used rather than its `Repo`: a `Repo` takes its directories from the caller's `GIT_*`
variables, and its index API runs hooks. Here every command names its repository, index and worktree itself.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loop.errors import UserError

if TYPE_CHECKING:
    from git.cmd import Git as GitPython

OPTIONS = {
    "core.hooksPath": os.devnull,  # no hook of the user's, nor one that a training planted
    "core.fsmonitor": "false",  # may name a program
    "core.sparseCheckout": "false",  # a worktree has every file
    "core.fsync": "objects,reference",  # what the journal names survives a power cut
    "commit.gpgSign": "false",
    "i18n.commitEncoding": "UTF-8",
    "i18n.logOutputEncoding": "UTF-8",
    "log.showSignature": "false",
}
"""Configuration that wins over the user's, on every command."""

ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_EDITOR": "true",
    "GIT_OPTIONAL_LOCKS": "0",  # looking at a checkout does not rewrite its index
    "GIT_LITERAL_PATHSPECS": "1",
}

INHERITED = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_WORK_TREE",
)
"""Variables that point at a repository, as a git hook or alias leaves them to what it starts."""


class GitError(UserError):
    """A git command ended with a status that its caller did not expect."""

    def __init__(self, command: str, stderr: str) -> None:
        lines = [line.strip() for line in stderr.splitlines() if line.strip()]
        reasons = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines[-1:]
        self.stderr = stderr
        reason = reasons[0].split(": ", 1)[-1] if reasons else "it gave no reason"
        super().__init__(f"git {command} failed: {reason.rstrip('.')}.")


class Git:
    """Commands on the repository whose git directory is `directory`, also from several threads at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._git = _gitpython(directory)

    def __call__(
        self,
        *arguments: str,
        directory: Path | None = None,
        work_tree: Path | None = None,
        index: Path | None = None,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        accept: tuple[int, ...] = (0,),
    ) -> str:
        """Run `git arguments` and return what it printed, less one last newline; odd bytes as surrogates.

        `directory` is the git directory where it is not the repository's own (that of a linked worktree),
        `index` an index file of the caller's.
        """
        place = [f"--git-dir={directory or self.directory}"]
        if work_tree:
            place.append(f"--work-tree={work_tree}")
        extra = dict(environment or {})
        if index:
            extra["GIT_INDEX_FILE"] = str(index)
        _, output = _run(self._git, (*place, *arguments), stdin=stdin, environment=extra, accept=accept)
        return output.decode("utf-8", "surrogateescape").removesuffix("\n")

    def commit_of(self, ref: str) -> str | None:
        return self("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", accept=(0, 1)) or None

    def checkout_of(self, branch: str) -> Path | None:
        """Return the worktree that has the branch checked out."""
        for entry in self("worktree", "list", "--porcelain").split("\n\n"):
            first, *others = entry.splitlines() or [""]
            if f"branch refs/heads/{branch}" in others:
                return Path(first.removeprefix("worktree "))
        return None

    def mode(self, commit: str, path: str) -> str | None:
        """Return git's mode of `path` in `commit` (`100644`, `100755`, `120000` for a link) or None."""
        line = self("ls-tree", "--full-tree", commit, "--", path)
        return line.split(" ", 1)[0] or None

    def read(self, name: str) -> bytes | None:
        """Return the bytes of the blob `name` (`<commit>:<path>`), None where there is no such blob."""
        # A batch distinguishes what is not there from what cannot be read.
        command = (f"--git-dir={self.directory}", "cat-file", "--batch")
        _, output = _run(self._git, command, stdin=f"{name}\n".encode())
        header, _, content = output.partition(b"\n")
        return content[:-1] if header.split()[-2:-1] == [b"blob"] else None


def readable(output: str) -> str:
    """Return what a command printed with a mark for every byte that is not UTF-8, fit to be shown."""
    return output.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def merge_texts(base: str, ours: str, theirs: str) -> str | None:
    """Merge by lines what `ours` and `theirs` changed in `base`; None where they conflict."""
    with tempfile.TemporaryDirectory() as folder:
        names = ("ours", "base", "theirs")
        for name, text in zip(names, (ours, base, theirs), strict=True):
            (Path(folder) / name).write_bytes(text.encode())
        git = _gitpython(Path(folder))
        # The status is the number of conflicts, at most 127; more is a failure.
        status, output = _run(git, ("merge-file", "-p", "--", *names), accept=tuple(range(128)))
    return None if status else output.decode()


@dataclass(frozen=True, slots=True)
class Location:
    """Where a repository keeps its things; `top` is its checkout, None for a bare one."""

    directory: Path  # of this checkout
    common: Path  # shared by all worktrees
    top: Path | None


def locate(path: Path) -> Location:
    """Find the git repository at or above `path`."""
    if not path.is_dir():
        raise UserError(f"There is no folder {path}: set REPOSITORY to a git repository.")
    git = _gitpython(path)
    asked = ("--absolute-git-dir", "--git-common-dir", "--is-bare-repository", "--is-inside-work-tree")
    try:
        directory, common, bare, inside = os.fsdecode(_run(git, ("rev-parse", *asked))[1]).splitlines()
        if bare == "true":
            return Location(Path(directory).resolve(), (path / common).resolve(), None)
        if inside == "false":
            raise UserError(
                f"{path} is inside a git folder: set REPOSITORY to the checkout that it belongs to."
            )
        (top,) = os.fsdecode(_run(git, ("rev-parse", "--show-toplevel"))[1]).splitlines()
        return Location(Path(directory).resolve(), (path / common).resolve(), Path(top).resolve())
    except GitError as error:
        if "dubious ownership" in error.stderr:
            fix = f"git config --global --add safe.directory {path}"
            raise UserError(f"git does not trust {path}, which another user owns: run `{fix}`.") from error
        raise UserError(
            f"{path} is not a git repository: set REPOSITORY to one, or run `git init` and commit its files."
        ) from error


def _gitpython(directory: Path) -> GitPython:
    try:
        from git.cmd import Git as GitPython  # looks for the program when it is imported
    except ImportError as error:
        raise UserError("git is not installed or does not run: install git and try again.") from error
    return GitPython(str(directory))


def _command(arguments: tuple[str, ...], own: Mapping[str, str]) -> list[str]:
    leaked = [name for name in INHERITED if name in os.environ and name not in own]
    inherited = [part for name in leaked for part in ("-u", name)]
    options = [part for name, value in OPTIONS.items() for part in ("-c", f"{name}={value}")]
    # GitPython can add to the environment but not take away; nearly always there is nothing to take.
    return [*(["env", *inherited] if inherited else []), "git", *options, *arguments]


def _run(
    git: GitPython,
    arguments: tuple[str, ...],
    *,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    accept: tuple[int, ...] = (0,),
) -> tuple[int, bytes]:
    from git.exc import GitCommandNotFound

    own = {**ENVIRONMENT, **(environment or {})}
    with tempfile.TemporaryFile() if stdin else nullcontext() as source:
        if source:
            source.write(stdin)
            source.seek(0)
        try:
            status, output, stderr = git.execute(
                _command(arguments, own),
                istream=source,
                with_extended_output=True,
                with_exceptions=False,
                stdout_as_string=False,
                strip_newline_in_stdout=False,
                env=own,
                start_new_session=True,  # a Ctrl-C at the bot's terminal is not for git
            )
        except GitCommandNotFound as error:
            raise UserError("git is not installed or does not run: install git and try again.") from error
    if status not in accept:
        name = next(argument for argument in arguments if not argument.startswith("-"))
        raise GitError(name, stderr)
    return status, output


_OPTIONS = ("--patch", "--root", "--text", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-color")
_COMMIT = re.compile(r"(?m)^([0-9a-f]{40}|[0-9a-f]{64})$")


def is_commit_id(text: str) -> bool:
    """Tell whether this is a whole commit id, not a name or a part of one."""
    return _COMMIT.fullmatch(text) is not None


def read_diff(git: Git, commit: str, path: str, *, before: str = "") -> str:
    """Return what `commit` changes in the file `path`, since its parent or since `before`; else empty."""
    commits = (before, commit) if before else (commit,)
    diff = git("diff-tree", *_OPTIONS, "--no-commit-id", *commits, "--", path)
    return f"{readable(diff)}\n" if diff else ""


def read_diffs(git: Git, commits: Iterable[str], path: str) -> dict[str, str]:
    """Return what each of many commits changes in `path`, in one go; what git does not have is left out."""
    wanted = set(filter(is_commit_id, commits))
    if not wanted:
        return {}
    output = git(
        *("diff-tree", *_OPTIONS, "--always", "--stdin", "--", path),
        stdin="".join(f"{commit}\n" for commit in sorted(wanted)).encode(),
        accept=(0, 1, 128),
    )
    # A line of a diff begins with a sign, so one that is nothing but an id begins the next commit.
    pieces = _COMMIT.split(output)[1:]
    pairs = zip(pieces[::2], pieces[1::2], strict=True)
    return {commit: f"{readable(diff).strip(chr(10))}\n" for commit, diff in pairs if commit in wanted}


def count_lines(diff: str) -> tuple[int, int]:
    # Not git's own count, which leaves out files that the user's attributes call binary.
    hunks = diff.partition("\n@@")[2].split("\n")
    added, removed = (sum(line.startswith(sign) for line in hunks) for sign in "+-")
    return added, removed
