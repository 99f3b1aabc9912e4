from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from bot.heartbeat.wake_up import LOOK_SECONDS, WakeUp
from loop.experiment import Event, EventKind, RunState
from notifiers.delivery.rate_limit import Clock
from tests.notifiers.mornings import Recorder, open_recorder


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    with open_recorder(tmp_path) as recorder:
        yield recorder


class Beats:
    """Counts heartbeats; each is a call of the health check too."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self) -> None:
        self.count += 1


async def no_beat() -> None:
    """Nobody listens."""


def waker(
    recorder: Recorder,
    beat: Callable[[], object] = no_beat,
    clock: Clock | None = None,
    *,
    cron: str = "0 7 * * *",
    zone: tzinfo = UTC,
) -> WakeUp:
    return WakeUp(
        recorder.journal,
        cron=cron,
        zone=zone,
        prepare=no_beat,
        beat=beat,  # type: ignore[arg-type]
        clock=clock or recorder.clock,
    )


def wake_ups(recorder: Recorder) -> list[Event]:
    return [
        event for event in recorder.journal.events_after(0, limit=10_000) if event.kind is EventKind.WAKE_UP
    ]


def tags(recorder: Recorder) -> list[str]:
    """Let people be woken up, as at the start of a bot, and return for which runs."""
    return [run.tag for run in waker(recorder).note()]


def test_nobody_is_woken_up_without_a_run_or_too_early(recorder: Recorder) -> None:
    recorder.at("13 07:00")
    assert tags(recorder) == []
    recorder.begin()
    recorder.at("14 06:59")
    assert tags(recorder) == []


def test_a_morning_comes_once_however_often_the_bot_is_started(recorder: Recorder) -> None:
    recorder.begin()
    recorder.at("13 07:00")
    assert [tags(recorder) for _ in range(3)] == [["mar12"], [], []]
    recorder.at("14 06:59")
    assert tags(recorder) == []
    recorder.at("14 07:00")
    assert tags(recorder) == ["mar12"]
    first, second = wake_ups(recorder)
    assert first.data == {"since": recorder.run.created_at}
    assert second.data == {"since": first.at}


def test_a_morning_in_the_hour_that_comes_twice_comes_once(recorder: Recorder) -> None:
    recorder.begin()
    november = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
    wake_up = waker(recorder, cron="30 1 * * *", zone=ZoneInfo("America/New_York"))
    recorder.at_second(november)
    wake_up.note()  # that of the day before
    before = len(wake_ups(recorder))
    for hours in range(1, 24):
        recorder.at_second(november + 3600 * hours)
        wake_up.note()
    assert len(wake_ups(recorder)) - before == 1


def test_a_bot_that_was_away_tells_late_and_once_for_several_mornings(recorder: Recorder) -> None:
    recorder.begin()
    recorder.away("16 09:30")
    assert [tags(recorder), tags(recorder)] == [["mar12"], []]
    assert wake_ups(recorder)[0].data == {"since": recorder.run.created_at}
    recorder.at("17 07:00")
    assert tags(recorder) == ["mar12"]


def test_a_run_at_rest_is_told_of_while_there_is_news(recorder: Recorder) -> None:
    recorder.begin()
    recorder.experiment("baseline", 1.0)
    recorder.state(RunState.PAUSED)
    recorder.at("13 07:00")
    assert tags(recorder) == ["mar12"]
    recorder.at("14 07:00")
    assert tags(recorder) == []
    recorder.state(RunState.STOPPED)
    recorder.at("15 07:00")
    assert tags(recorder) == ["mar12"]
    recorder.at("16 07:00")
    assert tags(recorder) == []


def test_a_running_one_is_told_of_though_nothing_happened(recorder: Recorder) -> None:
    recorder.begin()
    for day in (13, 14, 15):
        recorder.at(f"{day} 07:00")
        assert tags(recorder) == ["mar12"]


def test_every_run_has_its_own_morning(recorder: Recorder) -> None:
    recorder.begin("one")
    recorder.begin("two")
    recorder.at("13 07:00")
    assert tags(recorder) == ["one", "two"]
    recorder.begin("three")
    recorder.at("14 07:00")
    assert tags(recorder) == ["one", "two", "three"]


async def test_the_outside_world_hears_of_a_wake_up_by_a_beat(recorder: Recorder) -> None:
    beats = Beats()
    recorder.begin()
    await waker(recorder, beats).ring()
    assert beats.count == 0
    recorder.at("13 07:00")
    await waker(recorder, beats).ring()
    await waker(recorder, beats).ring()
    assert beats.count == 1


async def test_it_wakes_to_the_second_and_looks_often(recorder: Recorder) -> None:
    slept: list[float] = []
    recorder.begin()
    recorder.at("13 06:59")

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        recorder.pass_(seconds)
        if wake_ups(recorder):
            raise asyncio.CancelledError
        await asyncio.sleep(0)

    clock = Clock(now=lambda: recorder.now, monotonic=lambda: recorder.now, sleep=sleep)
    with pytest.raises(asyncio.CancelledError):
        await waker(recorder, clock=clock).run()
    assert slept == [LOOK_SECONDS, LOOK_SECONDS, 20.0, LOOK_SECONDS]
    recorder.at("13 07:00")
    assert wake_ups(recorder)[0].at == recorder.now
