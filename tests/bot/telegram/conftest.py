"""What holds for the tests of this platform: they do not wait."""

from __future__ import annotations

from tests.bot.idle_clock import IdleLoop


def pytest_asyncio_loop_factories() -> dict[str, type[IdleLoop]]:
    return {"idle": IdleLoop}
