"""Certification and pruning by a whole bot."""

from __future__ import annotations

import signal
import time
from contextlib import closing
from pathlib import Path

import pytest

from loop.evidence import Certification, Repeat
from loop.store.evidence.certifications import Certifications
from loop.store.evidence.repeats import Repeats
from loop.store.journal import Journal
from tests.bot.real_bot import RealBot, gated, read_until

NOISY = """\
import os
import time

SEED = 1
WIDTH = 64
noise = SEED % 3 / 1000
value = (1 if WIDTH == 64 else 0.9) + noise
time.sleep(0.02)
print("---")
print(f"val_bpb: {value:.6f}")
print("training_seconds: 1.0")
print("total_seconds: 2.0")
print("peak_vram_mb: 512.0")
"""


THEN_WAITS = """
with open(os.environ["HOME"] + "/trained", "a+b", buffering=0) as trained:
    trained.write(b"x")
    while trained.tell() > 3 and not os.path.exists(os.environ["TORCH_GATE"]):
        time.sleep(0.01)
"""
"""The end of a toy whose fourth training waits for a file."""


def read_certification(bot: RealBot) -> tuple[Certification, list[Repeat], int] | None:
    """Return the run's certification, its repeats, and how many have a number."""
    with closing(Journal(bot.home / "state.db", read_only=True)) as journal:
        certifications = Certifications(journal)
        for made in certifications.of(1):
            numbers = certifications.numbers(made, "val_bpb").values()
            measured = sum(number is not None for each in numbers for number in each)
            return made, Repeats(journal).of_certification(made.id), measured
    return None


def test_a_run_is_certified_at_its_end_though_the_bot_is_killed_and_the_report_says_so(
    tmp_path: Path,
) -> None:
    bot = RealBot(tmp_path, train=NOISY + THEN_WAITS, FROZEN_CONSTANTS="SEED")
    gate = gated(bot)
    order = ("--tag", "toy", "--experiments", "1", "--exit-when-done", "--certify")
    with bot.start(*order) as first:
        read_until(first, "Experiment #1: ")
        while not ((found := read_certification(bot)) and found[2]):
            assert first.poll() is None
            time.sleep(0.02)
        first.kill()
    assert found[0].ended_at is None
    gate.touch()
    done = bot.run("up", *order)
    assert done.returncode == 0, done.stderr
    found = read_certification(bot)
    assert found is not None
    made, repeats, _ = found
    assert made.repeats == 3
    assert len(repeats) == 6
    assert all(each.k and not each.given_up for each in repeats)
    certified = bot.json("report")["certified"]
    assert set(certified) == {"gain", "low", "high", "repeats"}
    assert certified["gain"] == pytest.approx(0.1)
    assert certified["repeats"] == 3
    assert len(bot.json("results")[0]["repeats"]) == 3
    assert bot.run("report").stdout.count("certified -0.1000") == 1
    assert done.stdout.count("2 × 3 repeats") == 2  # the message at its end, and the report
    assert "certified" in bot.run("status").stdout


def test_certify_says_what_it_costs_and_is_refused_where_there_is_nothing(tmp_path: Path) -> None:
    bot = RealBot(tmp_path, train=NOISY, FROZEN_CONSTANTS="SEED")
    with bot.start("--tag", "toy", "--experiments", "1") as running:
        read_until(running, "is done")
        assert "3 times each, about" in bot.say("/certify")
        read_until(running, "2 × 3 repeats")
        read_until(running, "is done")
        running.send_signal(signal.SIGTERM)
    assert len(bot.json("results")) == 2  # no experiment was made beside it
    assert bot.json("report")["certified"]["repeats"] == 3


def test_keeps_are_left_out_and_removed_on_command_only(tmp_path: Path) -> None:
    bot = RealBot(tmp_path, train=NOISY, FROZEN_CONSTANTS="SEED", NOISE_RUNS="2")
    with bot.start("--tag", "toy", "--experiments", "1") as running:
        read_until(running, "is done")
        assert "trained without 1 keep, about" in bot.say("/prune")
        assert "Status: discard" in read_until(running, "measured without #1, which seems to bring +0.1")
        read_until(running, "Each keep brings something")
        read_until(running, "is done")
        assert "without #1 will be tried as one experiment" in bot.say("/prune 1")
        read_until(running, "Experiment #3: remove #1")
        read_until(running, "is done")
        running.send_signal(signal.SIGTERM)
    rows = bot.json("results")
    assert [row["status"] for row in rows] == ["keep", "keep", "discard", "discard"]
    assert rows[2]["description"].startswith("without #1: ")
    assert bot.json("report")["best"] == rows[1]["val_bpb"]
