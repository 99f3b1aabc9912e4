"""A folder with exactly the files of a commit, as git stores them.

No filter, hook or other program runs, and no line end changes. What a filter would have to make is resolved
before: content of Git LFS is read from where git-lfs keeps it, submodules from where the checkout keeps them,
and whatever else needs a program is refused in one sentence.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from loop.errors import UserError
from loop.files import check_no_link, make_folders, place, temporary_folder, writing
from loop.git.commands import Git, GitError, Location, locate
from loop.text import one_line

LINK, EXECUTABLE, SUBMODULE = "120000", "100755", "160000"  # modes, as git has them
LFS = "lfs"  # the filter of git-lfs, known by its name wherever it is configured
POINTER_SIZE = 1024  # bytes; a larger file is no pointer (git-lfs, docs/spec.md)
CHUNK = 1 << 20  # bytes

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_POINTER = re.compile(rb"version https://[^\n]+/spec/v1\r?\noid sha256:([0-9a-f]{64})\r?\nsize (\d+)\s*")


@dataclass(frozen=True, slots=True)
class File:
    """A file of a commit; its path is within the folder that it is for, also that of a submodule's file."""

    path: str
    mode: str
    id: str
    size: int  # bytes; 0 for a submodule


@dataclass(frozen=True, slots=True)
class Pointer:
    """What git stores of a file that Git LFS keeps."""

    hash: str
    size: int

    def matches(self, path: Path) -> bool:
        try:
            if path.stat().st_size != self.size:
                return False
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.hash
        except OSError:
            return False


def read_pointers(git: Git, files: Mapping[str, str]) -> dict[str, Pointer]:
    """Return which of the files, given with their object ids, git stores as a pointer of Git LFS."""
    contents = (blob.read(size or 0) for size, blob in git.blobs(list(files.values())))
    found = {path: _POINTER.fullmatch(content) for path, content in zip(files, contents, strict=True)}
    return {path: Pointer(match[1].decode(), int(match[2])) for path, match in found.items() if match}


def write_files(git: Git, root: Path, files: Sequence[File]) -> None:
    """Write files that are not there yet; no link that lies below `root` leads out of it."""
    made = set()
    links = []
    with closing(git.blobs([file.id for file in files])) as contents:
        for file, (size, blob) in zip(files, contents, strict=True):
            if size is None:
                raise _not_there(git, file.path)
            if file.mode == LINK:
                links.append((file.path, os.fsdecode(blob.read(size))))
                continue
            folder = file.path.rpartition("/")[0]
            if folder not in made:
                make_folders(root, file.path)
                made.add(folder)
            mode = 0o777 if file.mode == EXECUTABLE else 0o666
            descriptor = os.open(f"{root}/{file.path}", _NEW, mode)
            try:
                _copy(blob, descriptor, size)
            finally:
                os.close(descriptor)
    for path, leads_to in links:  # last, so that no file is written through one
        make_folders(root, path)
        (root / path).symlink_to(leads_to)


def _copy(source: IO[bytes], descriptor: int, size: int) -> None:
    while size and (chunk := source.read(min(size, CHUNK))):  # too little, and git's end is found out there
        size -= len(chunk)
        while chunk:
            chunk = chunk[os.write(descriptor, chunk) :]


@dataclass(slots=True)
class _Plan:
    """How the files of a commit come about, but for the editable one."""

    blobs: list[tuple[Git, list[File]]] = field(default_factory=list)
    copies: dict[File, Path] = field(default_factory=dict)
    submodules: list[str] = field(default_factory=list)


