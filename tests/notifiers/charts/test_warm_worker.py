from __future__ import annotations

import asyncio
import sys

import psutil

from notifiers.charts.warm_worker import WarmWorker

PID = "os:getpid"


async def test_a_warm_worker_is_ready_for_the_next_call_and_ends_with_its_owner() -> None:
    warm = WarmWorker(PID, name="The test", python=sys.executable)
    pids = [await warm.call(returns=int, limit=60.0)]
    for _ in range(2):
        assert warm.spare is not None
        pids.append((await warm.spare).pid)
        assert await warm.call(returns=int, limit=60.0) == pids[-1]
    assert len(set(pids)) == 3  # each answers once, so that none can carry anything over
    assert warm.spare is not None
    last = (await warm.spare).pid
    await warm.close()
    assert not psutil.pid_exists(last)
    assert await warm.call(returns=int, limit=60.0) not in pids
    await warm.close()


async def test_a_warm_worker_that_has_died_is_replaced() -> None:
    warm = WarmWorker(PID, name="The test", python=sys.executable)
    assert await warm.call(returns=int, limit=60.0)
    assert warm.spare is not None
    dead = await warm.spare
    dead.kill()
    while dead.returncode is None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert await warm.call(returns=int, limit=60.0) != dead.pid
    await warm.close()
