"""What holds for the tests of the store."""

from __future__ import annotations

import pytest

from loop.store.journal import Journal
from tests.conftest import migrate


@pytest.fixture(autouse=True)
def tables_by_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "_migrate", migrate)