class Source:
    """Fills the folders of a run's trainings. Made once a run: it reads all LFS content to check it.

    `links` are the paths of the checkout that a training's folder has as links, with what they lead to.

    Raises:
        UserError: a file of `commit` cannot be had without running a program, or is not here.
    """

    def __init__(
        self,
        repository: Path,
        commit: str,
        *,
        editable: str,
        frozen: Sequence[str] = (),
        link_paths: Sequence[str] = (),
    ) -> None:
        location = locate(repository)
        self.links = _find_links(location, link_paths, written=(editable, *frozen))
        self._git = Git(location.common)
        self._top = location.top
        self._editable = editable
        self._executable = False
        self._checked: dict[Path, Pointer] = {}
        self._commit = ""  # the last one, its files, and how they come about
        self._files: list[File] = []
        self._plan = _Plan()
        self._resolve(commit)

    def fill(self, folder: Path, commit: str) -> None:
        """Make `folder` with all files of `commit` but the editable one, or leave nothing."""
        self._resolve(commit)
        check_no_link(folder.parent)
        try:
            with writing(folder):
                folder.mkdir(parents=True)
        except UserError as error:
            if isinstance(error.__cause__, FileExistsError):
                raise UserError(f"{folder} exists already: remove it.") from None
            raise
        try:
            with writing(folder):
                self._write(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def write_editable(self, folder: Path, source: str) -> None:
        with writing(folder):
            place(folder, self._editable, source.encode(), executable=self._executable)

    def _write(self, folder: Path) -> None:
        for path in self._plan.submodules:
            make_folders(folder, f"{path}/file")
        for git, files in self._plan.blobs:
            write_files(git, folder, files)
        for file, content in self._plan.copies.items():
            target = folder / file.path
            make_folders(folder, file.path)
            shutil.copyfile(content, target)
            if file.mode == EXECUTABLE:
                mode = target.stat().st_mode
                target.chmod(mode | (mode & 0o444) >> 2)
        for path, leads_to in self.links.items():
            make_folders(folder, path)
            (folder / path).symlink_to(leads_to)

    def _resolve(self, commit: str) -> None:
        """Find out how the files of `commit` come about; mostly only the editable one is another."""
        if commit == self._commit:
            return
        files = _list_files(self._git, commit)
        self._executable = any(f.mode == EXECUTABLE for f in files if f.path == self._editable)
        others = [file for file in files if file.path != self._editable]
        if others != self._files:
            plan = _Plan()
            self._add(plan, self._git, commit, files)
            self._files, self._plan = others, plan
        self._commit = commit

    def _add(self, plan: _Plan, git: Git, commit: str, files: Iterable[File], *, below: str = "") -> None:
        """Add the files of a repository, that of the submodule at `below` where that is given."""
        files = list(files)
        attributed = any(file.path.endswith(".gitattributes") for file in files)
        files = [file for file in files if not any(_holds(link, file.path) for link in self.links)]
        submodules = [file for file in files if file.mode == SUBMODULE]
        stored = [file for file in files if file.mode != SUBMODULE]
        for file in stored:
            if behind := [link for link in self.links if _holds(file.path, link)]:
                raise UserError(f"LINK_PATHS names {behind[0]}, but {file.path} is no folder: name that.")
        by_lfs = _check_attributes(git, commit, stored, below=below, attributed=attributed)
        copies = self._find_content(git, by_lfs)
        plan.copies |= copies
        plan.blobs.append((git, [f for f in stored if f not in copies and f.path != self._editable]))
        named = submodules and git.read(f"{commit}:.gitmodules") is not None
        for file in submodules:
            plan.submodules.append(file.path)
            inner = self._open_submodule(file)
            if inner is not None:
                inside = f"{file.path}/"
                self._add(plan, inner, file.id, _list_files(inner, file.id, below=inside), below=inside)
            elif named:  # otherwise no checkout has more than an empty folder
                raise UserError(
                    f"The submodule {file.path} is not in {self._where} as the commit has it: "
                    "run `git submodule update --init --recursive` there."
                )

    def _open_submodule(self, file: File) -> Git | None:
        folder = self._where / file.path
        if not (folder / ".git").exists():
            return None
        location = locate(folder)
        git = Git(location.common)
        return git if location.top == folder.resolve() and git.commit_of(file.id) else None

    def _find_content(self, git: Git, files: Iterable[File]) -> dict[File, Path]:
        """Return where git-lfs keeps the content of files; those that are no pointers are as git has them."""
        small = {file: file.id for file in files if file.size <= POINTER_SIZE}
        if not small:
            return {}
        pointers = read_pointers(git, {file.path: name for file, name in small.items()})
        storage = git.directory / (git("config", "--type=path", "lfs.storage", accept=(0, 1)) or "lfs")
        found, missing = {}, []
        for file in small:
            if pointer := pointers.get(file.path):
                path = storage / "objects" / pointer.hash[:2] / pointer.hash[2:4] / pointer.hash
                if not path.exists():
                    missing.append(file.path)
                    continue
                if self._checked.get(path) != pointer and not pointer.matches(path):
                    raise UserError(
                        f"What Git LFS has of {file.path} is damaged: remove {path} and run `git lfs pull` "
                        f"in {self._where}."
                    )
                self._checked[path] = pointer
                found[file] = path
        if missing:
            more = f" and of {len(missing) - 1} more" if len(missing) > 1 else ""
            raise UserError(
                f"Git LFS has not fetched the content of {missing[0]}{more}: "
                f"run `git lfs pull` in {self._where}."
            )
        return found

    @property
    def checkout(self) -> Path | None:
        """The user's, None for a bare repository."""
        return self._top

    @property
    def _where(self) -> Path:
        return self._top or self._git.directory


def _holds(folder: str, path: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _find_links(location: Location, paths: Sequence[str], *, written: Iterable[str]) -> dict[str, Path]:
    links: dict[str, Path] = {}
    for path in sorted(str(PurePosixPath(path)) for path in paths):
        _check_path(path)
        if location.top is None:
            raise UserError(f"LINK_PATHS needs a checkout, but {location.common} is bare: clone it.")
        if any(_holds(path, name) for name in written):
            raise UserError(f"LINK_PATHS names {path}, which the bot has to write itself: name data only.")
        if not os.path.lexists(location.top / path):
            raise UserError(f"LINK_PATHS names {path}, which is not in {location.top}: put it there.")
        if not any(_holds(link, path) for link in links):
            links[path] = location.top / path
    return links


def _check_path(path: str) -> None:
    parts = path.lower().split("/")
    if not {"", ".", "..", ".git"}.isdisjoint(parts):
        raise UserError(f"The path {path!r} cannot be in a training's folder: rename it.")


def _list_files(git: Git, commit: str, *, below: str = "") -> list[File]:
    try:
        listing = git("ls-tree", "-r", "-z", "--long", "--full-tree", commit)
    except GitError as error:
        if "promisor" in error.stderr:
            raise _not_there(git, f"commit {commit[:7]}") from error
        raise
    files = []
    for line in filter(None, listing.split("\0")):
        facts, path = line.split("\t", 1)
        mode, _, name, size = facts.split()
        _check_path(path)
        if not size.isdigit() and mode != SUBMODULE:
            raise _not_there(git, below + path)
        files.append(File(below + path, mode, name, int(size) if size.isdigit() else 0))
    return files


def _check_attributes(
    git: Git, commit: str, files: Iterable[File], *, below: str, attributed: bool
) -> list[File]:
    """Refuse files whose attributes call for a program or a conversion; return those of Git LFS.

    `attributed` says whether the commit has attributes of its own: the user may have some everywhere.
    """
    regular = {file.path.removeprefix(below): file for file in files if file.mode != LINK}
    with temporary_folder() as folder:
        index = folder / "index"
        if attributed:
            git("read-tree", commit, index=index)
        values = git(
            *("check-attr", "-z", "--cached", "--stdin", "filter", "working-tree-encoding"),
            index=index,
            work_tree=folder,
            stdin="".join(f"{path}\0" for path in regular).encode("utf-8", "surrogateescape"),
        ).split("\0")
    filters = set(values[2::3]) - {"unspecified", LFS}
    programs = _read_programs(git) if filters else {}
    by_lfs = []
    for path, name, value in zip(values[::3], values[1::3], values[2::3], strict=False):
        need = ""
        if name == "filter" and value == LFS:
            by_lfs.append(regular[path])
        elif name == "filter" and value in programs:
            need = f"the git filter {value} (`{one_line(programs[value], 60)}`), which the bot does not run"
        elif name != "filter" and value.upper() not in ("UNSPECIFIED", "UNSET", "SET", "UTF-8"):
            need = f"the working-tree-encoding {value}, which the bot does not make"
        if need:
            raise UserError(
                f"{below}{path} needs {need}: set LINK_PATHS={below}{path} to use the checkout's, "
                "or commit it as it is to be read."
            )
    return by_lfs


def _read_programs(git: Git) -> dict[str, str]:
    """Return by the names of filters the programs that change what git stores when it is checked out."""
    listing = git("config", "-z", "--get-regexp", r"^filter\..*\.(smudge|process)$", accept=(0, 1))
    entries = (entry.partition("\n") for entry in listing.split("\0"))
    return {
        key.removeprefix("filter.").rpartition(".")[0]: program
        for key, _, program in entries
        if program.strip() not in ("", "cat")
    }


def _not_there(git: Git, path: str) -> UserError:
    return UserError(
        f"{git.directory} does not have the whole content of {path}: clone the repository without --filter."
    )
