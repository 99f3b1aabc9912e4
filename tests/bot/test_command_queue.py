from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from bot.front import CommandQueue


@pytest.fixture
async def queue() -> AsyncIterator[CommandQueue]:
    queue = CommandQueue(head_start=0.1)
    yield queue
    await queue.close()


class Log:
    """What was begun and what was done, in order."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.done: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}

    async def work(self, name: str) -> None:
        self.begun.append(name)
        await self.gates.setdefault(name, asyncio.Event()).wait()
        self.done.append(name)

    async def quick(self, name: str) -> None:
        self.begun.append(name)
        await asyncio.sleep(0)
        self.done.append(name)


async def test_quick_work_of_a_place_goes_strictly_one_after_another(queue: CommandQueue) -> None:
    log = Log()
    last = asyncio.Event()
    for number in range(100):
        queue.put("7", partial(log.quick, str(number)))
        await asyncio.sleep(0) if number % 3 else None
    queue.put("7", partial(_set, last))
    await last.wait()
    assert log.begun == log.done == [str(number) for number in range(100)]


async def test_slow_work_gives_way_after_its_head_start_and_order_is_kept(queue: CommandQueue) -> None:
    log = Log()
    last = asyncio.Event()
    for name in ("a", "b", "c"):
        queue.put("7", partial(log.work, name))
    queue.put("7", partial(_set, last))
    await last.wait()
    assert (log.begun, log.done) == (["a", "b", "c"], [])
    for gate in log.gates.values():
        gate.set()


async def test_places_do_not_wait_for_each_other() -> None:
    log = Log()
    queue = CommandQueue(head_start=1000.0)
    elsewhere = asyncio.Event()
    queue.put("7", partial(log.work, "a"))
    queue.put("7", partial(log.work, "b"))
    queue.put("8", partial(_set, elsewhere))
    await elsewhere.wait()
    assert log.begun == ["a"]
    for name in ("a", "b"):
        log.gates.setdefault(name, asyncio.Event()).set()
    await queue.close()


async def test_what_fails_is_logged_and_the_next_begins(
    queue: CommandQueue, caplog: pytest.LogCaptureFixture
) -> None:
    after = asyncio.Event()
    queue.put("7", _fail)
    queue.put("7", partial(_set, after))
    await after.wait()
    assert "ZeroDivisionError" in caplog.text


async def test_closing_lets_what_is_at_hand_finish() -> None:
    log = Log()
    queue = CommandQueue()
    for number in range(10):
        queue.put("7", partial(log.quick, str(number)))
    await queue.close()
    assert len(log.done) == 10


async def test_closing_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.front.LINGER_SECONDS", 0.05)
    log = Log()
    queue = CommandQueue()
    queue.put("7", partial(log.work, "never"))
    queue.put("7", partial(log.work, "nor this"))
    hanging = queue.begin(log.work("nor that"))
    await queue.close()
    assert hanging.cancelled()
    assert log.done == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def _set(event: asyncio.Event) -> None:
    event.set()


async def _fail() -> None:
    raise ZeroDivisionError
