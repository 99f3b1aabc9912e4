"""What a repository offers before a run: its base, the names that are free, the budget that it fixes."""

from __future__ import annotations

import ast
import datetime as dt
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path, PurePosixPath
from string import ascii_lowercase

from loop.errors import UserError
from loop.files import check_path
from loop.git.checkout import read_pointers
from loop.git.commands import Git, Location, locate, readable
from loop.git.commits import Commits, commits_in
from loop.program.constants import find_constants, imported_modules, syntax_tree, time_budget

TAG_LENGTH = 40
EVALUATOR = "evaluate.py"  # what scores a trained model apart from its training, where a repository has it
_MADE = re.compile(  # by programs
    r"(^|/)(__pycache__|\.venv|results\.tsv(\.aside)?|run\.log|model\.pt)(/|$)|\.pyc$"
)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


@dataclass(frozen=True, slots=True)
class RepositoryFacts:
    """What a new run would start from.

    `path` is the checkout's root, or the bare repository; `subject` the first line of the base commit's
    message; `source` the editable file. Not committed are `dirty` files and `untracked` modules beside it.
    """

    path: Path
    base_branch: str
    base_commit: str
    subject: str
    source: str
    dirty: tuple[str, ...]
    untracked: tuple[str, ...]


def inspect(
    repository: Path,
    base_branch: str | None = None,
    *,
    editable: str = "train.py",
    frozen: Sequence[str] = ("prepare.py",),
) -> RepositoryFacts:
    """Look at a repository, changing nothing, and return what a run would start from.

    Without `base_branch` it is the branch that is checked out. A bare repository will do.
    """
    location = locate(repository)
    path = location.top or location.common
    if path != repository.resolve():
        inside = repository.resolve().relative_to(path)
        fixed = ",".join(str(inside / name) for name in frozen)
        raise UserError(
            f"{repository} is a folder of the repository {path}: "
            f"set REPOSITORY={path}, FROZEN={fixed} and EDITABLE={inside / editable}."
        )
    git, commits = Git(location.common), commits_in(location.common)
    branch = base_branch or _checked_out(git, location, path)
    commit = _head_of(git, branch, path)
    for name in (editable, *frozen):
        _check_file(commits, commit, branch, name, location, editable)
    source = _read_program(commits, commit, branch, editable)
    subject = readable(git("log", "--no-walk", "--format=%s", commit))
    dirty, untracked = _left_out(git, location, editable)
    return RepositoryFacts(path, branch, commit, subject, source, dirty, untracked)


@dataclass(frozen=True, slots=True)
class Mention:
    """That a program mentions `path`, which git ignores; `link` is what LINK_PATHS has to name."""

    path: str
    link: str


def ignored_mentions(checkout: Path, names: Sequence[str]) -> tuple[Mention, ...]:
    """Return what the programs `names` seem to read from the checkout and a training's folder will lack.

    That is what git ignores there and a string of theirs names, whole or in part. A hint, no proof.
    """
    location = locate(checkout)
    if location.top is None:
        return ()
    listed = _status(Git(location.common), location, "--ignored")
    paths = (readable(line[2:]).rstrip("/") for line in listed if line.startswith("!"))
    ignored = [path for path in paths if not _MADE.search(path)]
    found: dict[str, Mention] = {}
    for word in sorted({word for name in names for word in _words(location.top / name)}):
        for link in ignored:
            if f"{word}/".startswith(f"{link}/"):
                named = word if (location.top / word).exists() else link
            elif link.startswith(f"{word}/") or ("/" in word and link.startswith(word)):
                named = link
            else:
                continue
            found.setdefault(link, Mention(named, link))
    return tuple(found.values())


