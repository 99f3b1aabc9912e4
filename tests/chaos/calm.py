"""After the storm: the run must go on, be told to its end, and stop for good even if the bot dies over it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable

from tests.chaos.process import Bot
from tests.chaos.site import Site
from tests.chaos.storm import Storm
from tests.chaos.verify import CHANNEL, left_folders, undecided

GOES_ON = 180.0
STOPS = 60.0
STARTS = 60.0
TOLD = 300.0
CLEARED = 15.0
"""Seconds to wait for each; all but the telling take a few as a rule, which takes a second a message."""


async def calm(site: Site, bot: Bot, storm: Storm, chance: random.Random) -> list[str]:
    """Bring the run to its end; return what did not come about."""
    lost = []

    async def require(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
        if not await storm.until(condition, seconds):
            lost.append(otherwise)

    await bot.terminate()
    await bot.start()  # writes results.tsv anew, whatever was done to it
    before = decided(site)
    await require(lambda: decided(site) >= before + 2, GOES_ON, "the run does not go on after the storm")
    stopping = asyncio.create_task(bot.send("/stop"))
    await require(lambda: _stopped(site), STOPS, "the run could not be stopped")
    await asyncio.sleep(chance.choice((0, chance.uniform(0, 0.3))))
    os.kill(bot.pid, signal.SIGKILL)
    await bot.ended()
    await stopping
    await bot.start()
    await require(lambda: _listens(site, bot), STARTS, "the bot does not start again")
    await require(lambda: not undecided(site), STOPS, "a stopped run was left with an open experiment")
    await require(lambda: _all_told(site), TOLD, "not everything was told")
    await require(lambda: not left_folders(site), CLEARED, "folders of trainings are left")
    status = await bot.terminate()
    if status != 0:
        lost.append(f"the bot ended with status {status} after SIGTERM")
    await require(lambda: not site.processes(), CLEARED, "processes are left")
    return lost


def decided(site: Site) -> int:
    rows = site.query("SELECT count(*) FROM experiments WHERE status IS NOT NULL")
    return int(rows[0][0]) if rows else 0


def _stopped(site: Site) -> bool:
    return site.query("SELECT state FROM runs") == [("stopped",)]


def _listens(site: Site, bot: Bot) -> bool:
    """Tell whether it has come so far that a signal ends it cleanly."""
    return bool(site.query(f"SELECT 1 FROM sessions WHERE pid = {bot.pid}"))


def _all_told(site: Site) -> bool:
    rows = site.query(
        "SELECT count(*) FROM events WHERE kind = 'decided' AND id NOT IN (SELECT event_id FROM deliveries "
        f"WHERE channel = '{CHANNEL}' AND state NOT IN ('held', 'follows'))"
    )
    return bool(rows) and rows[0][0] == 0
