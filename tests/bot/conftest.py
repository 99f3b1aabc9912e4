"""Fixtures of the bot's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bot.setup.settings import Settings
from loop.process import worker
from tests.bot.preloaded import forking_workers, preloaded
from tests.bot.real_bot import RealBot


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the process that bots are forked off from, if there will be workers to share it."""
    here = Path(__file__).parent
    if session.config.option.workers > 1 and any(here in item.path.parents for item in session.items):
        preloaded()


@pytest.fixture(autouse=True, scope="session")
def only_own_settings() -> Iterator[None]:
    """Hide the settings of the user who runs the tests from the bot."""
    with pytest.MonkeyPatch.context() as patch:
        for field in Settings.model_fields.values():
            patch.delenv(str(field.validation_alias), raising=False)
        yield


@pytest.fixture(autouse=True)
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start workers without their imports; tests of the worker and some whole bots start real ones."""
    monkeypatch.setattr(worker, "start_worker", forking_workers(lambda: preloaded().orders))


@pytest.fixture
def bot(tmp_path: Path) -> Iterator[RealBot]:
    made = RealBot(tmp_path)
    yield made
    for process in psutil.process_iter(["environ"]):  # what a failed test left running, and nothing else
        if (process.info["environ"] or {}).get("AUTORESEARCH_HOME") == str(made.home):
            process.kill()
