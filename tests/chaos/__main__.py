"""A storm from its beginning to the look at what is left. Settings: CHAOS_KILLS, CHAOS_SEED, CHAOS_AHEAD and
LANES.

The exit status is 1 where anything was lost.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from tests.chaos.calm import calm, decided
from tests.chaos.process import Bot
from tests.chaos.site import Site, mounted
from tests.chaos.storm import Storm
from tests.chaos.verify import found, losses
from tests.loop.real_git import snapshot
from tests.servers.telegram_server import TelegramServer, serving

KILLS = 60
SECONDS_A_KILL = 10.0
"""A storm that has not come to all its kills after so long is over: after ten minutes for 60."""

FIRST_TRAINING = 60.0


async def weather(site: Site, server: TelegramServer, *, seed: int, kills: int, ahead: str) -> list[str]:
    """Let a storm blow over a new run, tell its figures, and return what was lost."""
    chance = random.Random(seed)
    fake_clock = _fake_clock(site)
    lanes = {"LANES": os.environ.get("LANES", "1")}
    bot = Bot(site, {**_telegram(server), **fake_clock, **lanes}, ahead=ahead)
    before = snapshot(site.repository)
    until = time.monotonic() + kills * SECONDS_A_KILL
    storm = Storm(site, bot, chance=chance, kills=kills, until=until, clock=bool(fake_clock))
    figures = storm.figures
    if not site.small_home:
        figures.skipped.append("The disk was never full: that takes root and tmpfs.")
    if not fake_clock:
        figures.skipped.append(
            "The clock was never set: that takes a libfaketime under which Python can sleep, "
            "or the path of one in LIBFAKETIME."
        )
    await bot.start("--tag", "storm")
    # Not before: where the baseline is killed, the run is over, as it should be.
    if not await storm.until(lambda: decided(site) > 0, FIRST_TRAINING):
        return [f"no training came to an end within {FIRST_TRAINING:.0f} s"]
    parts = site.parts_of_trainings
    if not await storm.until(lambda: all(parts().values()), FIRST_TRAINING):
        return [f"no training ran in bwrap within {FIRST_TRAINING:.0f} s"]
    say(f"Trainings run in {parts()['bwrap'][0].info['cmdline'][0]}.")
    await storm.blow()
    lost = await calm(site, bot, storm, chance)
    lost += losses(site, server.api.posts, skips=figures.others["/skip"] + 1)
    if snapshot(site.repository) != before:
        lost.append("the user's checkout has changed")
    begins = sorted(note.at for note in site.notes() if note.what == "begin")
    say(figures.tell(figures.recoveries(begins), found(site)))
    return lost


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _telegram(server: TelegramServer) -> Mapping[str, str]:
    return {
        "TELEGRAM_BOT_TOKEN": server.api.token,
        "TELEGRAM_CHAT_IDS": "7",
        "TELEGRAM_BASE_URL": server.base_url,
    }


def _fake_clock(site: Site) -> Mapping[str, str]:
    """Return what lets the bot's clock follow the file `clock`, empty where no libfaketime does.

    Under some versions, 0.9.10 among them, every `time.sleep` fails where the monotonic clock is left alone.
    """
    installed = [str(path) for path in Path("/usr").glob("l*/**/faketime/libfaketime.so.1")]
    library = os.environ.get("LIBFAKETIME") or next(iter(installed), "")
    if not library:
        return {}
    clock = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(site.clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    sleep = [sys.executable, "-c", "import time; time.sleep(0.001)"]
    slept = subprocess.run(sleep, env={**os.environ, **clock}, capture_output=True, check=False)
    return clock if slept.returncode == 0 else {}


async def main() -> int:
    """Run one storm. What it leaves behind is kept only where something was lost."""
    kills = int(os.environ.get("CHAOS_KILLS", KILLS))
    seed = int(os.environ.get("CHAOS_SEED", random.SystemRandom().randrange(10**6)))
    ahead = os.environ.get("CHAOS_AHEAD", "always")  # or never: whether a Python waits for each training
    again = f"CHAOS_KILLS={kills} CHAOS_SEED={seed} CHAOS_AHEAD={ahead} LANES={os.environ.get('LANES', '1')}"
    say(f"A storm of {kills} kills; {again} throws the same dice.")
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    with mounted(folder / "home") as small_home:
        site = Site(folder, small_home=small_home)
        try:
            async with serving() as server:
                lost = await weather(site, server, seed=seed, kills=kills, ahead=ahead)
        finally:
            for process in site.processes():
                with suppress(psutil.Error):
                    process.kill()
        if lost:
            shutil.copytree(
                site.home, folder / "left", ignore=shutil.ignore_patterns("*.sock"), symlinks=True
            )
    say(f"It took {time.monotonic() - began:.0f} s.")
    for loss in lost:
        say(f"LOST: {loss}")
    if lost:
        say(f"Look into {folder} (the state directory is in `left`), and repeat it: {again}")
        return 1
    shutil.rmtree(folder)
    say("Nothing was lost.")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
