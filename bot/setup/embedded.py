"""What runs where no repository is set: the training template, with a small model and embedded data."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bot.errors import BotError
from bot.setup.settings import Settings
from bot.setup.template import init_repository
from loop.process.environment import prepare_line
from loop.process.threads import in_thread

TIME_BUDGET = 20.0
"""Seconds of one training: enough on two cores to see one change from another, short enough to watch."""


def folder(settings: Settings) -> Path:
    """Return where the embedded repository stands."""
    return settings.home / "template"


async def prepare(settings: Settings) -> None:
    """Make the repository and its data unless they are there; the progress bar goes to stderr.

    Raises:
        BotError: the data could not be prepared.
    """
    repository = folder(settings)
    if not repository.exists():
        await in_thread(init_repository, repository, "cpu", TIME_BUDGET)
    preparing = await asyncio.create_subprocess_exec(
        sys.executable, "prepare.py", cwd=repository, stdin=asyncio.subprocess.DEVNULL, stdout=sys.stderr
    )
    try:
        status = await preparing.wait()
    except asyncio.CancelledError:
        preparing.terminate()
        await preparing.wait()
        raise
    if status != 0:
        raise BotError(f"The data could not be prepared. To see why: {prepare_line(repository)}")
