"""Fixtures of the bot's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bot.setup.settings import Settings


@pytest.fixture(autouse=True, scope="session")
def only_own_settings() -> Iterator[None]:
    """Hide the settings of the user who runs the tests from the bot."""
    with pytest.MonkeyPatch.context() as patch:
        for field in Settings.model_fields.values():
            patch.delenv(str(field.validation_alias), raising=False)
        yield
