"""A state file that another program locks, a full disk, a file that is gone: writers wait and go on."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from math import inf
from pathlib import Path

import pytest

from loop.errors import UserError
from loop.experiment import EventKind
from loop.store.journal import Journal
from loop.store.patience import Blocked
from tests.loop.store.test_journal import make_run

pytestmark = pytest.mark.usefixtures("tables_by_migrations")

ROOT = Path(__file__).parents[3]


class Waiting:
    """A journal that waits without end, and writers in threads of their own."""

    def __init__(self, path: Path) -> None:
        self.ending = threading.Event()
        self.journal = Journal(path, patience=inf, ending=self.ending)
        self.run = make_run(self.journal, "a")
        self._threads = ThreadPoolExecutor()

    def note(self, text: str) -> Future[None]:
        return self._threads.submit(self.journal.note, self.run.id, EventKind.NOTED, reason=text)

    def blocked(self) -> Blocked:
        while (blocked := self.journal.blocked) is None:
            os.sched_yield()
        return blocked

    def noted(self) -> list[object]:
        return [event.data.get("reason") for event in self.journal.events_after(0)][1:]

    def close(self) -> None:
        self.ending.set()
        self._threads.shutdown()
        self.journal.close()


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Waiting]:
    (tmp_path / "home").mkdir()
    waiting = Waiting(tmp_path / "home" / "state.db")
    yield waiting
    waiting.close()


def other_program(path: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(path, isolation_level=None))


def test_writers_wait_while_another_program_holds_the_lock(
    waiting: Waiting, caplog: pytest.LogCaptureFixture
) -> None:
    with other_program(waiting.journal.path) as browser:
        browser.execute("BEGIN IMMEDIATE")
        writers = [waiting.note(str(number)) for number in range(5)]
        assert "another program locks it" in str(waiting.blocked())
        assert waiting.noted() == []  # readers do not wait
        browser.execute("ROLLBACK")
    for writer in writers:
        writer.result()
    assert sorted(map(str, waiting.noted())) == ["0", "1", "2", "3", "4"]
    assert waiting.journal.blocked is None
    first, last = [record.getMessage().partition("state.db ")[2] for record in caplog.records]
    assert first.startswith("cannot be written, as another program locks it")
    assert last == "can be written again"


def test_a_transaction_that_a_full_disk_cut_short_is_made_again_whole(waiting: Waiting) -> None:
    journal, run = waiting.journal, waiting.run
    journal.execute("PRAGMA max_page_count = 60")  # what a full disk answers, without one

    def write() -> None:
        with journal.transaction() as append:
            append(run.id, EventKind.NOTED, reason="small")
            append(run.id, EventKind.NOTED, reason="large" * 100_000)
            append(run.id, EventKind.NOTED, reason="small too")

    thread = threading.Thread(target=write)
    thread.start()
    assert "free some space" in str(waiting.blocked())
    assert waiting.noted() == []
    journal.execute("PRAGMA max_page_count = 100000")
    thread.join()
    assert [str(reason)[:9] for reason in waiting.noted()] == ["small", "largelarg", "small too"]
    ids = [event.id for event in journal.events_after(0)]
    assert ids == sorted(set(ids))


def test_what_waits_gives_up_when_the_process_ends(waiting: Waiting) -> None:
    with other_program(waiting.journal.path) as browser:
        browser.execute("BEGIN IMMEDIATE")
        writers = [waiting.note("never") for _ in range(5)]
        waiting.blocked()
        waiting.ending.set()
        for writer in writers:
            with pytest.raises(sqlite3.OperationalError):
                writer.result(timeout=30)
    assert waiting.noted() == []


def test_a_command_line_waits_for_a_while_and_says_why(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    Journal(path).close()
    path.chmod(0o600)
    with other_program(path) as browser:
        browser.execute("PRAGMA user_version = 0")  # an older one, which is to be migrated
        browser.execute("BEGIN IMMEDIATE")
        with pytest.raises(UserError, match="database is locked"):
            Journal(path, patience=0.3)


def test_a_file_that_was_deleted_is_written_again(waiting: Waiting, caplog: pytest.LogCaptureFixture) -> None:
    waiting.note("before").result()
    for file in waiting.journal.path.parent.iterdir():
        file.unlink()
    waiting.note("after").result()
    assert waiting.noted() == ["before", "after"]
    with closing(Journal(waiting.journal.path, read_only=True)) as other:
        assert len(other.events_after(0)) == 3
    assert "was deleted" in caplog.text


def test_a_folder_that_was_moved_away_is_waited_for(waiting: Waiting) -> None:
    home = waiting.journal.path.parent
    elsewhere = home.rename(home.with_name("elsewhere"))
    writer = waiting.note("later")
    assert "put it back" in str(waiting.blocked())
    elsewhere.rename(home)
    writer.result()
    assert waiting.noted() == ["later"]


def test_a_file_in_the_place_of_ours_is_not_written_to(waiting: Waiting, tmp_path: Path) -> None:
    path = waiting.journal.path
    older = tmp_path / "older.db"
    shutil.copy(path, older)
    ours = path.rename(path.with_name("ours.db"))
    shutil.copy(older, path)
    writer = waiting.note("later")
    assert "restart the bot" in str(waiting.blocked())
    ours.rename(path)
    writer.result()
    assert waiting.noted() == ["later"]


_ON_A_SMALL_DISK = """
import os, subprocess, sys, threading
from math import inf
from pathlib import Path
from tests.loop.store.test_patience import Waiting

home = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", home], check=True)
waiting = Waiting(home / "state.db")
with (home / "checkpoint").open("wb") as file:
    try:
        while True:
            file.write(bytes(65536))
            file.flush()
    except OSError:
        os.truncate(file.fileno(), file.tell() // 4096 * 4096)
writers = [waiting.note("x" * 20000) for _ in range(5)]
assert "disk is full" in str(waiting.blocked()), waiting.blocked()
(home / "checkpoint").unlink()
for writer in writers:
    writer.result()
assert len(waiting.noted()) == 5
subprocess.run(["mount", "-o", "remount,ro", home], check=False)
if not os.access(home, os.W_OK):
    writer = waiting.note("later")
    print(str(waiting.blocked()))
    subprocess.run(["mount", "-o", "remount,rw", home], check=True)
    writer.result()
waiting.close()
print("went on")
"""


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_that_is_full_is_waited_for(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", _ON_A_SMALL_DISK, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.endswith("went on\n"), done.stdout + done.stderr
