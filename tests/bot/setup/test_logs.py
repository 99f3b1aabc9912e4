from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.setup.service import start_logging

KEY = "a-key-of-nobody-knows-what"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    path = tmp_path / "bot.log"
    start_logging(path, {KEY, "x"})
    yield path
    for handler in root.handlers:
        handler.close()
    root.handlers, root.level = handlers, level


def test_no_secret_is_written_not_even_with_a_traceback(log: Path) -> None:
    logger = logging.getLogger("of.somebody.else")
    logger.info("asking with %s at https://ann:hunter2@example.com/", KEY)
    trouble = ValueError(f"refused: Bearer {KEY}, and sk-ant-api03-1234567890abcdef")
    logger.error("it failed", exc_info=trouble)
    text = log.read_text()
    assert "asking with *** at https://***@example.com/" in text
    assert "refused: Bearer ***, and ***" in text
    assert KEY not in text


def test_only_the_user_may_read_it(log: Path) -> None:
    assert log.stat().st_mode & 0o777 == 0o600
