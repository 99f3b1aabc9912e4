from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import pytest

from bot.heartbeat.health import health_checks, incident_lines, loop_check
from bot.setup.doctor import Check, render
from loop.evidence import RepeatFor
from loop.experiment import (
    Actor,
    Cause,
    Ending,
    EventKind,
    Purpose,
    Reason,
    RunState,
    Stage,
    Status,
    Training,
)
from loop.store.evidence.repeats import Repeats, RepeatUnderWay
from loop.store.journal import Journal
from loop.store.outbox import Entry, Outbox, State, Trouble
from notifiers.delivery.delivery import read_pending
from tests.loop.fake_gpu import FakeGpu
from tests.loop.store.test_journal import make_experiment, make_run
from tests.loop.trainings import trained
from tests.notifiers.golden import check_one

EVENING = 1_773_267_000.0  # 2026-03-11 22:10 UTC


class Night:
    """A journal whose clock the test sets, with one run."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.now = EVENING
        self.journal = Journal(home / "state.db", clock=lambda: self.now)
        self.run = make_run(self.journal, repository=home)

    def note(self, kind: EventKind, **data: object) -> None:
        self.now += 60.0
        self.journal.note(self.run.id, kind, **data)

    def details(self) -> dict[str, str]:
        checks = health_checks(self.journal, home=self.home, heartbeat_minutes=10.0, now=self.now)
        return {check.name: check.detail for check in checks}


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Night]:
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi
    made = Night(tmp_path / "home")
    yield made
    made.journal.close()


def test_only_incidents_are_told_the_newest_last(night: Night) -> None:
    night.note(EventKind.RUN_RECOVERED, reason="the machine had slept; 12 min lost", minutes=12.0)
    night.note(EventKind.NEEDS_ATTENTION, reason="no idea\nfor an hour")
    night.journal.set_state(night.run, RunState.PAUSED)
    night.note(EventKind.INTERRUPTED, reason="by command", vanished=False)
    night.note(EventKind.INTERRUPTED, reason="the training vanished with its machine", vanished=True)
    check_one("health", "incidents", "\n".join(incident_lines(night.journal, zone=UTC)))


def test_only_the_last_incidents_are_told(night: Night) -> None:
    for number in range(7):
        night.note(EventKind.RUN_RECOVERED, reason=f"number {number}")
    assert [line[-1] for line in incident_lines(night.journal, zone=UTC)] == ["2", "3", "4", "5", "6"]


@pytest.mark.parametrize(
    ("minutes", "line"),
    [
        (0.5, "ok    heartbeat: 30 s ago, on time"),
        (19.0, "ok    heartbeat: 19 min ago, 9 min late"),
        (34.0, "warn  heartbeat: 34 min ago, 24 min late"),
    ],
)
def test_a_heartbeat_that_does_not_come_is_told(night: Night, minutes: float, line: str) -> None:
    night.journal.beat()
    night.now += 60.0 * minutes
    checks = health_checks(night.journal, home=night.home, heartbeat_minutes=10.0, now=night.now)
    assert render(checks).splitlines()[0] == line


def test_a_heartbeat_of_a_clock_that_was_set_back_is_not_taken_for_a_new_one(night: Night) -> None:
    night.journal.beat()
    night.now -= 3 * 3600.0
    check_one("health", "a heartbeat of the future", night.details()["heartbeat"])


def test_before_the_first_beat_there_is_none_and_the_bot_is_not_to_be_started(night: Night) -> None:
    beat, *_ = health_checks(night.journal, home=night.home, heartbeat_minutes=10.0, now=night.now)
    assert beat == Check("heartbeat", True, "none yet")


def test_without_a_bot_no_heartbeat_is_on_time(night: Night) -> None:
    night.journal.beat()
    beat, *_ = health_checks(
        night.journal, home=night.home, heartbeat_minutes=10.0, now=night.now, running=False
    )
    assert beat.ok is None
    check_one("health", "a heartbeat without a bot", beat.detail)


def test_what_a_run_does_is_told(night: Night) -> None:
    does = [night.details()["lane"]]
    training = trained(
        replace(make_experiment(night.run, 7), stage=Stage.TRAINING),
        started_at=night.now - 130.0,
        ending=None,
    )
    night.journal.record(training)
    does.append(night.details()["lane"])
    skipped = replace(training, stage=Stage.DECIDED, status=Status.SKIP)
    night.journal.record(trained(skipped, ending=Ending.INTERRUPTED))
    night.journal.set_state(night.run, RunState.PAUSED, Reason(Actor.PERSON, "ann"))
    does.append(night.details()["lane"])
    night.journal.set_state(night.run, RunState.DONE, Reason(Actor.LOOP, facts={"made": 1}))
    does.append(night.details()["lane"])
    check_one("health", "runs, training, paused, done", "\n".join(does))


@pytest.mark.parametrize(
    ("reason", "ok"),
    [
        (Reason(Actor.PERSON, "ann"), True),
        (Reason(Actor.HEARTBEAT, cause=Cause.DISK, facts={"folder": "/data", "free": 1e6}), False),
        (Reason(Actor.LOOP, cause=Cause.BRANCH, facts={"error": "moved"}), False),
    ],
)
def test_a_run_that_nobody_paused_is_a_problem(night: Night, reason: Reason, ok: bool) -> None:
    night.journal.set_state(night.run, RunState.PAUSED, reason)
    checks = health_checks(night.journal, home=night.home, heartbeat_minutes=10.0, now=night.now)
    assert [check.ok for check in checks if check.name == "lane"] == [ok]


def test_a_loop_that_failed_is_a_problem(night: Night) -> None:
    check = loop_check(night.run, "data.bin cannot be written: No space left on device.")
    assert check.ok is False
    check_one("health", "a loop that failed", check.detail)


def test_a_repeat_is_told_as_one(night: Night) -> None:
    night.journal.record(make_experiment(night.run, 0, Status.KEEP))
    repeats = Repeats(night.journal)
    (repeat,) = repeats.ask(night.run.id, 0, RepeatFor.PERSON)
    training = Training(2, Purpose.REPEAT, started_at=night.now - 130.0)
    repeats.begin(RepeatUnderWay(replace(repeat, k=2), training, 0))
    check_one("health", "a repeat trains", night.details()["lane"])


def test_what_was_not_delivered_is_told_for_each_chat(night: Night) -> None:
    night.journal.set_cursor("telegram:7", night.journal.last_event())
    check_one("health", "nothing to deliver", night.details()["telegram:7"])
    night.journal.set_cursor("telegram:7", 0)
    night.journal.set_cursor("trackio:night", 0)
    for number in range(2):
        night.journal.record(make_experiment(night.run, number, Status.KEEP))
    waiting = night.details()
    check_one("health", "three not delivered", waiting["telegram:7"])  # the run's start too
    assert not [name for name in waiting if name.startswith("trackio")]
    outbox = Outbox(night.journal, "telegram:7", now=lambda: night.now)
    outbox.record([Entry(item.news.event.id, State.SENT) for item in read_pending(night.journal, outbox)])
    night.now += 60.0
    check_one("health", "all delivered", night.details()["telegram:7"])
    outbox.set_trouble(Trouble(night.now - 120.0, "no answer"))
    check_one("health", "a chat that takes no messages", night.details()["telegram:7"])
    outbox.set_trouble(None)
    outbox.record([Entry(1, State.REFUSED, "chat not found")])
    for channel in ("telegram:8", "telegram:9"):
        night.journal.set_cursor(channel, night.journal.last_event())
    Outbox(night.journal, "telegram:9").record([Entry(1, State.REFUSED, "chat not found")])
    checks = health_checks(night.journal, home=night.home, heartbeat_minutes=10.0, now=night.now)
    told = {check.name: check.ok for check in checks if check.name.startswith("telegram")}
    assert told == {"telegram:7": True, "telegram:8": True, "telegram:9": None}


def test_the_state_file_is_told_with_its_size(night: Night) -> None:
    assert night.details()["state file"].startswith(f"{night.home}/state.db, 0.")


def test_the_memory_of_the_gpu_is_told_by_process(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert night.details()["GPU memory"] == "unknown: no nvidia-smi"
    gpu = FakeGpu(tmp_path / "bin", monkeypatch)
    rows = (f"{os.getpid()}, 40960, GPU-a, python3", "4194305, [N/A], GPU-a, Xorg")
    gpu.show("0, GPU-a, 81920, 20480, 5", processes=rows)
    words = f"20.0 GB free; python3 (pid {os.getpid()}) 40.0 GB; Xorg (pid 4194305) ? GB"
    assert night.details()["GPU memory"] == words