def _words(program: Path) -> Iterator[str]:
    """Yield what may be relative paths, or their beginnings, in the strings of a program."""
    try:
        tree = syntax_tree(program.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            for word in re.split(r"[\s'\"`=,:;()<>|]+", node.value):
                path = re.split(r"[*?{\[%]", word)[0].removeprefix("./").rstrip("/")
                if path and not path.startswith(("/", ".")):
                    yield path


def branches(repository: Path) -> tuple[str, ...]:
    git = Git(locate(repository).common)
    return tuple(git("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads/").splitlines())


def read_time_budget(repository: Path, commit: str, frozen: Sequence[str] = ("prepare.py",)) -> float | None:
    """Return the time budget that the first of the `frozen` files to have one fixes in `commit`."""
    budgets = map(time_budget, read_programs(repository, commit, frozen).values())
    return next((budget for budget in budgets if budget is not None), None)


def read_programs(repository: Path, commit: str, names: Sequence[str]) -> dict[str, str]:
    """Return the texts of those of the files that are in `commit`."""
    found = commits_in(locate(repository).common).read_all(commit, names)
    return {name: text.decode("utf-8", "replace") for name, text in found.items() if text is not None}


def has_evaluator(repository: Path, commit: str) -> bool:
    """Tell whether evaluate.py answers the bot: many repositories have another program of that name."""
    commits = commits_in(locate(repository).common)
    text = (EVALUATOR in commits.entries(commit) and commits.read(commit, EVALUATOR)) or b""
    return b"describe" in text and b"--exchange" in text


def with_imports(
    repository: Path, commit: str, frozen: Sequence[str], *, editable: str = "train.py"
) -> tuple[str, ...]:
    """Return the `frozen` files, the evaluator, and every module beside them that they import, of `commit`.

    What a fixed file imports is as fixed as itself: a training that changes it changes the score. Only the
    editable file is never fixed.
    """
    commits = commits_in(locate(repository).common)
    found = dict.fromkeys(frozen)
    if editable != EVALUATOR and EVALUATOR in commits.entries(commit):
        found[EVALUATOR] = None
    waiting = list(found)
    while waiting:
        name = waiting.pop()
        text = commits.read(commit, name) or b""
        folder = PurePosixPath(name).parent
        for module in imported_modules(text):
            path = str(folder / f"{module}.py")
            if path not in found and path != editable and commits.mode(commit, path):
                found[path] = None
                waiting.append(path)
    return tuple(found)


def check_tag(tag: str) -> None:
    """Refuse a tag that would not do as a part of a branch name and as a folder."""
    allowed = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", tag, re.ASCII) is not None
    if not allowed or len(tag) > TAG_LENGTH or ".." in tag or tag.endswith((".", ".lock")):
        raise UserError(
            f"The tag {tag!r} cannot name a branch: use up to {TAG_LENGTH} letters, digits, dots, - and _, "
            "beginning with a letter or digit, for example mar12."
        )


def propose_tag(date: dt.date, taken: Collection[str]) -> str:
    day = f"{MONTHS[date.month - 1]}{date.day}"
    return next(tag for tag in (day + letters for letters in _suffixes()) if tag not in taken)


def decode(content: bytes, path: str) -> str:
    """Return a file's text as it is, line ends and all."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}): convert and commit it.") from error


def _checked_out(git: Git, location: Location, path: Path) -> str:
    reference = git("symbolic-ref", "--quiet", "HEAD", directory=location.directory, accept=(0, 1))
    if not reference:
        raise UserError(f"{path} has no branch checked out: set BASE_BRANCH to the one to start from.")
    return reference.removeprefix("refs/heads/")


def _head_of(git: Git, branch: str, path: Path) -> str:
    ref = f"refs/heads/{branch}"  # a name, no expression such as main~1
    if found := git("show-ref", "--verify", "--hash", "--", ref, accept=(0, 1, 128)):
        return found
    known = branches(path)
    if not known:
        raise UserError(f"{path} has no commit yet: run `git add -A` and `git commit` in it.")
    raise UserError(
        f"{path} has no branch {branch}, only {', '.join(known)}: set BASE_BRANCH to one of them."
    )


def _check_file(
    commits: Commits, commit: str, branch: str, name: str, location: Location, editable: str
) -> None:
    check_path(name)
    if (mode := commits.mode(commit, name)) is None:
        if location.top and os.path.exists(location.top / name):  # noqa: PTH110 - false where it cannot be
            fix = f"run `git add {name}` and `git commit`"
            raise UserError(f"{name} is not committed on branch {branch}: {fix}.")
        where = location.top or location.common
        beside = str(PurePosixPath(editable).with_name(PurePosixPath(name).name))
        fix = "set FROZEN= for none, or to the files that experiments must not change"
        if name == editable:
            such = _such_as(Git(location.common), commit, name)
            fix = f"set EDITABLE to the file that experiments change{such and f', such as EDITABLE={such}'}"
        elif commits.mode(commit, beside):
            fix = f"set FROZEN={beside}"
        raise UserError(f"There is no {name} on branch {branch} of {where}: {fix}.")
    if not mode.startswith("100"):
        raise UserError(f"{name} on branch {branch} is not a regular file: commit it as one.")


def _such_as(git: Git, commit: str, name: str) -> str:
    """Return a file of that name in a folder, or the only program there is; empty where there is none."""
    files = git("ls-tree", "-rz", "--name-only", "--full-tree", commit)
    programs = re.findall(r"(?:^|\0)([\w./-]+\.py)(?=\0)", files)  # with names that .env takes
    alike = [path for path in programs if PurePosixPath(path).name == PurePosixPath(name).name]
    return min(alike or programs * (len(programs) == 1), key=lambda path: path.count("/"), default="")


def _read_program(commits: Commits, commit: str, branch: str, name: str) -> str:
    source = decode(commits.read(commit, name) or b"", name)
    try:
        find_constants(source)
    except UserError as error:
        raise UserError(f"{name} on branch {branch} cannot be trained: {error}") from error
    return source


def _left_out(git: Git, location: Location, editable: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what differs from the last commit, and new modules beside the editable file.

    No filter runs. A file that one would turn into what git stores counts as changed once it was touched;
    for Git LFS its hash is compared.
    """
    if location.top is None:
        return (), ()
    entries = _status(git, location)
    beside = PurePosixPath(editable).parent
    new = [PurePosixPath(readable(line[2:])) for line in entries if line.startswith("?")]
    modules = (str(path) for path in new if path.suffix == ".py" and path.parent == beside)
    # A line of a changed file: 1, its state, the kind of submodule, three modes, two ids, its path.
    changed = {fields[-1]: fields for line in entries if (fields := line.split(" ", 8))[0] == "1"}
    touched = {path: fields[7] for path, fields in changed.items() if fields[1] == ".M"}
    kept = [path for path, it in read_pointers(git, touched).items() if it.matches(location.top / path)]
    unmerged = (line.split(" ", 10)[-1] for line in entries if line.startswith("u"))
    dirty = sorted({*changed, *unmerged} - {*kept})
    return tuple(map(readable, dirty)), tuple(modules)


def _status(git: Git, location: Location, *options: str) -> list[str]:
    listing = git(
        *("status", "--porcelain=v2", "-z", "--no-renames", "--untracked-files=normal"),
        *("--ignore-submodules=all", *options),
        directory=location.directory,
        work_tree=location.top,
    )
    return [line for line in listing.split("\0") if line]


def _suffixes() -> Iterator[str]:
    yield ""
    yield from ascii_lowercase[1:]
    for length in count(2):
        yield from map("".join, product(ascii_lowercase, repeat=length))
