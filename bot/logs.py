"""The bot's log: a rotating file in the state directory."""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

BYTES = 2_000_000
FILES = 3


def start_logging(path: Path) -> None:
    """Write everything from INFO up to `path`, the older part to `path.1` and so on."""
    handler = RotatingFileHandler(path, maxBytes=BYTES, backupCount=FILES, encoding="utf-8")
    path.chmod(0o600)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("apscheduler").setLevel(logging.WARNING)  # it would tell of every beat
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of URLs, and Telegram's hold the token
    logging.getLogger("telegram").setLevel(logging.CRITICAL)  # tracebacks of what our own lines say plainly
