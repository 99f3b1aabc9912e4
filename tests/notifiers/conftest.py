from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loop.experiment import Run
from tests.notifiers.bench import Bench
from tests.notifiers.recording import VirtualTime
from tests.notifiers.stories import open_journal, start
from tests.servers.web_hook import WebHook, open_web_hook


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    virtual = VirtualTime()
    with open_journal(tmp_path, virtual) as journal:
        yield Bench(journal, virtual)


@pytest.fixture
async def run(bench: Bench) -> Run:
    """A run whose start was told."""
    bench.at("12:00")
    await bench.delivery.catch_up()
    run = start(bench.journal)
    await bench.delivery.catch_up()
    assert bench.channel.heads == ["Run mar12 started"]
    bench.channel.sent.clear()
    return run


@pytest.fixture
def service() -> Iterator[WebHook]:
    """What apprise sends to."""
    with open_web_hook() as hook:
        yield hook
