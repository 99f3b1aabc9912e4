"""Gathers from journal, git and files what only the page shows of a run."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from bot.bundling import open_workspace
from bot.setup.settings import Settings
from loop.errors import LoopError
from loop.experiment import Run
from loop.process.summary import read_tail
from loop.results.provenance import Provenance, find_provenance
from loop.store.journal import Journal
from notifiers.page.render import Detail

_LOG_BYTES = 4000
"""How much of each log's end is read."""


def details_of(settings: Settings, run: Run) -> dict[int, Detail]:
    """Return rationale, diff and log of every decided experiment, by number."""
    with closing(Journal(settings.home / "state.db", read_only=True)) as journal:
        experiments = [e for e in journal.experiments(run.id) if e.status is not None]
    workspace = open_workspace(settings, run)
    diffs = workspace.diffs(e.commit for e in experiments if e.number)
    folder = settings.home / "runs" / str(run.id)
    return {
        e.number: Detail(e.rationale, diffs.get(e.commit, ""), _log(folder / f"{e.number}.log"))
        for e in experiments
    }


def provenance_of(settings: Settings, run: Run) -> Provenance | None:
    """Return what the best program came from; None while there is none, or git has lost it."""
    with closing(Journal(settings.home / "state.db", read_only=True)) as journal:
        best = journal.best(run.id)
    if best is None:
        return None
    workspace = open_workspace(settings, run)
    try:
        source = workspace.source(best.commit)
    except LoopError:
        return None
    return find_provenance(
        source,
        commit=best.commit,
        worktree=workspace.path,
        override=settings.train_command,
        editable=settings.editable,
        time_budget=run.time_budget,
    )


def _log(path: Path) -> str:
    return read_tail(path, limit=_LOG_BYTES) if path.exists() else ""
