"""Throw-away checkouts for coding agents: a commit's files with a git of their own.

An agent may run git. In a linked worktree its commands would reach the branches, the configuration and the
hooks of the user's repository; here they reach nothing but what is thrown away.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
from pathlib import Path
from tempfile import TemporaryDirectory

from loop.files import place
from loop.git.commands import Git, locate
from loop.git.workspace import AUTHOR
from loop.program.edits import LIMIT, EditError
from loop.proposers.agent.keeper import sweep

log = logging.getLogger(__name__)


def make_checkout(repository: Path, commit: str, checkout: Path, *, editable: str, source: str) -> None:
    """Make the folder `checkout`: the files of `commit`, with `source` as the editable one, committed once.

    Nothing in it leads back to `repository`.

    Raises:
        UserError: git refuses.
        OSError: the disk does.
    """
    own = checkout / ".git"
    own.mkdir(parents=True)
    git = Git(locate(repository).common)
    with TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        git("read-tree", commit, index=index)
        git("checkout-index", "--all", index=index, work_tree=checkout)
    executable = os.access(checkout / editable, os.X_OK)
    place(checkout, editable, source.encode(), executable=executable)
    message = f"--message=autoresearch: the program at {commit[:7]}"
    git = Git(own)
    git("init", "--quiet", "--template=", "--initial-branch=main", work_tree=checkout)
    git("add", "--all", "--force", work_tree=checkout)
    git("commit", "--quiet", "--allow-empty", message, environment=AUTHOR, work_tree=checkout)


def read_answer(checkout: Path, editable: str) -> str:
    """Return the editable file as an agent left it. Its processes must be gone.

    Raises:
        EditError: it is no regular file of UTF-8 text, or larger than any program.
    """
    path = checkout / editable
    try:
        if path.resolve() != checkout.resolve() / editable:
            raise EditError(f"A link is in the place of {editable}.")
        if not stat.S_ISREG(path.lstat().st_mode):
            raise EditError(f"Something else is in the place of {editable}.")
        with path.open("rb") as file:
            content = file.read(LIMIT + 1)
    except OSError as error:
        raise EditError(f"{editable} cannot be read: {error.strerror or error}.") from error
    if len(content) > LIMIT:
        raise EditError(f"{editable} has more than {LIMIT:,} bytes.")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise EditError(f"{editable} is not UTF-8 text (byte {error.start}).") from error


def clear(folder: Path) -> None:
    """End the agents that askings before this one left behind in `folder`, and remove their checkouts."""
    for left in sorted(folder.glob("*")):
        sweep(str(left))
        remove(left)


def remove(path: Path) -> None:
    """Remove a folder that an agent had, whatever it put there, without following its links.

    What cannot be removed stays for the next `clear`.
    """
    try:
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.exists():
            _unlock(path)
            shutil.rmtree(path)
    except OSError as error:
        log.warning("%s of a coding agent cannot be removed: %s", path, error)


def _unlock(path: Path) -> None:
    """Let all folders be written to: some tools make theirs read-only."""
    path.chmod(0o700)
    for parent, names, _ in os.walk(path):
        for inner in (Path(parent) / name for name in names):
            if not inner.is_symlink():
                inner.chmod(0o700)
