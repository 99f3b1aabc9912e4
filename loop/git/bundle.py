"""The kept changes of a run as a tidy branch, ready to be merged. Nothing is ever pushed."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from loop.errors import UserError
from loop.experiment import Experiment, Run
from loop.gain import change, number
from loop.git.commands import Git, is_commit_id, locate
from loop.shell import own_command
from loop.text import one_line

_SUBJECT = 72  # characters, and the width of a message's lines
_PATCH = (
    *("--stdout", "--no-signature", "--no-attach", "--no-thread", "--no-cover-letter", "--no-signoff"),
    *("--full-index", "--no-ext-diff", "--no-textconv", "--text", "--src-prefix=a/", "--dst-prefix=b/"),
)
_MADE = "refs/autoresearch-clean/"  # where a branch of ours was left, by tag


@dataclass(frozen=True, slots=True)
class TidyBranch:
    """A branch of its own with the kept changes on top of the run's base; `patch` is for `git am`.

    `remotes` are those of its repository.
    """

    name: str
    head: str
    commits: int
    patch: bytes
    remotes: tuple[str, ...] = ()


def tidy_branch(run: Run, keeps: Sequence[Experiment], *, squash: bool = False) -> TidyBranch:
    """Make branch `autoresearch/<tag>-clean`, or bring the one made before up to date.

    `keeps` are the run's, in order, without the baseline. The same keeps give the same commits.
    """
    if not keeps:
        raise UserError(f"Run {run.tag} has kept nothing but its baseline: there is nothing to merge.")
    git = Git(locate(run.repository).common)
    name = f"{run.branch}-clean"
    before = _check_ours(git, run, name)
    head = run.base_commit
    groups = [keeps] if squash else [[keep] for keep in keeps]
    _check_there(git, [group[-1] for group in groups], squash=squash)
    for group in groups:
        head = _commit(git, run, group, parent=head)
    old = f" {before}" if before else ""
    moves = f"update refs/heads/{name} {head}{old}\nupdate {_MADE}{run.tag} {head}\n"
    git("update-ref", "--stdin", stdin=moves.encode())
    patch = git("format-patch", *_PATCH, f"{run.base_commit}..{head}") + "\n"
    made, remotes = patch.encode("utf-8", "surrogateescape"), tuple(git("remote").split())
    return TidyBranch(name, head, 1 if squash else len(keeps), made, remotes)


def _check_there(git: Git, keeps: Sequence[Experiment], *, squash: bool) -> None:
    """Refuse keeps without a commit: what was adopted may name some by a word, or have lost them since."""
    for keep in keeps:
        if not is_commit_id(keep.commit) or git.commit_of(keep.commit) is None:
            fix = "" if squash else f": `{own_command('bundle --squash')}` makes one commit of all"
            raise UserError(f"git does not have the commit {keep.commit or '?'} of #{keep.number}{fix}.")


def _check_ours(git: Git, run: Run, name: str) -> str | None:
    found = git.commit_of(f"refs/heads/{name}")
    if found is None:
        return None
    if found != git.commit_of(f"{_MADE}{run.tag}"):
        raise UserError(
            f"Branch {name} of {run.repository} is not as the bot left it: rename it with "
            f"`git branch -m {name} OTHER`, then ask again."
        )
    if path := git.checkout_of(name):
        raise UserError(f"Branch {name} is checked out in {path}: switch to another branch there.")
    return found


def _commit(git: Git, run: Run, keeps: Sequence[Experiment], *, parent: str) -> str:
    last = keeps[-1]
    shown = git("show", "--no-patch", "--format=%an%n%ae%n%at%n%cn%n%ce%n%ct", last.commit).split("\n")
    names = [f"GIT_{role}_{part}" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL", "DATE")]
    # Who and when, from the experiment's own commit: so the same keeps give the same commits.
    who = {n: f"@{v} +0000" if n.endswith("DATE") else v for n, v in zip(names, shown, strict=True)}
    return git(
        *("commit-tree", f"{last.commit}^{{tree}}", "-p", parent),
        stdin=_message(run, keeps).encode("utf-8", "surrogateescape"),
        environment=who,
    )


def _message(run: Run, keeps: Sequence[Experiment]) -> str:
    if len(keeps) == 1:
        (keep,) = keeps
        subject, body = keep.description, keep.rationale
        numbers = f"{_change(run, keep, keep)}, experiment #{keep.number} of run {run.tag}"
    else:
        subject = f"Keep what run {run.tag} found"
        body = "\n".join(f"- {one_line(keep.description)} ({_change(run, keep, keep)})" for keep in keeps)
        numbers = _change(run, keeps[0], keeps[-1])
    paragraphs = (one_line(subject, _SUBJECT), _wrapped(body), numbers)
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def _change(run: Run, first: Experiment, last: Experiment) -> str:
    before, after = first.best_before, last.value
    if before is None or after is None:
        return f"{run.metric} {after}"
    return f"{run.metric} {number(before)} → {number(after, before)} ({change(before, after)})"


def _wrapped(text: str) -> str:
    lines = (one_line(line) for line in text.splitlines())
    return "\n".join(textwrap.fill(line, _SUBJECT, break_long_words=False) for line in lines if line)
