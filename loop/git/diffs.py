"""What experiments changed, as unified diffs that the user's git configuration does not alter."""

from __future__ import annotations

import re
from collections.abc import Iterable

from loop.git.commands import Git, readable

_OPTIONS = ("--patch", "--root", "--text", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-color")
_COMMIT = re.compile(r"(?m)^([0-9a-f]{40}|[0-9a-f]{64})$")


def read_diff(git: Git, commit: str, path: str, *, before: str = "") -> str:
    """Return what `commit` changes in the file `path`, since its parent or since `before`; else empty."""
    commits = (before, commit) if before else (commit,)
    diff = git("diff-tree", *_OPTIONS, "--no-commit-id", *commits, "--", path)
    return f"{readable(diff)}\n" if diff else ""


def read_diffs(git: Git, commits: Iterable[str], path: str) -> dict[str, str]:
    """Return what each of many commits changes in `path`, in one go; what git does not have is left out."""
    wanted = {commit for commit in commits if _COMMIT.fullmatch(commit)}
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
    """Return how many lines a diff adds and removes.

    It is not git's own count, which leaves out files that the user's attributes call binary.
    """
    hunks = diff.partition("\n@@")[2].split("\n")
    added, removed = (sum(line.startswith(sign) for line in hunks) for sign in "+-")
    return added, removed
