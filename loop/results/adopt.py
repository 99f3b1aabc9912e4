"""Takes over a night that was begun by hand or by an agent: its branch, its results, its best program."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from loop.errors import UserError
from loop.experiment import Ending, Experiment, Stage, Status, Training
from loop.git.commands import Git, count_lines, read_diffs
from loop.git.repository import check_tag
from loop.store.experiments import TAKEN_OVER, Row

_PREFIX = "autoresearch/"
_ID = re.compile("[0-9a-f]{4,64}")  # other words, such as `baseline`, may be the name of something else


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What is taken over: decided experiments, the commit that all began from, and the best one now.

    `unnamed` are the keeps that cannot be the best, as their commit is unknown.
    """

    tag: str
    base: str
    head: str
    experiments: tuple[Experiment, ...]
    unnamed: tuple[int, ...] = ()

    @property
    def branch(self) -> str:
        return f"{_PREFIX}{self.tag}"


def read_inheritance(
    git: Git, branch: str, rows: Sequence[Row], *, tag: str | None, metric: str, editable: str, now: float
) -> Inheritance:
    """Return what there is to take over on `branch`; `rows` are its `results.tsv`, empty where it has none.

    Without rows the head of the branch becomes the baseline. `tag` makes a branch of its own, from the last
    kept row; without it the run goes on with `branch` itself.

    Raises:
        UserError: the branch does not fit the rows or the name, with the fix.
    """
    head = git("rev-parse", "--verify", f"refs/heads/{branch}^{{commit}}")
    if tag is None and not branch.startswith(_PREFIX):
        raise UserError(f"Branch {branch} is not called {_PREFIX}TAG: choose a name with --tag.")
    name = tag or branch.removeprefix(_PREFIX)
    check_tag(name)
    commits = [_with_id(git, row.commit) if _ID.fullmatch(row.commit) else None for row in rows]
    unnamed = _unnamed(rows)
    rows = [replace(row, status=Status.DISCARD) if row.number in unnamed else row for row in rows]
    best = next((i for i in reversed(range(len(rows))) if rows[i].status is Status.KEEP), None)
    # Without a keep the engine takes the base for the best; else it is the first row's, or the fork.
    base = head if best is None else commits[0] or git("merge-base", "HEAD", head, accept=(0, 1, 128)) or head
    kept = head
    if best is not None:
        kept = commits[best] or _named_otherwise(git, rows[best], base=base, head=head)
        commits[best] = kept
    if kept != head and tag is None:
        raise UserError(
            f"Branch {branch} is at {head[:7]}, but the last kept result is #{best} at {kept[:7]}: save what "
            f"you need, then `git branch -f {branch} {kept[:7]}`; or name a new branch with --tag."
        )
    diffs = read_diffs(git, filter(None, commits), editable)
    experiments = tuple(_experiments(rows, commits, base, diffs, metric=metric, now=now))
    return Inheritance(name, base, kept, experiments, unnamed)


def _unnamed(rows: Sequence[Row]) -> tuple[int, ...]:
    """Return the numbers of the keeps after the last one with an id; none where no keep has one."""
    keeps = [row for row in rows if row.status is Status.KEEP]
    last = max((row.number for row in keeps if _ID.fullmatch(row.commit)), default=None)
    return () if last is None else tuple(row.number for row in keeps if row.number > last)


def _named_otherwise(git: Git, last: Row, *, base: str, head: str) -> str:
    """Return the commit of the last kept row where its id is not one that git has.

    Raises:
        UserError: git has no commit of that id.
    """
    if _ID.fullmatch(last.commit):
        raise UserError(
            f"The last kept result, #{last.number}, is commit {last.commit}, which {git.directory.parent} "
            "does not have: give the results of this branch, or correct that line in a copy of them."
        )
    return base if last.number == 0 else head


def make_branch(git: Git, found: Inheritance) -> None:
    """Make the run's branch where it is to be a new one.

    Raises:
        UserError: there is one of that name already.
    """
    git("update-ref", f"refs/heads/{found.branch}", found.head, "0" * len(found.head))


def drop_branch(git: Git, found: Inheritance) -> None:
    git("update-ref", "-d", f"refs/heads/{found.branch}", found.head, accept=(0, 1, 128))


def check_refs(git: Git, found: Inheritance) -> None:
    """Refuse a tag whose refs are those of other experiments: a run that was lost has left them.

    Raises:
        UserError: there are such refs.
    """
    wanted = _refs(found)
    for ref, commit in _refs_there(git, found).items():
        if wanted.get(ref) != commit:
            raise UserError(
                f"{git.directory.parent} has experiments of an earlier run {found.tag} (such as {ref}): "
                "choose another name with --tag."
            )


def keep_reachable(git: Git, found: Inheritance) -> None:
    """Give a ref to every experiment whose commit git still has.

    Raises:
        UserError: a ref of that name is another commit's.
    """
    there = _refs_there(git, found)
    steps = [f"create {ref} {commit}\n" for ref, commit in _refs(found).items() if there.get(ref) != commit]
    if steps:
        git("update-ref", "--stdin", stdin="".join(steps).encode())


def _refs(found: Inheritance) -> dict[str, str]:
    return {
        f"refs/autoresearch/{found.tag}/{experiment.number}": experiment.commit
        for experiment in found.experiments
        if len(experiment.commit) >= len(found.head)
    }


def _refs_there(git: Git, found: Inheritance) -> dict[str, str]:
    lines = git("for-each-ref", "--format=%(refname) %(objectname)", f"refs/autoresearch/{found.tag}/")
    return dict(line.split() for line in lines.splitlines())


def _experiments(
    rows: Sequence[Row],
    commits: Sequence[str | None],
    base: str,
    diffs: Mapping[str, str],
    *,
    metric: str,
    now: float,
) -> Iterator[Experiment]:
    best: float | None = None
    parent = base
    for row, commit in zip(rows, commits, strict=True):
        numbers = {} if row.value is None else {metric: row.value, "peak_vram_mb": row.memory_gb * 1024}
        added, removed = count_lines(diffs.get(commit or "", "")) if best is not None else (0, 0)
        yield Experiment(
            run_id=0,
            number=row.number,
            stage=Stage.DECIDED,
            description=row.description,
            rationale="",
            proposer=TAKEN_OVER,
            parent=parent,
            commit=commit or row.commit,
            lines_added=added,
            lines_removed=removed,
            proposed_at=now,
            decided_at=now,
            training=None
            if row.status is Status.SKIP
            else Training(0, ending=Ending.EXITED, numbers=numbers),
            value=row.value,
            best_before=best,
            # Nobody can be asked about what was doubted elsewhere.
            status=Status.DISCARD if row.status is Status.QUARANTINE else row.status,
            reason="taken over",
        )
        if row.status is Status.KEEP:
            best, parent = row.value, commit or parent


def _with_id(git: Git, digits: str) -> str | None:
    """Return the commit with this id, which may be cut; no branch or tag of that name is meant."""
    commit = git("rev-parse", "--verify", "--quiet", f"{digits}^{{commit}}", accept=(0, 1, 128))
    return commit if commit.startswith(digits) else None
