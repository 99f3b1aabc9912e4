"""What a lane needs on its node: a folder of its own, a clone, data and packages, each made once a node."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from loop.errors import UserError
from loop.files import remove
from loop.git.checkout import Source
from loop.git.commands import Git
from loop.logs.error_line import error_line
from loop.logs.tail import read_tail
from loop.process.environment import PREPARE, Launch, interpreter_of
from loop.process.liveness import end_orphan, find_marked
from loop.process.trainer import read_json
from loop.program.data_paths import find_data
from loop.shell import answer_of

HOME = "AUTORESEARCH_NODE_HOME"  # where lanes keep their files, in the environment of `ray start`
MOST_FILES = 500_000_000  # bytes of a run; the bot keeps them in memory for nodes that come later
PACKAGES_SECONDS = 120.0  # for a Python to list its packages
PREPARE_SECONDS = 3600.0  # for prepare.py to fetch and tokenize

_PACKAGES = """\
import importlib.metadata as m, sys
print(sys.version, sys.platform, *sorted({f"{d.metadata['Name']}=={d.version}" for d in m.distributions()}))
"""


def code_hash() -> str:
    """Name this version of the code: bot and nodes must have the same."""
    digest = hashlib.sha256()
    top = Path(__file__).parents[1]
    for path in sorted(top.rglob("*.py")):
        digest.update(str(path.relative_to(top)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def node_home() -> Path:
    """Return where a node keeps its files: of this machine alone, also where the home directory is shared."""
    chosen = os.environ.get(HOME)
    return Path(chosen) if chosen else Path("~/.cache/autoresearch-node").expanduser() / socket.gethostname()


def take_folder(base: Path) -> tuple[Path, int]:
    """Return a folder for a lane and its lock, which ends with us; end what dead lanes have left."""
    base.mkdir(parents=True, exist_ok=True)
    mine: tuple[Path, int] | None = None
    for index in count():
        folder = base / f"lane-{index}"
        if mine and not folder.exists():
            return mine
        folder.mkdir(exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # a living lane's
            os.close(lock)
            continue
        for left in find_marked(folder):
            end_orphan(left)
        remove(folder / "trainings")
        if mine is None:
            mine = folder, lock
        else:
            os.close(lock)
    raise AssertionError


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make_bundle(repository: Path, commit: str, editable: str, program: str) -> tuple[str, bytes]:
    """Return the files of a training as a bundle, and what they are called there: a commit without history.

    `program` is the text of the `editable` file. Files of submodules and of Git LFS are in it as any others,
    as a node has neither. A run changes only its editable file, which is sent with each training, so one
    bundle a run is enough.

    Raises:
        UserError: one of them is not here, or they are too large to be sent.
    """
    nobody = {
        f"GIT_{who}_{what}": "autoresearch" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    dates = {"GIT_AUTHOR_DATE": "@0 +0000", "GIT_COMMITTER_DATE": "@0 +0000"}
    source = Source(repository, commit, editable=editable)
    with tempfile.TemporaryDirectory() as name:
        folder, files = Path(name), Path(name) / "files"
        source.fill(files, commit)
        source.write_editable(files, program)
        size = sum(file.lstat().st_size for file in files.rglob("*"))
        if size > MOST_FILES:
            raise UserError(
                f"The files of commit {commit[:7]} have {size / 1e6:,.0f} MB, and {MOST_FILES / 1e6:,.0f} MB "
                "is the most that is sent to nodes: let the program read data by an absolute path that "
                "DATA_PATHS names, and put it there on each node."
            )
        git = make_clone(folder / "git")
        (git.directory / "info").mkdir()
        as_they_are = "* -filter -text -ident -working-tree-encoding\n"
        (git.directory / "info" / "attributes").write_text(as_they_are)
        git("add", "--all", "--force", work_tree=files, index=folder / "index")
        tree = git("write-tree", index=folder / "index")
        root = git("commit-tree", tree, environment={**nobody, **dates})
        git("update-ref", "refs/heads/run", root)
        git("bundle", "create", "--quiet", str(folder / "bundle"), "refs/heads/run")
        return root, (folder / "bundle").read_bytes()


def make_clone(path: Path) -> Git:
    path.mkdir(parents=True, exist_ok=True)
    git = Git(path)
    git("init", "--quiet", "--bare", "--template=", str(path))
    return git


def unbundle(clone: Path, commit: str, bundle: bytes) -> Path:
    """Return the clone that has this commit, made of a bundle unless it is there."""
    if clone.exists() and Git(clone).commit_of(commit):
        return clone
    git = make_clone(clone)
    with tempfile.NamedTemporaryFile(dir=clone) as file:
        file.write(bundle)
        file.flush()
        git("bundle", "unbundle", file.name)
    return clone


def data_of(project: Path, frozen: Sequence[str], environ: Mapping[str, str]) -> tuple[Path, ...]:
    for name in frozen:
        if name.endswith(".py") and (found := find_data((project / name).read_text(), environ, Path.home())):
            return found
    return ()


def prepare_data(project: Path, launch: Launch, editable: str, environ: Mapping[str, str], log: Path) -> None:
    argv = [PREPARE if word == editable else word for word in launch.argv]
    argv = argv if PREPARE in argv else [sys.executable, PREPARE]
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                argv,
                cwd=project,
                env={**environ, **launch.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=PREPARE_SECONDS,
                check=False,
            ).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"prepare.py failed there: {error}. See {log}.") from error
    if done:
        raise UserError(f"prepare.py failed there: {error_line(read_tail(log))}. See {log}.")


def data_hash(paths: Sequence[Path], known: Path) -> str:
    """Name the content of data; a file that has not changed since `known` was written is not read again."""
    before, now = read_json(known), dict[str, list[object]]()
    digest = hashlib.sha256()
    for path in paths:
        files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        for file in files:
            status = file.stat()
            entry = before.get(str(file))
            if entry is None or entry[:2] != [status.st_size, status.st_mtime_ns]:
                with file.open("rb") as opened:
                    hashed = hashlib.file_digest(opened, "sha256").hexdigest()
                entry = [status.st_size, status.st_mtime_ns, hashed]
            now[str(file)] = entry
            digest.update(f"{file.relative_to(path) if file != path else file.name}\0{entry[2]}\0".encode())
    known.write_text(json.dumps({**before, **now}))
    return digest.hexdigest()[:12]


def packages_hash(launch: Launch, environ: Mapping[str, str]) -> str:
    """Name the Python that trains and its packages; without a Python, the command."""
    variables = {**environ, **launch.environment}
    found = shutil.which(launch.argv[0], path=variables.get("PATH"))
    python = interpreter_of(Path(found)) if found else None
    said = " ".join(launch.argv).encode()
    if python is not None:
        answer = answer_of(str(python), "-c", _PACKAGES, environ=variables, seconds=PACKAGES_SECONDS)
        said = f"{answer}\n".encode() if answer else b""
    return hashlib.sha256(said).hexdigest()[:12]
