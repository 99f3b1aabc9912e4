"""A long history without its trainings: a run whose experiments are recorded as the engine records them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from loop.engine import stages
from loop.engine.stages import KeepRule, Ready
from loop.experiment import Ending, EventKind, Experiment, Goal, Outcome, Proposal, Run, Stage, Training
from loop.git.workspace import Commit, Workspace
from loop.store.journal import Journal
from loop.store.outbox import Entry, Outbox, State
from tests.loop.lab import git

TAG = "scale"
CHANNEL = "terminal"

RECORDED, COPIED = 2_000, 1_000  # experiments that are recorded one by one, and copied at a time

_SECONDS = 300.0  # of each training
_CONSTANTS = {f"CONSTANT_{number}": number / 2 for number in range(15)}  # as many as a real program has
_NUMBERS = {
    "val_bpb": 1.0,
    "training_seconds": 280.0,
    "total_seconds": 298.0,
    "peak_vram_mb": 45_060.2,
    "mfu_percent": 39.8,
    "total_tokens_M": 499.6,
    "num_steps": 953.0,
    "num_params_M": 50.3,
    "depth": 8.0,
}


def make_history(path: Path, repository: Path, *, experiments: int, until: float) -> None:
    """Make a state file with a run of so many decided experiments, the last one at `until` (epoch seconds).

    Each is told to the terminal's channel already. Only the baseline is kept. The others share one commit,
    as making a commit for each would take longer than all the rest.
    """
    now = until - experiments * _SECONDS
    journal = Journal(path, clock=lambda: now)
    journal.execute("PRAGMA synchronous = OFF")  # nothing here has to survive a power cut
    base = git(repository, "rev-parse", "HEAD")
    workspace = Workspace(repository=repository, path=path.parent / "worktrees" / TAG, tag=TAG)
    workspace.create(base)
    commit = workspace.commit(base, "VALUE = -1  # of nothing\n", "of all")
    run = journal.create_run(
        tag=TAG,
        repository=repository,
        base_branch="main",
        base_commit=base,
        metric="val_bpb",
        goal=Goal.MINIMIZE,
        time_budget=_SECONDS,
    )
    (path.parent / "runs" / str(run.id)).mkdir(parents=True)
    for number in range(min(experiments, RECORDED)):
        begun = _begun(run, number, commit if number else Commit(base, 0, 0), now)
        journal.record(*begun)
        now += _SECONDS
        measured = stages.measured(begun[-1], _outcome(now))
        best = 1.0 if number else None
        journal.record(measured, stages.decided(measured, run, KeepRule(), best=best, tampered=(), now=now))
    now = _copy(journal, experiments, now)
    outbox = Outbox(journal, CHANNEL, now=lambda: now)
    outbox.open()
    told = (EventKind.RUN_STARTED, EventKind.DECIDED)
    events = [event for event in journal.events_after(0, limit=-1) if event.kind in told]
    outbox.record([Entry(event.id, State.SENT) for event in events])
    journal.close()


def _copy(journal: Journal, experiments: int, now: float) -> float:
    """Add the rest as copies of the last ones that were recorded, which is thirty times as fast."""
    for number in range(RECORDED, experiments, COPIED):
        count = min(COPIED, experiments - number)
        first, later = RECORDED - COPIED, number - (RECORDED - COPIED)
        for table in ("experiments", "trainings", "events"):
            columns = [str(row["name"]) for row in journal.query(f"PRAGMA table_info({table})")]
            shifted = {
                name: f"{name} + {later * _SECONDS}" for name in columns if name == "at" or name[-3:] == "_at"
            }
            chosen = {name: f'"{name}"' for name in columns} | shifted | {"number": f"number + {later}"}
            chosen.pop("id", None)
            names = ", ".join(f'"{name}"' for name in chosen)
            journal.execute(
                f"INSERT INTO {table} ({names}) SELECT {', '.join(chosen.values())} FROM {table} "
                f"WHERE number >= {first} AND number < {first + count}"
                f"{' ORDER BY id' if table == 'events' else ''}"
            )
        now += count * _SECONDS
    return now


def _begun(run: Run, number: int, commit: Commit, now: float) -> tuple[Experiment, ...]:
    """Return an experiment in its first three stages."""
    proposal = Proposal("", f"VALUE {number}", "From 120 results.", "search", run.base_commit)
    constants = {**_CONSTANTS, "VALUE": number}
    ready = Ready(proposal if number else stages.BASELINE, commit, constants, "")
    steps = stages.proposed(run, number, ready, now)
    training = Training(1, supervisor_pid=1, supervisor_started=1.0, started_at=now)
    return (*steps, replace(steps[-1], stage=Stage.TRAINING, training=training))


def _outcome(now: float) -> Outcome:
    return Outcome(Ending.EXITED, 0, now - _SECONDS + 1, now - 1, _NUMBERS)
