"""`autoresearch adopt`: a new run that goes on from a branch of experiments made without this bot."""

from __future__ import annotations

import os
from pathlib import Path

from bot.cli import goal_text, renamed_text
from bot.current import foremost
from bot.local.wire import bot_answers
from bot.setup.settings import Settings
from loop.errors import UserError
from loop.experiment import Run, RunState
from loop.folders import worktree
from loop.git.commands import Git, locate
from loop.git.repository import branches, inspect, read_time_budget, with_imports
from loop.git.workspace import Workspace
from loop.results.adopt import check_refs, drop_branch, keep_reachable, make_branch, read_inheritance
from loop.results.table import Results, parse_results, read_results
from loop.shell import own_command
from loop.store.journal import Journal
from notifiers.text.certainty import numbers

RESULTS = "results.tsv"


def adopt(
    settings: Settings,
    journal: Journal,
    *,
    repository: Path,
    branch: str,
    results: Path | None,
    tag: str | None,
    now: float,
) -> tuple[Run, str]:
    """Return a new run with everything that was done on `branch`, and what was read, as lines of text.

    The branch only ever moves forward, as any run's does. `results` is read and never changed; without it
    the results.tsv of the checkout or the branch is.
    """
    _check_free(settings, journal)
    _check_named(repository, branch)
    facts = inspect(repository, branch, editable=settings.editable, frozen=settings.frozen)
    git = Git(locate(facts.path).common)
    rows, place = _results(git, facts.path, branch, results, settings.metric)
    metric = rows.metric
    if contradiction := goal_text(rows, settings.metric_goal):
        raise UserError(f"{place}: {contradiction}")
    found = read_inheritance(
        git, branch, rows.rows, tag=tag, metric=metric, editable=settings.editable, now=now
    )
    if any(found.tag in (run.tag, run.renamed_from) for run in journal.runs()):
        raise UserError(f"Run {found.tag} exists already: choose another name with --tag.")
    check_refs(git, found)
    if found.branch != branch:
        make_branch(git, found)
    workspace = Workspace(
        repository=facts.path,
        path=worktree(settings.home, found.tag),
        tag=found.tag,
        editable=settings.editable,
        frozen=with_imports(facts.path, found.base, settings.frozen, editable=settings.editable),
    )
    try:
        workspace.adopt()
    except UserError:
        if found.branch != branch:
            drop_branch(git, found)
        raise
    keep_reachable(git, found)
    run = journal.create_run(
        tag=found.tag,
        repository=facts.path,
        base_branch=branch,
        base_commit=found.base,
        metric=metric,
        goal=settings.metric_goal,
        time_budget=read_time_budget(facts.path, found.base, settings.frozen) or settings.time_budget,
        adopted=found.experiments,
    )
    said = f"Results: {place}." if rows.rows else "No results.tsv was found: its experiments are not known."
    lost = f"Discarded, as their commit is unknown: {numbers(found.unnamed)}." if found.unnamed else ""
    return run, "\n".join(filter(None, (said, renamed_text(rows), lost)))


def _results(git: Git, checkout: Path, branch: str, named: Path | None, metric: str) -> tuple[Results, str]:
    """Return the results on a branch and where they are from: named, in the checkout of it, or committed.

    The practice does not commit them, so those in a checkout of another branch are the last resort.
    """
    if named:
        return read_results(named, metric), str(named)
    file = checkout / RESULTS
    here = git("symbolic-ref", "--quiet", "HEAD", accept=(0, 1)) == f"refs/heads/{branch}"
    committed = git.read(f"refs/heads/{branch}:{RESULTS}")
    if file.is_file() and (here or committed is None):
        return read_results(file, metric), str(file)
    if committed is not None:
        place = f"{RESULTS} of branch {branch}"
        return parse_results(committed.decode("utf-8", "replace"), metric, name=place), place
    return Results(metric, ()), RESULTS


def _check_named(repository: Path, branch: str) -> None:
    if not os.path.isdir(repository):  # noqa: PTH112 - false also of what cannot be looked at
        raise UserError(f"No folder {repository}: name the training repository with --repo.")
    known = branches(repository)
    if branch not in known:
        there = ", ".join(known) or "none"
        raise UserError(f"No branch {branch} in {repository}; branches: {there}.")


def _check_free(settings: Settings, journal: Journal) -> None:
    if bot_answers(settings.socket) is not False:
        raise UserError(
            "The bot is running: stop it, adopt, and start it again; its training continues meanwhile."
        )
    run = foremost(journal.active_runs())
    if run is not None and run.state is not RunState.DONE:
        raise UserError(
            f"Run {run.tag} is {run.state.value}, and no bot is running. "
            f"End it first: `{own_command(f'up --tag {run.tag}', settings.home)}`, then type /stop."
        )
