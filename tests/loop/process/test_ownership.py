from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from loop.process.liveness import Owner, end_orphan, find_marked, orphans, owner
from loop.process.supervisor import MARK, find_tree, start_time
from loop.process.trainer import Process, mark_of, marks_of

Start: TypeAlias = Callable[..., int]

WAIT = "import sys; sys.stdout.write('ready\\n'); sys.stdout.flush(); sys.stdin.read()"
WITH_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], env={}, start_new_session=True)
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process that waits, with the mark of an attempt's folder or without one; returns its pid."""
    started: list[subprocess.Popen[str]] = []

    def start_(mark: Path | str | None, program: str = WAIT) -> int:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", program],
            env={} if mark is None else {MARK: mark if isinstance(mark, str) else mark_of(mark)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        word = process.stdout.readline()
        return process.pid if word == "ready\n" else int(word)

    yield start_
    for process in started:
        process.kill()
        process.communicate()


def test_processes_are_known_by_the_mark_of_their_training(tmp_path: Path, start: Start) -> None:
    home = tmp_path / "home"
    ours = start(home / "runs" / "1" / "3-1")
    start(tmp_path / "other" / "runs" / "1" / "3-1")
    start(tmp_path / "home2" / "runs" / "1" / "3-1")
    start(None)
    (found,) = find_marked(home)
    assert (found.process.pid, found.mark) == (ours, mark_of(home / "runs" / "1" / "3-1"))
    assert found.process.alive()


def test_a_mark_names_no_folder(tmp_path: Path) -> None:
    mark = mark_of(tmp_path / "trainings" / "1" / "3-1")
    assert mark != mark_of(tmp_path / "trainings" / "1" / "3-2")
    assert not any(part in mark for part in tmp_path.parts[1:])


def test_what_waits_for_a_training_belongs_to_it_once_the_folder_is_its_own(
    tmp_path: Path, start: Start
) -> None:
    ahead = tmp_path / "trainings" / "1" / "ahead-0"
    ahead.mkdir(parents=True)
    *_, mark = marks_of(ahead)
    pid = start(mark)
    (found,) = find_marked(tmp_path)
    assert orphans([found], []) == ()
    assert owner(pid, [found], []) is Owner.CURRENT
    assert pid not in find_tree(mark_of(ahead))
    attempt = ahead.rename(ahead.with_name("3-1"))
    (found,) = find_marked(tmp_path)
    assert (found.process.pid, found.mark) == (pid, mark_of(attempt))
    assert orphans([found], [attempt]) == ()
    assert pid in find_tree(*marks_of(attempt))
    attempt.rmdir()
    (found,) = find_marked(tmp_path)
    assert orphans([found], [attempt]) == (found,)
    assert end_orphan(found)


def test_the_mark_of_the_last_release_is_known_too(tmp_path: Path, start: Start) -> None:
    attempt = tmp_path / "runs" / "1" / "3-1"
    pid = start(str(attempt))
    (found,) = find_marked(tmp_path)
    assert orphans([found], [attempt]) == ()
    assert found.process.pid == pid
    assert end_orphan(found)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_what_a_training_started_without_its_mark_is_its_own(tmp_path: Path, start: Start) -> None:
    attempt = tmp_path / "runs" / "1" / "3-1"
    child = start(attempt, WITH_CHILD)
    marked = find_marked(tmp_path)
    assert owner(child, marked, [attempt]) is Owner.CURRENT
    assert owner(child, marked, []) is Owner.ORPHAN


def test_what_is_not_of_a_training_under_way_is_an_orphan(tmp_path: Path, start: Start) -> None:
    now, before = (tmp_path / "runs" / "1" / name for name in ("4-1", "3-2"))
    training, left = start(now), start(before)
    stranger = start(None)
    marked = find_marked(tmp_path)
    assert [orphan.process.pid for orphan in orphans(marked, [now])] == [left]
    assert orphans(marked, [now, before]) == ()
    owners = [owner(pid, marked, [now]) for pid in (training, left, stranger, os.getpid(), 2**22 + 1)]
    assert owners == [Owner.CURRENT, Owner.ORPHAN, Owner.FOREIGN, Owner.FOREIGN, Owner.UNSEEN]


def test_an_orphan_is_ended_with_what_it_started(tmp_path: Path, start: Start) -> None:
    bystander = start(tmp_path / "runs" / "1" / "4-1")
    child = start(tmp_path / "runs" / "1" / "3-1", WITH_CHILD)
    left = orphans(find_marked(tmp_path), [tmp_path / "runs" / "1" / "4-1"])
    (orphan,) = (orphan for orphan in left if orphan.process.pid != child)
    end = os.pidfd_open(child)
    assert end_orphan(orphan)
    select.select([end], [], [])
    os.close(end)
    assert start_time(child) is None
    assert start_time(bystander) is not None


def test_an_orphan_that_went_by_itself_is_not_ended_again(tmp_path: Path, start: Start) -> None:
    start(tmp_path / "runs" / "1" / "3-1")
    (orphan,) = find_marked(tmp_path)
    assert end_orphan(orphan)
    os.waitid(os.P_PID, orphan.process.pid, os.WEXITED | os.WNOWAIT)
    assert not end_orphan(orphan)


def test_a_process_that_got_an_orphan_s_pid_is_left_alone(tmp_path: Path, start: Start) -> None:
    pid = start(tmp_path / "runs" / "1" / "3-1")
    (orphan,) = find_marked(tmp_path)
    assert not end_orphan(type(orphan)(Process(pid, orphan.process.started + 1), orphan.mark))
    assert orphan.process.alive()
