"""What careless hands and dying machines do to the files of a run."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.chaos.site import Site

GARBAGE = b"\x00\xff garbage \n---\nval_bpb: oops\n"

FALSE_RESULT = b"""---
val_bpb: 0.100000
training_seconds: 1.0
total_seconds: 2.0
peak_vram_mb: 512.0
"""

MINE = ("train.py", "results.tsv", "run.log", "program.md", ".git")
"""What may be deleted one by one. `prepare.py` may not: a number from a changed evaluator is a crash."""


def damage(site: Site, chance: random.Random) -> str:
    """Do one thing to the run's files and return what it was; whatever is in the way is no matter."""
    kind = chance.choice([name for name, weight in _KINDS.items() for _ in range(weight[0])])
    try:
        _KINDS[kind][1](site, chance)
    except OSError:  # gone already, or the disk is full: somebody else did worse
        return f"{kind} (in vain)"
    return kind


def fill(site: Site) -> None:
    """Leave no byte free in the state directory."""
    block = bytes(2**16)
    with _ballast(site).open("wb", buffering=0) as file:
        try:
            while file.write(block):
                pass
        except OSError:
            return


def free(site: Site) -> None:
    """Give the room back."""
    _ballast(site).unlink(missing_ok=True)


def _ballast(site: Site) -> Path:
    return site.home / "ballast"


def _worktree(site: Site) -> Path:
    tag = site.tag()
    if tag is None:
        raise FileNotFoundError("the state file cannot be read now")
    return site.home / "worktrees" / tag


def _delete_worktree(site: Site, _: random.Random) -> None:
    shutil.rmtree(_worktree(site))


def _delete_files(site: Site, chance: random.Random) -> None:
    for name in chance.sample(MINE, chance.randint(1, 3)):
        (_worktree(site) / name).unlink(missing_ok=True)


def _write_garbage(site: Site, chance: random.Random) -> None:
    path = _worktree(site) / chance.choice(("train.py", "results.tsv"))
    with path.open(chance.choice(("ab", "wb"))) as file:
        file.write(GARBAGE)


def _spoil_log(site: Site, chance: random.Random) -> None:
    """Delete the log, empty it, or write over it, at its end or in its place, at times a false result."""
    path = _worktree(site) / "run.log"
    mode = chance.choice(("delete", "ab", "wb", "r+b"))
    if mode == "delete":
        path.unlink()
        return
    with path.open(mode) as file:
        file.write(chance.choice((b"", GARBAGE, FALSE_RESULT)))


def _leave_lock(site: Site, _: random.Random) -> None:
    for registration in (site.repository / ".git" / "worktrees").iterdir():
        (registration / "index.lock").touch()


def _half_an_outcome(site: Site, _: random.Random) -> None:
    with (_newest(site, "[0-9]*-*") / "outcome.json").open("wb") as file:
        file.write(b'{"ending": "exi')
        os.fsync(file.fileno())


def _delete_attempt(site: Site, _: random.Random) -> None:
    _delete_at_once(_newest(site, "[0-9]*-*"))


def _delete_ahead(site: Site, _: random.Random) -> None:
    _delete_at_once(_newest(site, "ahead-*"))


def _delete_at_once(folder: Path) -> None:
    """Delete all of a folder: one that a training begins in meanwhile would lose its evaluator alone."""
    gone = folder.with_name(f"deleted-{folder.name}")
    folder.rename(gone)
    shutil.rmtree(gone)


def _newest(site: Site, pattern: str) -> Path:
    found = [(path.stat().st_mtime, path) for path in (site.home / "trainings").glob(f"[0-9]*/{pattern}")]
    if not found:
        raise FileNotFoundError(pattern)
    return max(found)[1]


_KINDS: dict[str, tuple[int, Callable[[Site, random.Random], None]]] = {
    "worktree deleted": (2, _delete_worktree),
    "files deleted": (2, _delete_files),
    "garbage written": (2, _write_garbage),
    "log spoiled": (4, _spoil_log),
    "stale lock": (2, _leave_lock),
    "half an outcome": (2, _half_an_outcome),
    "attempt deleted": (1, _delete_attempt),
    "folder ahead deleted": (1, _delete_ahead),
}
