from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import pytest

from loop.evidence import Invalidated
from loop.experiment import RunState, Status
from loop.store.journal import Journal
from notifiers.text.digest import backlog_message, group_message, hour_message
from notifiers.text.notification import Notification, read_notifications
from tests.notifiers.golden import check_text
from tests.notifiers.recording import VirtualTime
from tests.notifiers.stories import call, decide, needs_you, open_journal, start


@pytest.fixture
def time() -> VirtualTime:
    return VirtualTime()


@pytest.fixture
def journal(tmp_path: Path, time: VirtualTime) -> Iterator[Journal]:
    with open_journal(tmp_path, time) as journal:
        yield journal


def everything(journal: Journal) -> list[Notification]:
    return read_notifications(journal, journal.events_after(0, limit=10_000))


def test_what_an_outage_hid(journal: Journal, time: VirtualTime) -> None:
    run = start(journal)
    decide(journal, run, 0, Status.KEEP, 1.0)
    for number in range(1, 22):
        time.now += 300
        decide(journal, run, number, Status.DISCARD, 1.1)
    time.now += 300
    decide(journal, run, 22, Status.KEEP, 0.986041)
    decide(journal, run, 23, Status.CRASH, before=0.986041)
    time.now += 300
    journal.set_state(run, RunState.PAUSED)
    message = backlog_message(everything(journal), title="While offline", zone=UTC)
    check_text("texts/backlog", message.text)
    assert [button.label for row in message.buttons for button in row] == ["Results", "Plot", "Resume"]


def test_the_best_is_told_against_the_best_before_or_as_unchanged(journal: Journal) -> None:
    run = start(journal)
    decide(journal, run, 5, Status.KEEP, 0.986041, before=0.9979)
    decide(journal, run, 6, Status.DISCARD, 0.99, before=0.986041)
    news = everything(journal)[1:]
    whole = backlog_message(news, title="While offline", zone=UTC).text
    assert "Best val_bpb: 0.997900 → 0.986041 (-0.011859, #5)" in whole
    assert "Best val_bpb: 0.986041, unchanged" in backlog_message(news[1:], title="", zone=UTC).text


def test_the_nearest_of_an_hour_is_no_number_that_was_not_believed(journal: Journal) -> None:
    run = start(journal)
    decide(journal, run, 1, Status.DISCARD, 1.1)
    decide(journal, run, 2, Status.DISCARD, 0.1)
    honest, cheat = everything(journal)[1:]
    assert cheat.experiment is not None
    found_out = replace(cheat.experiment, invalidated=Invalidated.NOT_BELIEVED)
    text = hour_message([honest, replace(cheat, experiment=found_out)], UTC).text
    assert text.endswith(": 2 discarded · nearest 1.100000 (#1)")


def test_other_events_are_listed_the_latest_when_there_are_many(journal: Journal) -> None:
    run = start(journal)
    for number in range(20):
        call(journal, run, f"reason {number}")
    lines = backlog_message(everything(journal), title="While offline", zone=UTC).text.splitlines()
    assert lines[:2] == ["While offline: 21 messages", "(15 earlier)"]
    assert lines[-2] == f"12:00 {needs_you('reason 19')}"


def test_each_run_has_its_own_part(journal: Journal) -> None:
    one, two = start(journal), start(journal, "mar13")
    for run in (one, two, one):
        number = len(journal.experiments(run.id))
        decide(journal, run, number, Status.KEEP)
    parts = backlog_message(everything(journal), title="While offline", zone=UTC).text.split("\n\n")
    assert [part.splitlines()[0] for part in parts] == [
        "While offline: 2 experiments, 2 kept",
        "While offline: 1 experiment, 1 kept",
    ]


def test_a_group_of_digests_names_what_was_kept(journal: Journal) -> None:
    run = start(journal)
    decide(journal, run, 13, Status.DISCARD, 1.2)
    decide(journal, run, 14, Status.KEEP, 0.99)
    decide(journal, run, 15, Status.SKIP)
    message = group_message(everything(journal)[1:])
    check_text("texts/group", message.text)
    assert group_message(everything(journal)[1:2]).text.startswith("Experiment #13: 1 discarded\n")
