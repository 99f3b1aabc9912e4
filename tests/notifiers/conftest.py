from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loop.experiment import Run
from tests.notifiers.desk import Desk
from tests.notifiers.recording import VirtualTime
from tests.notifiers.stories import open_journal, start
from tests.servers.web_hook import WebHook, open_web_hook


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    virtual = VirtualTime()
    with open_journal(tmp_path, virtual) as journal:
        yield Desk(journal, virtual)


@pytest.fixture
async def run(desk: Desk) -> Run:
    """A run whose start was told."""
    desk.at("12:00")
    await desk.delivery.catch_up()
    run = start(desk.journal)
    await desk.delivery.catch_up()
    assert desk.channel.heads == ["Run mar12 started"]
    desk.channel.sent.clear()
    return run


@pytest.fixture
def service() -> Iterator[WebHook]:
    """What apprise sends to."""
    with open_web_hook() as hook:
        yield hook
