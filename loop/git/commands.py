"""Git commands by GitPython, shut off from every program that a repository or its configuration names.

Hooks, filters, fsmonitor, text conversion, merge drivers, helpers and transports: none of them runs. git
gets an environment of its own, without the secrets of the bot, and a time limit.

Of GitPython no `Repo` is used: it takes its directories from the caller's `GIT_*` variables, and its index
API runs hooks. Here every command names its repository, index and worktree itself.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

from loop.errors import DiskError, UserError
from loop.files import passing_reason, temporary_folder

if TYPE_CHECKING:
    from git.cmd import Git as GitPython

TIME_LIMIT = 120.0  # seconds; a `git status` of a large checkout on a cold disk takes tens
LONG_LIMIT = 600.0  # of a command that hands out all files of a commit
GRACE = 2.0  # seconds in which git removes its lock files
NO_GIT = "git is not installed or does not run: install git and try again."

OPTIONS = {
    "core.hooksPath": os.devnull,  # no hook of the user's, nor one that a training planted
    "core.fsmonitor": "false",  # may name a program
    "core.sparseCheckout": "false",  # a worktree has every file
    "core.fsync": "objects,reference",  # what the journal names survives a power cut
    "commit.gpgSign": "false",
    "gc.auto": "0",  # its hooks, and a process that outlives the command
    "maintenance.auto": "false",
    "submodule.recurse": "false",  # a git with the configuration of the submodule
    "i18n.commitEncoding": "UTF-8",
    "i18n.logOutputEncoding": "UTF-8",
    "log.showSignature": "false",
}
"""Configuration that wins over the user's, on every command."""

ENVIRONMENT = {
    "LC_ALL": "C",
    "GIT_ALLOW_PROTOCOL": "none",  # no transport: no ssh, no proxy, no credential helper, no pack hook
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",  # what an id names is what was committed
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_EDITOR": "true",
    "GIT_PAGER": "cat",
    "GIT_OPTIONAL_LOCKS": "0",  # looking at a checkout does not rewrite its index
    "GIT_LITERAL_PATHSPECS": "1",
}

