"""The bot's log: a rotating file in the state directory."""

from __future__ import annotations

import logging
from collections.abc import Collection
from logging.handlers import RotatingFileHandler
from pathlib import Path

from loop.redaction import without_secrets

BYTES = 2_000_000
FILES = 3


class Formatter(logging.Formatter):
    """Writes a record as a line, with `***` for each of `secrets` and for what looks like one."""

    def __init__(self, secrets: Collection[str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with the traceback below it if there is one."""
        return without_secrets(super().format(record), self._secrets)


def start_logging(path: Path, secrets: Collection[str] = ()) -> None:
    """Write everything from INFO up to `path`, the older part to `path.1` and so on, without `secrets`."""
    handler = RotatingFileHandler(path, maxBytes=BYTES, backupCount=FILES, encoding="utf-8")
    path.chmod(0o600)
    handler.setFormatter(Formatter(secrets))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("apscheduler").setLevel(logging.WARNING)  # it would tell of every beat
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of URLs, and Telegram's hold the token
    logging.getLogger("telegram").setLevel(logging.CRITICAL)  # tracebacks of what our own lines say plainly
