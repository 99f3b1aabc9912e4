from __future__ import annotations

import asyncio
import re
import threading
from pathlib import Path

import pytest

from loop.process.worker import in_thread


async def test_it_returns_what_the_call_returns_or_raises() -> None:
    assert await in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)


def test_blocking_work_is_given_to_threads_in_one_way() -> None:
    root = Path(__file__).parents[3]
    other = re.compile(r"\bto_thread\(|run_in_executor")
    found = {
        str(file.relative_to(root))
        for folder in ("bot", "loop", "notifiers")
        for file in (root / folder).rglob("*.py")
        if other.search(file.read_text())
    }
    assert found == {"loop/process/worker.py"}


async def test_a_cancelled_caller_waits_for_the_call() -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait()
        ended.set()

    task = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
