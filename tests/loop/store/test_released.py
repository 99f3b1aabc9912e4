"""A state file of an earlier release, written by its own code: its sentences have become facts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bot.heartbeat.decide import blocker, paused_by_us
from loop.experiment import BY_COMMAND, Actor, Cause, Reason, RunState
from loop.proposers.calling import ModelState
from loop.store.events import Notes, open_calls
from loop.store.journal import Journal
from notifiers.text.digest import message_of
from notifiers.text.notification import topic_of
from notifiers.text.words import reason_text
from tests.bot.vital_signs import A_LITTLE, ROOMY, make_loop, make_vitals

pytestmark = pytest.mark.usefixtures("tables_by_migrations")

RELEASED = Path(__file__).parent / "released"
HOME = Path("/home/ann/.local/share/autoresearch")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as old:
        old.executescript((RELEASED / "state_9.sql").read_text())
    made = Journal(path)
    yield made
    made.close()


def reason(journal: Journal, tag: str) -> Reason | None:
    run = journal.run(tag)
    assert run is not None
    return run.reason


@pytest.mark.parametrize(
    ("tag", "by", "name", "cause"),
    [
        ("disk", Actor.HEARTBEAT, "", Cause.DISK),
        ("disk-pausing", Actor.HEARTBEAT, "", Cause.DISK),
        ("gpu-gone", Actor.HEARTBEAT, "", Cause.GPU_GONE),
        ("gpu-full", Actor.HEARTBEAT, "", Cause.GPU_FULL),
        ("unwritable", Actor.HEARTBEAT, "", Cause.STATE_FILE),
        ("lifted", Actor.HEARTBEAT, "", None),
        ("person", Actor.PERSON, "ann", None),
        ("stopped", Actor.PERSON, "Bob the builder", None),
        ("done", Actor.LOOP, "", None),
        ("budget", Actor.BUDGET, "", Cause.BUDGET),
        ("strange", Actor.STARTUP, "", Cause.REPOSITORY),
    ],
)
def test_who_changed_a_state_and_why(
    journal: Journal, tag: str, by: Actor, name: str, cause: Cause | None
) -> None:
    found = reason(journal, tag)
    assert found is not None
    assert (found.by, found.name, found.cause) == (by, name, cause)


def test_a_run_that_nobody_gave_an_order_has_no_reason(journal: Journal) -> None:
    assert reason(journal, "begun") is None
    assert reason(journal, "command") == BY_COMMAND


def test_people_read_what_they_read_before(journal: Journal) -> None:
    told = {run.tag: reason_text(run.reason) for run in journal.runs()}
    assert told["disk"].startswith(f"by the heartbeat: 0.3 GB free on the disk of {HOME}: make room; ")
    assert told["budget"].startswith("by the budget: $1.00 of the $1.00 for models in this run are spent; ")
    assert (told["person"], told["command"], told["done"], told["strange"], told["begun"]) == (
        "by ann",
        "from the terminal",
        "4 experiments made",
        "by a change of REPOSITORY",
        "",
    )
    events = journal.events_after(0, limit=1000)
    texts = [message_of(e, journal.run_by_id(e.run_id)).text for e in events if topic_of(e)]
    assert "Run person paused: by ann" in texts
    assert "Run calls needs you: its loop ended 4 times in a row, the last time with: disk on fire" in texts


@pytest.mark.parametrize("tag", ["disk", "disk-pausing"])
def test_a_run_waits_for_the_disk_that_it_waited_for(journal: Journal, tag: str) -> None:
    run = journal.run(tag)
    assert run is not None
    assert paused_by_us(run)
    folder = {"disk": HOME, "disk-pausing": Path("/home/ann/my: make room")}[tag]
    for disk, goes_on in ((A_LITTLE, False), (ROOMY, True)):
        vitals = make_vitals(disks=(replace(disk, folder=folder),))
        assert (blocker(make_loop(run), vitals) is None) is goes_on
    assert blocker(make_loop(run), make_vitals(disks=(replace(A_LITTLE, folder=Path("/x")),))) is None


def test_what_people_were_called_for_is_still_open(journal: Journal) -> None:
    calls = {run.tag: [(c.cause, c.key) for c in open_calls(journal, run)] for run in journal.runs()}
    assert calls["calls"] == [
        (Cause.DISK_SHORT, str(HOME)),
        (Cause.LOOP, ""),
        (Cause.NO_PROPOSAL, ""),
        (Cause.BASELINE, ""),
        (Cause.CRASHES, ""),
        (Cause.VANISHED, ""),
    ]
    assert calls["models"] == [(Cause.PROPOSER, "anthropic:claude")]
    assert calls["budget"] == [(Cause.BUDGET, "LLM_BUDGET_USD")]
    assert calls["strange"] == [(Cause.REPOSITORY, "")]


def test_what_people_were_told_once_is_not_told_again(journal: Journal) -> None:
    notes = Notes(journal)
    ids = {run.tag: run.id for run in journal.runs()}
    assert notes.state(ids["budget"], Cause.BUDGET, "LLM_BUDGET_USD") == "spent 1"
    assert notes.state(ids["models"], Cause.BUDGET, "LLM_BUDGET_USD") == "nearly_spent 1"
    assert notes.state(ids["strange"], Cause.REPOSITORY) == "/home/ann/other"
    assert notes.state(ids["models"], Cause.STUCK) == "5"
    assert notes.state(ids["models"], Cause.PRICE, "openai:gpt") == "unknown"
    assert notes.state(ids["models"], Cause.PROPOSER, "anthropic:claude") == ModelState.BLOCKED
    assert notes.state(ids["models"], Cause.PROPOSER, "openai:gpt") == ModelState.DOWN
    assert notes.state(ids["models"], Cause.PROPOSER, "google:gemini") == ModelState.UP


def test_a_pause_of_an_earlier_release_can_be_ended(journal: Journal) -> None:
    run = journal.run("disk")
    assert run is not None
    assert journal.set_state(run, RunState.RUNNING).reason == BY_COMMAND
