"""When the certification before the wake-up begins, and what is said where it would take too long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from bot.heartbeat.wake_up import Certifying
from bot.runs import Runs
from loop.experiment import EventKind, RunState
from loop.lanes.local import WHOLE
from loop.lanes.protocol import Slot
from loop.store.evidence.certifications import Certifications
from tests.notifiers.mornings import Recorder, open_recorder


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    with open_recorder(tmp_path) as made:
        yield made


@dataclass
class Host:
    """A run whose engine writes to the journal what it is asked for."""

    recorder: Recorder
    has_gain: bool = True
    slots: tuple[Slot, ...] = WHOLE
    ended: list[float] = field(default_factory=list)

    def loops(self) -> list[Any]:
        return [self]

    def engine_if_made(self, _: object) -> Host:
        return self

    @property
    def run(self) -> Any:
        return self.recorder.run

    @property
    def certifier(self) -> Host:
        return self

    def wanted(self, _: object) -> bool:
        return self.has_gain

    async def certify(self, *, until: float) -> None:
        Certifications(self.recorder.journal).ask(self.run.id, 3, until=until)

    async def end_certification(self, now: float) -> None:
        self.ended.append(now)


def certifying(host: Host) -> Certifying:
    return Certifying(
        cast(Runs, host),  # it has what is used of it
        journal=host.recorder.journal,
        wake_up="0 7 * * *",
        minutes=35.0,
        pairs=3,
        zone=UTC,
    )


def begin(recorder: Recorder, seconds: float = 330.0) -> Host:
    """Begin a night at 22:00 with trainings that take so long."""
    recorder.at("12 22:00")
    recorder.begin()
    recorder.train("baseline")
    recorder.end(1.0, seconds=seconds)
    return Host(recorder)


def asked(host: Host) -> list[str]:
    found = Certifications(host.recorder.journal).of(host.run.id)
    return [f"{datetime.fromtimestamp(each.until or 0, UTC):%d %H:%M}" for each in found]


def look(host: Host, moment: str) -> list[str]:
    host.recorder.at(moment)
    asyncio.run(certifying(host).look())
    return asked(host)


def test_it_begins_so_that_it_and_the_experiment_under_way_are_over_in_time(recorder: Recorder) -> None:
    host = begin(recorder)  # 6 trainings are 33 minutes, so 35 and one training before
    assert look(host, "13 06:19") == []
    assert look(host, "13 06:20") == ["13 07:00"]
    assert look(host, "13 06:40") == ["13 07:00"]


def test_it_begins_earlier_where_the_minutes_are_too_few(recorder: Recorder) -> None:
    host = begin(recorder, seconds=900.0)  # 90 minutes and one training
    assert look(host, "13 05:14") == []
    assert look(host, "13 05:15") == ["13 07:00"]


def test_it_takes_no_more_than_a_quarter_of_the_night_and_says_so_once(recorder: Recorder) -> None:
    host = begin(recorder, seconds=1800.0)  # three hours of nine
    for moment in ("13 03:00", "13 06:24", "13 06:25", "13 06:26"):
        assert look(host, moment) == []
    notes = [e for e in recorder.journal.events_after(0, limit=999) if e.kind is EventKind.NOTED]
    assert ["6 trainings of 30 min" in str(note.data["reason"]) for note in notes] == [True]
    assert f"{datetime.fromtimestamp(notes[0].at, UTC):%H:%M}" == "06:25"


def test_nothing_is_certified_without_a_gain_or_in_a_run_that_waits(recorder: Recorder) -> None:
    host = begin(recorder)
    host.has_gain = False
    assert look(host, "13 06:30") == []
    host.has_gain = True
    recorder.journal.set_state(host.run, RunState.PAUSED)
    assert look(host, "13 06:31") == []


def test_what_was_to_be_over_is_ended(recorder: Recorder) -> None:
    host = begin(recorder)
    recorder.at("13 07:00")
    asyncio.run(certifying(host).finish())
    assert host.ended == [recorder.now]
