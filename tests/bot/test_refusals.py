"""What the command line refuses, in one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bot.real_bot import RealBot


def test_mistakes_are_one_sentence_and_status_1(bot: RealBot) -> None:
    for arguments in (
        ("status",),
        ("send", "/status"),
        ("results", "--tag", "nowhere"),
        ("report", "--results", "nowhere.tsv"),
        ("up", "--tag", "no..good"),
        ("init", str(bot.repository)),
    ):
        done = bot.run(*arguments)
        assert done.returncode == 1, arguments
        assert done.stderr.count("\n") == 1, done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("place", ["new", "there"])
def test_a_state_directory_that_cannot_be_written_is_one_sentence(bot: RealBot, place: str) -> None:
    home = {"new": "/sys/autoresearch", "there": "/sys"}[place]  # not even root may write there
    done = bot.run("--home", home, "up")
    assert done.returncode == 1
    assert done.stderr.startswith(f"Cannot write to the state directory {home} (")
    assert done.stderr.endswith("). Choose another one with --home or AUTORESEARCH_HOME.\n")
    assert done.stderr.count("\n") == 1


def test_init_tells_what_to_type_next(bot: RealBot) -> None:
    said = bot.run("init", str(bot.folder / "my research"), "--profile", "cpu").stdout
    line, then = said.partition("Next: ")[2].splitlines()
    assert then.startswith(f"Then put REPOSITORY={bot.folder / 'my research'} into .env")
    checked = subprocess.run(
        f"{line} --check", shell=True, env=bot.environment, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 1  # of prepare.py, which has all packages that it needs
    assert "is not prepared in" in checked.stderr


def test_missing_data_is_named_with_the_command_that_makes_it(bot: RealBot) -> None:
    bot.environment["DATA_PATHS"] = str(bot.folder / "nodata")
    done = bot.run("up", "--exit-when-done")
    assert done.returncode == 1
    assert f"Data: missing: {bot.folder / 'nodata'} (from DATA_PATHS)" in done.stderr
    assert f"Run: cd {bot.repository} && {sys.executable} prepare.py" in done.stderr


def test_a_deadline_within_the_budget_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    bot = RealBot(tmp_path, DEADLINE_MINUTES="1")  # the repository fixes 60 s
    done = bot.run("up", "--tag", "toy", "--experiments", "1", "--exit-when-done")
    assert done.returncode == 1
    assert (
        "DEADLINE_MINUTES=1 is not longer than the time budget of 60 s. Set it to more than 1" in done.stderr
    )
    assert bot.run("results", "--json").stdout.strip() in ("", "[]")
