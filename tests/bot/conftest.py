"""Fixtures of the bot's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bot.setup.settings import Settings
from loop.process import worker
from tests.bot.preloaded import forking_workers, preloaded


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
