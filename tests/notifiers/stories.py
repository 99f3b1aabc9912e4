"""Small true stories for a journal: what the loop would have written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from loop.experiment import (
    BY_COMMAND,
    Ending,
    Event,
    EventKind,
    Experiment,
    Goal,
    Reason,
    Run,
    RunState,
    Stage,
    Status,
    Training,
)
from loop.store.journal import Journal
from notifiers.text.digest import message_of
from notifiers.text.notification import Notification
from tests.loop.store.test_journal import make_run
from tests.notifiers.recording import VirtualTime


@contextmanager
def open_journal(folder: Path, time: VirtualTime) -> Iterator[Journal]:
    journal = Journal(folder / "state.db", clock=lambda: time.now)
    try:
        yield journal
    finally:
        journal.close()


def start(journal: Journal, tag: str = "mar12") -> Run:
    return make_run(journal, tag)


def decide(
    journal: Journal,
    run: Run,
    number: int,
    status: Status,
    value: float | None = 0.99,
    before: float = 1.0,
    *,
    idea: int | None = None,
) -> Experiment:
    """Take an experiment through all its stages; the baseline has nothing before it."""
    experiment = Experiment(
        run_id=run.id,
        number=number,
        stage=Stage.TRAINING,
        description=f"try {number}",
        rationale="",
        proposer="search",
        parent="a" * 40,
        commit="b" * 40,
        idea=idea,
        training=Training(1),
    )
    ended = Training(1, ending=Ending.EXITED, error="out of memory" if status is Status.CRASH else "")
    measured = replace(experiment, stage=Stage.MEASURED, training=ended)
    decided = replace(
        measured,
        stage=Stage.DECIDED,
        status=status,
        value=None if status in (Status.CRASH, Status.SKIP) else value,
        best_before=before if number else None,
    )
    journal.record(experiment, measured, decided)
    return decided


def call(journal: Journal, run: Run, reason: str) -> None:
    journal.note(run.id, EventKind.NEEDS_ATTENTION, reason=reason)


def head(news: Notification) -> str:
    """Return the first line of the message."""
    return message_of(news.event, news.run, news.experiment).text.splitlines()[0]


def needs_you(reason: str) -> str:
    """Return how a call for a person in run mar12 reads."""
    return _text(EventKind.NEEDS_ATTENTION, reason=reason)


def turned(state: RunState, reason: Reason = BY_COMMAND) -> str:
    """Return how the new state of run mar12 reads."""
    who: dict[str, object] = {"by": reason.by, "name": reason.name, "cause": None, "facts": {}}
    return _text(EventKind.RUN_STATE, state=state, **who)


def woken() -> str:
    return _text(EventKind.WAKE_UP)


def _text(kind: EventKind, **data: object) -> str:
    where = (Path("/somewhere"), "main", "a" * 40)
    run = Run(1, "mar12", *where, "val_bpb", Goal.MINIMIZE, 300.0, RunState.RUNNING, 0.0)
    return message_of(Event(1, 0.0, 1, None, kind, data), run).text
