"""A throw-away git repository for tests, and a way to see that nothing in it changed."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from loop.git.workspace import Commit, Workspace
from tests.copies import copy_of

PREPARE = "TIME_BUDGET = 60 * 5\n"
TRAIN = "LR = 0.1\nDEPTH = 8\nprint('training')\n"

OURS = (
    "objects",
    "worktrees",
    "info/exclude",
    "refs/autoresearch",
    "refs/heads/autoresearch",
    "logs/refs/heads/autoresearch",
)
"""What a run may write in a git directory."""


def git(folder: Path, *arguments: str, stdin: str | None = None) -> str:
    """Run git as a person would, and return what it printed less the last line end."""
    result = subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True, input=stdin
    )
    return result.stdout.removesuffix("\n")


def make_repository(path: Path, files: dict[str, str] | None = None) -> Path:
    """Make a training repository with one commit on branch main, and a user known to git."""
    defaults = {"prepare.py": PREPARE, "train.py": TRAIN, "program.md": "Lower val_bpb.\n"}
    copy_of(path, _make_repository, tuple({**defaults, **(files or {})}.items()))
    return path


def _make_repository(path: Path, files: tuple[tuple[str, str], ...]) -> None:
    git(path, "init", "--quiet", "--initial-branch=main", "--template=")  # which has a dozen files
    for folder in ("hooks", "info"):
        (path / ".git" / folder).mkdir()
    (path / ".git/info/exclude").touch()
    with (path / ".git" / "config").open("a") as config:
        config.write("[user]\n\tname = Researcher\n\temail = researcher@example.org\n")
    write_files(path, dict(files))
    git(path, "commit", "--quiet", "-m", "first\n\nand more")


def write_files(path: Path, files: dict[str, str]) -> None:
    """Write files to a checkout and add them to what is committed next."""
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(text.encode())
    git(path, "add", "--", *files)


def commit_files(path: Path, files: dict[str, str], message: str) -> str:
    """Write files to a checkout, commit them and return the commit."""
    write_files(path, files)
    git(path, "commit", "--quiet", "-m", message)
    return git(path, "rev-parse", "HEAD")


def snapshot(repository: Path) -> dict[str, str]:
    """Return a digest of every file of a checkout and its git directory, but for what a run may write."""
    found = {}
    for path in sorted(repository.rglob("*")):
        name = path.relative_to(repository).as_posix()
        in_git = name.removeprefix(".git/")
        if in_git != name and any(in_git == ours or in_git.startswith(f"{ours}/") for ours in OURS):
            continue
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[name] = f"{path.stat().st_mode:o} {digest}"
    return found


def refs(repository: Path) -> dict[str, str]:
    """Return the commits of all refs."""
    lines = git(repository, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return dict(line.split(" ") for line in lines)


def status(workspace: Workspace) -> str:
    """Return what `git status` says in the worktree, empty when it is clean."""
    return git(workspace.path, "status", "--porcelain")


def kept(workspace: Workspace, number: int, source: str) -> Commit:
    """Make an experiment and keep it."""
    parent = workspace.head()
    commit = workspace.commit(parent, source, f"edit {number}")
    workspace.remember(number, commit.sha)
    workspace.move_head(commit.sha, parent)
    workspace.restore()
    return commit
