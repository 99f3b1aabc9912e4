"""A night on a machine whose clock is set while a training runs."""

from __future__ import annotations

import math
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from loop.experiment import Stage, Status
from loop.store.journal import Journal
from tests.bot.real_bot import RealBot, read_until
from tests.bot.wall_clock import WallClock

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(  # the clock is set for the bot alone, by a library compiled here and preloaded
        sys.platform != "linux" or not shutil.which("cc"), reason="takes Linux and a C compiler, cc"
    ),
]


class ClockedBot(RealBot):
    """A bot that goes by a clock of its own; its trainings wait for a gate."""

    forks = False

    def __init__(self, folder: Path) -> None:
        self.gate = folder / "gate"
        settings = {"HEARTBEAT_MINUTES": "0.02", "STALL_MINUTES": "1", "TORCH_GATE": str(self.gate)}
        super().__init__(folder / "bot", time_budget=60, **settings)
        self.clock = WallClock(folder)

    def command(self, *arguments: str) -> list[str]:
        return [str(self.clock.python), *super().command(*arguments)]


@pytest.fixture
def bot(tmp_path: Path) -> Iterator[ClockedBot]:
    made = ClockedBot(tmp_path)
    yield made
    for process in psutil.process_iter(["environ"]):  # what a failed test left running, and nothing else
        if (process.info["environ"] or {}).get("WALL_CLOCK") == str(tmp_path / "clock"):
            process.kill()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that another process does."""
    give_up = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < give_up, f"waited in vain for {what}"
        time.sleep(0.05)


@pytest.mark.parametrize("hours", [(3,), (-3,), (3, 0)])
def test_a_clock_that_is_set_disturbs_nothing(bot: ClockedBot, hours: tuple[int, ...]) -> None:
    log = bot.home / "worktrees" / "toy" / "run.log"
    with bot.start("--tag", "toy", "--experiments", "2") as running:
        wait_for(lambda: log.exists() and "step" in log.read_text(), "the first training")
        with closing(Journal(bot.home / "state.db", read_only=True)) as journal:
            for hour in hours:
                bot.clock.set_by(hours=hour)
                for _ in range(3):
                    last = journal.last_beat()
                    wait_for(lambda: journal.last_beat() != last, "a heartbeat")  # noqa: B023
            bot.gate.touch()
            read_until(running, "Experiment #2: ")
            wait_for(lambda: journal.runs()[0].state == "done", "the run's end")
            made = journal.experiments(1)
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=20) == 0
    assert [(e.number, e.stage, e.attempt) for e in made] == [(n, Stage.DECIDED, 1) for n in range(3)]
    assert made[0].status is Status.KEEP
    assert all(e.status in (Status.KEEP, Status.DISCARD) for e in made)
    told = (bot.home / "bot.log").read_text()
    jumps = [after - before for before, after in zip((0, *hours), hours, strict=False)]
    assert told.count("the clock was set by") == len(jumps)
    assert all(f"the clock was set by {3600 * jump:+d} s" in told for jump in jumps)
    ledger = bot.json("status")["ledger"]
    assert min(ledger["seconds"].values()) >= 0
    assert math.isclose(sum(ledger["seconds"].values()), ledger["total_seconds"], abs_tol=1e-3)
    assert ledger["total_seconds"] == ledger["ended_at"] - ledger["started_at"]
