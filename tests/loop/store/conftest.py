"""What holds for the tests of the store."""

from __future__ import annotations

import pytest

from loop.store.journal import Journal
from tests.conftest import migrate


@pytest.fixture
def tables_by_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each new journal make its tables as the bot's does."""
    monkeypatch.setattr(Journal, "_migrate", migrate)
