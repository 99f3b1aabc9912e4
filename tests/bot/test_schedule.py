from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, tzinfo

import pytest

from bot.heartbeat.heartbeat import scheduled


class WallClock(datetime):
    """The wall clock, as somebody has set it."""

    set_by = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + cls.set_by


@pytest.fixture
def wall_clock(monkeypatch: pytest.MonkeyPatch) -> type[WallClock]:
    for module in ("bot.heartbeat.heartbeat", "apscheduler.schedulers.base"):
        monkeypatch.setattr(f"{module}.datetime", WallClock)
    monkeypatch.setattr(WallClock, "set_by", timedelta())
    return WallClock


class Calls:
    """Counts calls, and lets a test wait for the next ones."""

    def __init__(self) -> None:
        self.made: asyncio.Queue[None] = asyncio.Queue()

    async def call(self) -> None:
        self.made.put_nowait(None)

    async def some(self, count: int = 3) -> None:
        while not self.made.empty():
            self.made.get_nowait()
        for _ in range(count):
            await self.made.get()


@pytest.mark.parametrize("hours", [3, -3])
async def test_calls_go_on_whatever_the_clock_is_set_to(wall_clock: type[WallClock], hours: int) -> None:
    calls = Calls()
    async with scheduled({calls.call: 0.05}, look_seconds=0.02):  # each that was missed in 3 h is counted
        await calls.some()
        wall_clock.set_by = timedelta(hours=hours)
        await calls.some()
        wall_clock.set_by = timedelta()
        await calls.some()


async def test_a_call_is_not_made_while_the_last_one_runs(caplog: pytest.LogCaptureFixture) -> None:
    running = 0
    calls = Calls()

    async def call() -> None:
        nonlocal running
        running += 1
        await calls.call()
        await asyncio.sleep(0.05)
        assert running == 1
        running -= 1

    async with scheduled({call: 0.02}):
        await calls.some()
    assert "raised an exception" not in caplog.text
