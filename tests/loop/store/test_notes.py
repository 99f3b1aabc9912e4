from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loop.experiment import Cause, EventKind
from loop.store.events import Notes
from loop.store.journal import Journal
from tests.loop.store.test_journal import make_run

MODEL = Cause.PROPOSER


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "state.db")
    yield made
    made.close()


def told(journal: Journal) -> list[tuple[EventKind, object]]:
    return [(event.kind, event.data.get("reason")) for event in journal.events_after(0)][1:]


def test_a_state_is_told_when_it_begins_and_not_again_after_a_restart(journal: Journal) -> None:
    run = make_run(journal)
    assert Notes(journal).tell(run.id, MODEL, "down", "it is down", key="oracle", urgent=True)
    later = Journal(journal.path)
    again = Notes(later)
    assert not again.tell(run.id, MODEL, "down", "it is down, for another reason", key="oracle")
    assert again.tell(run.id, MODEL, "up", "it is up", key="oracle")
    assert again.tell(run.id, MODEL, "down", "it is down again", key="oracle")
    later.close()
    assert told(journal) == [
        (EventKind.NEEDS_ATTENTION, "it is down"),
        (EventKind.NOTED, "it is up"),
        (EventKind.NOTED, "it is down again"),
    ]


def test_things_and_runs_are_told_apart(journal: Journal) -> None:
    first = make_run(journal)
    second = make_run(journal, "other")
    notes = Notes(journal)
    journal.note(first.id, EventKind.NEEDS_ATTENTION, reason="about nothing of ours")
    assert notes.state(first.id, MODEL, "oracle") is None
    notes.tell(first.id, MODEL, "down", "it is down", key="oracle")
    notes.tell(first.id, Cause.BUDGET, "spent", "no money", key="oracle")
    assert notes.state(first.id, MODEL, "oracle") == "down"
    assert notes.state(second.id, MODEL, "oracle") is None
