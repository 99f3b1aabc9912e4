"""Several runs at once, each in lanes of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from loop.folders import RunFolders
from loop.process.supervisor import STARTED
from loop.store.journal import Journal
from tests.bot.real_bot import Process, RealBot, gated, read_until


def wait_for(bot: RealBot, process: Process, condition: Callable[[Journal], bool]) -> None:
    with closing(Journal(bot.home / "state.db", read_only=True)) as journal:
        while not condition(journal):
            assert process.poll() is None
            time.sleep(0.02)


def test_two_runs_share_the_lanes_of_a_machine_also_after_a_kill(tmp_path: Path) -> None:
    bot = RealBot(tmp_path, LANES="2")
    gate = gated(bot)
    gate.touch()
    with bot.start("--tag", "both", "--experiments", "1") as running:
        read_until(running, "is done")
        gate.unlink()
        bot.say("/start_run left lanes=0 go")
        for taken in ("/start_run right", "/start_run right lanes=0", "/start_run right lanes=0,1 go"):
            refused = bot.run("send", taken)
            assert refused.returncode == 1
            assert "Run left is running on this machine" in refused.stdout
        bot.say("/start_run right lanes=1 go")
        started = [RunFolders(bot.home, run).attempt(0, 1) / STARTED for run in (2, 3)]
        wait_for(bot, running, lambda _: all(map(Path.exists, started)))
        running.kill()
    with bot.start() as again:
        gate.touch()
        wait_for(bot, again, lambda journal: all(len(journal.experiments(run)) > 3 for run in (2, 3)))
        again.terminate()
    with closing(Journal(bot.home / "state.db", read_only=True)) as journal:
        lanes = [{each.lane for each in journal.experiments(run)} for run in (2, 3)]
        attempts = [journal.experiments(run)[0].attempt for run in (2, 3)]
    assert lanes == [{0}, {1}]
    assert attempts == [1, 1]  # what trained was found again
