"""Fixtures of the bot's tests."""

from __future__ import annotations

import pytest

from bot.setup.settings import Settings


@pytest.fixture(autouse=True)
def only_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the settings of whoever runs the tests from the bot."""
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)