PASSED = (
    *("PATH", "HOME", "XDG_CONFIG_HOME", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
    *("USER", "LOGNAME", "EMAIL", "SUDO_UID", "GIT_EXEC_PATH", "GIT_DISCOVERY_ACROSS_FILESYSTEM"),
    *("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"),
    *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_CEILING_DIRECTORIES"),
)
"""Variables of the bot that git gets: where its files are and who the user is."""

READS_ONLY = frozenset(
    (
        *("cat-file", "check-attr", "commit-tree", "config", "diff-tree", "for-each-ref", "format-patch"),
        *("hash-object", "log", "ls-files", "ls-tree", "merge-base", "merge-file", "mktree", "rev-parse"),
        *("show", "show-ref", "symbolic-ref --quiet", "var", "worktree list"),
    )
)
"""Commands that, as they are called here, run neither filters nor hooks: they move no ref and look at no file
of a checkout. For any other the filters and hooks of the configuration are listed and switched off."""

_PROGRAM = re.compile(r"(filter|hook)\.(.+)\.[^.]+", re.DOTALL)
_OFF = {
    "filter": {"clean": "", "smudge": "", "process": "", "required": "false"},
    "hook": {"enabled": "false"},
}


class GitError(UserError):
    """A git command ended with a status that its caller did not expect."""

    def __init__(self, command: str, stderr: str) -> None:
        lines = [line.strip() for line in stderr.splitlines() if line.strip()]
        reasons = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines[-1:]
        self.stderr = stderr
        reason = reasons[0].split(": ", 1)[-1] if reasons else "it gave no reason"
        super().__init__(f"git {command} failed: {reason.rstrip('.')}.")


class GitDiskError(GitError, DiskError):
    """It ended because the disk is full or fails."""


class _Operation(threading.local):
    off: dict[tuple[str, ...], dict[str, str]] | None = None  # by where; None between operations


class Git:
    """Commands on the repository whose git directory is `directory`, also from several threads at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._git = _gitpython(directory)
        self._operation = _Operation()

    @contextmanager
    def operation(self) -> Iterator[None]:
        """Let the commands that this thread runs meanwhile, for some milliseconds, list the filters once."""
        outer = self._operation.off
        self._operation.off = {} if outer is None else outer
        try:
            yield
        finally:
            self._operation.off = outer

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
        where = (f"--git-dir={directory or self.directory}",)
        place = (*where, f"--work-tree={work_tree}") if work_tree else where
        extra = dict(environment or {})
        if index:
            extra["GIT_INDEX_FILE"] = str(index)
        reads_only = not READS_ONLY.isdisjoint((_name(arguments), " ".join(arguments[:2])))
        options = {} if reads_only else self._programs_off(where)
        _, output = _run(
            self._git, (*place, *arguments), stdin=stdin, environment=extra, options=options, accept=accept
        )
        return output.decode("utf-8", "surrogateescape").removesuffix("\n")

    def _programs_off(self, where: tuple[str, ...]) -> dict[str, str]:
        known = {} if self._operation.off is None else self._operation.off
        if where not in known:
            known[where] = _programs_off(self._git, where)
        return known[where]

    def commit_of(self, ref: str) -> str | None:
        return self("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", accept=(0, 1)) or None

    def checkout_of(self, branch: str) -> Path | None:
        """Return the worktree that has the branch checked out."""
        for entry in self("worktree", "list", "--porcelain").split("\n\n"):
            first, *others = entry.splitlines() or [""]
            if f"branch refs/heads/{branch}" in others:
                return Path(first.removeprefix("worktree "))
        return None

    def read(self, name: str) -> bytes | None:
        """Return the bytes of the blob `name` (`<commit>:<path>`), None where there is no such blob."""
        return next(iter([None if size is None else blob.read(size) for size, blob in self.blobs([name])]))

    def blobs(self, names: Sequence[str]) -> Generator[tuple[int | None, IO[bytes]], None, None]:
        """Yield of each blob its size and what its bytes are to be read from; None where there is none.

        So a blob need not fit into memory. All its bytes are to be read before the next one is asked for. git
        ends with the last one, or when this is closed.
        """
        if not names:
            return
        command = (f"--git-dir={self.directory}", "cat-file", "--batch")
        stdin = "".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape")
        with _started(self._git, command, stdin=stdin) as process:
            output, stderr = process.stdout, process.stderr
            assert output is not None
            assert stderr is not None
            watchdog = threading.Timer(LONG_LIMIT, _end, (process,))
            watchdog.start()
            try:
                for _ in names:
                    header = output.readline().split()
                    match header[-2:]:
                        case [b"blob", size]:
                            yield int(size), output
                        case [_, b"missing"]:
                            yield None, output
                            continue
                        case [_, size]:
                            output.read(int(size))
                            yield None, output
                    if output.read(1) != b"\n":
                        raise GitError("cat-file", stderr.read().decode(errors="replace"))
            finally:
                watchdog.cancel()


def readable(output: str) -> str:
    """Return what a command printed with a mark for every byte that is not UTF-8, fit to be shown."""
    return output.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def merge_texts(base: str, ours: str, theirs: str, *, favour_theirs: bool = False) -> str | None:
    """Merge by lines what `ours` and `theirs` changed in `base`; None where they conflict."""
    with temporary_folder() as folder:
        names = ("ours", "base", "theirs")
        for name, text in zip(names, (ours, base, theirs), strict=True):
            (folder / name).write_bytes(text.encode())
        # The status is the number of conflicts, at most 127; more is a failure.
        status, output = _run(
            _gitpython(folder),
            ("merge-file", "-p", *(["--theirs"] if favour_theirs else []), "--", *names),
            environment={"GIT_CEILING_DIRECTORIES": str(folder.parent)},  # in no repository
            accept=tuple(range(128)),
        )
    return None if status else output.decode()


@dataclass(frozen=True, slots=True)
class Location:
    """Where a repository keeps its things; `top` is its checkout, None for a bare one."""

    directory: Path  # of this checkout
    common: Path  # shared by all worktrees
    top: Path | None


def locate(path: Path) -> Location:
    """Find the git repository at or above `path`; git is asked once while its folder stays the same."""
    if not os.path.isdir(path):  # noqa: PTH112 - false also of what cannot be looked at
        raise UserError(f"There is no folder {path}: set REPOSITORY to a git repository.")
    try:
        found, settings = (path / ".git").lstat(), (path / ".git" / "config").stat()
    except OSError:  # it is above, bare, or a linked worktree
        return _locate(path)
    return _located(path, path.resolve(), found.st_dev, found.st_ino, found.st_uid, settings.st_mtime_ns)


@lru_cache(maxsize=32)
def _located(path: Path, *_same: object) -> Location:
    return _locate(path)


def _locate(path: Path) -> Location:
    git = _gitpython(path)
    asked = (
        *("--absolute-git-dir", "--git-common-dir", "--is-bare-repository", "--is-inside-work-tree"),
        "--show-cdup",  # the way up to the top; of a bare repository there is none
    )
    try:
        output = os.fsdecode(_run(git, ("rev-parse", *asked))[1])
        directory, common, bare, inside, *up = output.splitlines()
        if bare == "true":
            return Location(Path(directory).resolve(), (path / common).resolve(), None)
        if inside == "false":
            raise UserError(
                f"{path} is inside a git folder: set REPOSITORY to the checkout that it belongs to."
            )
        top = path.resolve().joinpath(*up)
        return Location(Path(directory).resolve(), (path / common).resolve(), top.resolve())
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
        raise UserError(NO_GIT) from error
    return GitPython(str(directory))


def _programs_off(git: GitPython, where: tuple[str, ...]) -> dict[str, str]:
    """Return the options that switch off every filter and every hook of the configuration, as it is now."""
    listing = (*where, "config", "-z", "--name-only", "--get-regexp", r"^(filter|hook)\.")
    _, output = _run(git, listing, accept=(0, 1))
    options: dict[str, str] = {}
    for key in os.fsdecode(output).split("\0"):
        if found := _PROGRAM.fullmatch(key):
            kind, name = found.groups()
            if "=" in name:  # where an option on the command line would be cut
                raise UserError(
                    f"The git configuration has a {kind} {name!r} that cannot be switched off: remove it "
                    f"with `git config --remove-section '{kind}.{name}'`."
                )
            options |= {f"{kind}.{name}.{what}": value for what, value in _OFF[kind].items()}
    return options


def _name(arguments: tuple[str, ...]) -> str:
    """Return which git command the arguments call: the first that is neither an option nor its value."""
    words = iter(arguments)
    for word in words:
        if word == "-c":
            next(words)
        elif not word.startswith("-"):
            return word
    raise ValueError(f"no git command in {arguments}")


def _run(
    git: GitPython,
    arguments: tuple[str, ...],
    *,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
    accept: tuple[int, ...] = (0,),
) -> tuple[int, bytes]:
    with _started(git, arguments, stdin=stdin, environment=environment, options=options) as process:
        try:
            output, stderr = process.communicate(timeout=TIME_LIMIT)
        except subprocess.TimeoutExpired:
            raise UserError(
                f"git {_name(arguments)} was ended after {TIME_LIMIT:.0f} s: "
                f"run it by hand in {git.working_dir} to see what it waits for."
            ) from None
    if process.returncode not in accept:
        said = stderr.decode(errors="replace")
        raise (GitDiskError if passing_reason(said) else GitError)(_name(arguments), said)
    return process.returncode, output


def _umask(directory: os.PathLike[str] | str | None) -> int:
    """Return the umask that a repository was made with: the bot's own keeps its state from everybody else."""
    try:
        return 0o777 & ~(Path(directory or "") / "objects").stat().st_mode
    except OSError:
        return -1  # as it is


@contextmanager
def _started(
    git: GitPython,
    arguments: tuple[str, ...],
    *,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start git and leave nothing of it behind.

    Not by GitPython's `execute`, which adds to the bot's environment and takes nothing away: the env(1) that
    would do so takes a quarter as long as git.
    """
    from git.cmd import safer_popen

    folder = git.working_dir
    passed = {name: os.environ[name] for name in PASSED if name in os.environ}
    variables = {**passed, **ENVIRONMENT, **(environment or {})}
    settings = {**OPTIONS, **(options or {})}
    with tempfile.TemporaryFile() if stdin else nullcontext() as source:
        if source:
            source.write(stdin)
            source.seek(0)
        try:
            process = safer_popen(
                [
                    "git",
                    *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
                    *arguments,
                ],
                env=variables,
                cwd=folder if folder and os.access(folder, os.X_OK) else None,
                stdin=source or subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # a Ctrl-C at the bot's terminal is not for git; and a group to end
                umask=_umask(folder),
            )
        except (FileNotFoundError, PermissionError) as error:
            raise UserError(NO_GIT) from error
        try:
            yield process
        finally:
            _end(process)
            for pipe in (process.stdout, process.stderr):
                if pipe:
                    pipe.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a git that still runs, with all that it started."""
    if process.returncode is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)


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
