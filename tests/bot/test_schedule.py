from __future__ import annotations

import asyncio

import pytest

from bot.app import every


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


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_a_call_is_made_again_and_again_also_after_an_error(caplog: pytest.LogCaptureFixture) -> None:
    calls = Calls()

    async def call() -> None:
        await calls.call()
        raise KeyError("error")

    task = asyncio.create_task(every(0.001, call))
    await calls.some()
    await end(task)
    assert "a scheduled call failed" in caplog.text


async def test_a_call_is_not_made_while_the_last_one_runs() -> None:
    running = 0
    calls = Calls()

    async def call() -> None:
        nonlocal running
        running += 1
        await calls.call()
        await asyncio.sleep(0.05)
        assert running == 1
        running -= 1

    task = asyncio.create_task(every(0.001, call))
    await calls.some()
    await end(task)
