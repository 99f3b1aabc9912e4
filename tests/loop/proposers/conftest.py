"""Fixtures of the proposers' tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loop.proposers.oracles import Institute


@pytest.fixture
def institute(tmp_path: Path) -> Iterator[Institute]:
    """A run in a real journal, and researchers for it."""
    made = Institute(tmp_path)
    yield made
    made.journal.close()
