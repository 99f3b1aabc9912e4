"""Folders that tests begin with: each is made once a process, and copied: git takes ten times as long."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Hashable
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TypeVarTuple, Unpack

Ts = TypeVarTuple("Ts")


def copy_of(folder: Path, make: Callable[[Path, Unpack[Ts]], None], *arguments: *Ts) -> None:
    """Do as `make(folder, *arguments)`, which fills a folder with what holds no path of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(_made(make, *arguments), folder, symlinks=True, dirs_exist_ok=True)


@cache
def _made(make: Callable[..., None], *arguments: Hashable) -> Path:
    folder = Path(tempfile.mkdtemp())
    Finalize(None, shutil.rmtree, (folder, True), exitpriority=1)  # at the end of a forked worker, too
    make(folder, *arguments)
    return folder


def connect(worktree: Path, registration: Path) -> None:
    """Let a copied worktree and its repository name each other: they do by their whole paths."""
    (worktree / ".git").write_text(f"gitdir: {registration}\n")
    (registration / "gitdir").write_text(f"{worktree}/.git\n")
