"""What a bot goes on with that is started again, in the same repository or in another one."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.bot.real_bot import RealBot, gated, read_until
from tests.loop.lab import git


def test_later_starts_go_on_with_the_run_and_tell_of_the_night_that_was_missed_once(bot: RealBot) -> None:
    arguments = ("up", "--experiments", "1", "--exit-when-done")
    assert bot.run(*arguments, "--tag", "toy").returncode == 0
    with closing(sqlite3.connect(bot.home / "state.db")) as journal:
        journal.execute("UPDATE events SET at = at - 86400 WHERE kind = 'run_started'")
        journal.commit()
    morning = datetime.now(UTC) - timedelta(hours=12)  # far from this one and the next
    bot.environment |= {"TIME_ZONE": "UTC", "WAKE_UP": f"{morning:%H:%M}"}
    later = [bot.run(*arguments) for _ in range(2)]
    for number, done in enumerate(later, start=2):
        assert done.returncode == 0, done.stderr
        assert re.findall(r"(?m)^Experiment #(\d+): ", done.stdout) == [str(number)]
    reports = [len(re.findall(r"(?m)^toy: \d experiments in ", done.stdout)) for done in later]
    assert reports == [2, 1]  # that of the morning, and that at the end of `up`
    assert [row["number"] for row in bot.json("results")] == [0, 1, 2, 3]

    other = other_repository(bot)  # it gets a run of its own
    bot.environment["WAKE_UP"] = ""
    done = bot.run(*arguments)
    assert done.returncode == 0, done.stderr
    assert git(other, "branch", "--list", "autoresearch/*")
    assert len(bot.json("results", "--tag", "toy")) == 4
    assert len(bot.json("results")) == 2


def other_repository(bot: RealBot) -> Path:
    """Let the bot be set to another repository from now on."""
    other = bot.folder / "other"
    git(bot.folder, "clone", "--quiet", str(bot.repository), str(other))
    bot.environment["REPOSITORY"] = str(other)
    return other


def test_a_run_of_another_repository_waits_for_a_person(bot: RealBot) -> None:
    gate = gated(bot)
    with bot.start("--tag", "toy") as running:
        read_until(running, "50 % · step 1")
        running.terminate()
    other = other_repository(bot)
    sentence = f"Run toy is of {bot.repository}, but REPOSITORY is {other}"
    refused = bot.run("up", "--exit-when-done")
    assert (refused.returncode, sentence in refused.stderr) == (1, True)
    with bot.start() as running:
        begins = sentence.partition(", but ")[0]  # a long path after it is cut
        read_until(running, f"/resume continues it; /stop and /start_run begin another. {begins}")
        status = bot.json("status")
        assert (status["state"], status["bot_answers"]) == ("paused", True)
        bot.say("/stop")
        gate.touch()
        bot.say("/start_run mine go")
        read_until(running, "Experiment #0: baseline")
        running.terminate()
    assert git(other, "branch", "--list", "autoresearch/mine")


def test_a_run_that_was_told_to_go_on_goes_on_after_the_next_start_too(bot: RealBot) -> None:
    gate = gated(bot)
    with bot.start("--tag", "toy") as running:
        read_until(running, "50 % · step 1")
        running.terminate()
    other_repository(bot)
    with bot.start() as running:
        read_until(running, "begin another")
        bot.say("/resume")
        running.terminate()
    gate.touch()
    with bot.start() as running:
        read_until(running, "Experiment #1: ")
        running.terminate()
