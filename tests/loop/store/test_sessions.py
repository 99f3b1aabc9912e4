from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from loop.store.events import Session, Sessions
from loop.store.journal import Journal
from loop.store.tables.migrations import MIGRATIONS

pytestmark = pytest.mark.usefixtures("tables_by_migrations")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(tmp_path: Path, clock: Clock) -> Iterator[Journal]:
    journal = Journal(tmp_path / "state.db", clock=clock)
    yield journal
    journal.close()


@pytest.fixture
def sessions(journal: Journal) -> Sessions:
    return Sessions(journal)


def test_a_session_names_its_process_and_the_boot_of_its_machine(sessions: Sessions) -> None:
    session = sessions.begin(boot="one")
    assert session == Session(1, "one", os.getpid(), started_at=1000.0, seen_at=1000.0, ended_at=None)
    assert sessions.all() == [session]


def test_a_killed_session_has_a_last_sign_of_life_and_no_end(sessions: Sessions, clock: Clock) -> None:
    session = sessions.begin(boot="one")
    clock.now = 1030.0
    sessions.seen(session)
    assert sessions.all() == [replace(session, seen_at=1030.0)]


def test_a_session_that_ended_cleanly_has_an_end(sessions: Sessions, clock: Clock) -> None:
    session = sessions.begin(boot="one")
    clock.now = 1050.0
    sessions.end(session)
    assert sessions.all() == [replace(session, seen_at=1050.0, ended_at=1050.0)]


def test_sessions_follow_each_other_and_are_told_apart(
    sessions: Sessions, journal: Journal, clock: Clock
) -> None:
    killed = sessions.begin(boot="one")
    clock.now = 900.0  # the clock was set back meanwhile
    other = Journal(journal.path, clock=clock)
    present = Sessions(other).begin(boot="one")
    other.close()
    sessions.seen(present)
    assert sessions.all() == [killed, present]
    assert present.id > killed.id


def test_a_sign_of_life_is_no_event(sessions: Sessions, journal: Journal) -> None:
    heard: list[int] = []
    journal.listeners.append(lambda: heard.append(1))
    session = sessions.begin(boot="one")
    sessions.seen(session)
    sessions.end(session)
    assert heard == []
    assert journal.last_event() == 0


def test_a_journal_from_before_there_were_sessions_gets_them(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    before = next(number for number, script in enumerate(MIGRATIONS) if "TABLE sessions" in script)
    with closing(sqlite3.connect(path)) as old:
        old.executescript(";".join(MIGRATIONS[:before]))
        old.execute(f"PRAGMA user_version = {before}")
    journal = Journal(path)
    assert Sessions(journal).all() == []
    journal.close()
