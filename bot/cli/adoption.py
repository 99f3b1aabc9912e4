"""`autoresearch adopt`: a new run that goes on from a branch of experiments made without this bot."""

from __future__ import annotations

from pathlib import Path

from bot.local.wire import bot_answers
from bot.setup.settings import Settings
from loop.errors import UserError
from loop.experiment import Run, RunState
from loop.git.commands import Git, locate
from loop.git.repository import branches, inspect, read_time_budget, with_imports
from loop.git.workspace import Workspace
from loop.results.adopt import check_refs, drop_branch, keep_reachable, make_branch, read_inheritance
from loop.results.table import read_results
from loop.store.journal import Journal


def adopt(
    settings: Settings,
    journal: Journal,
    *,
    repository: Path,
    branch: str,
    results: Path | None,
    tag: str | None,
    now: float,
) -> Run:
    """Return a new run with everything that was done on `branch`, for the next start of the bot.

    The branch only ever moves forward, as any run's does. `results` is read and never changed.
    """
    _check_free(settings, journal)
    _check_named(repository, branch)
    rows = read_results(results, settings.metric) if results else None
    metric = rows.metric if rows else settings.metric
    facts = inspect(repository, branch, editable=settings.editable, frozen=settings.frozen)
    git = Git(locate(facts.path).common)
    found = read_inheritance(
        git,
        branch,
        rows.rows if rows else (),
        tag=tag,
        metric=metric,
        editable=settings.editable,
        now=now,
    )
    if any(found.tag in (run.tag, run.renamed_from) for run in journal.runs()):
        raise UserError(f"Run {found.tag} exists already: choose another name with --tag.")
    check_refs(git, found)
    if found.branch != branch:
        make_branch(git, found)
    workspace = Workspace(
        repository=facts.path,
        path=settings.home / "worktrees" / found.tag,
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
    return journal.create_run(
        tag=found.tag,
        repository=facts.path,
        base_branch=branch,
        base_commit=found.base,
        metric=metric,
        goal=settings.metric_goal,
        time_budget=read_time_budget(facts.path, found.base, settings.frozen) or settings.time_budget,
        adopted=found.experiments,
    )


def _check_named(repository: Path, branch: str) -> None:
    if not repository.is_dir():
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
    for run in journal.active_runs():
        if run.state is not RunState.DONE:
            raise UserError(f"Run {run.tag} is {run.state.value} on this machine: /stop it first.")
