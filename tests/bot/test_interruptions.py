"""Bots that are ended or killed, trainings that hang, a loop that fails: what was under way goes on."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

from loop.experiment import Actor, Reason, RunState
from loop.store.journal import Journal
from tests.bot.real_bot import RealBot, gated, read_until
from tests.loop.lab import git


def test_a_training_outlives_bots_that_are_ended_and_killed(bot: RealBot) -> None:
    gate = gated(bot)
    with bot.start("--tag", "toy") as first:
        read_until(first, "step 1")
        second = bot.run("up")
        assert second.returncode == 1
        assert f"process {first.pid}" in second.stderr
        assert "Traceback" not in second.stderr
        first.send_signal(signal.SIGINT)
        assert first.wait(timeout=60) == 0
    for number in (signal.SIGTERM, signal.SIGKILL):
        with bot.start() as running:
            read_until(running, "step 1")
            running.send_signal(number)
            code = running.wait(timeout=60)
        assert code == (0 if number == signal.SIGTERM else -number)
    gate.touch()
    done = bot.run("up", "--experiments", "1", "--exit-when-done")
    assert done.returncode == 0, done.stderr
    assert "Experiment #0: baseline" in done.stdout
    assert "attempt 2" not in done.stdout
    results = bot.json("results")
    assert [row["number"] for row in results] == [0, 1]
    assert results[0]["status"] == "keep"


def test_a_killed_bot_loses_no_repeat(bot: RealBot) -> None:
    assert bot.run("up", "--tag", "toy", "--experiments", "1", "--exit-when-done").returncode == 0
    gate = gated(bot)
    with bot.start("--experiments", "1") as second:
        read_until(second, "#2 ")
        answer = bot.run("send", "/rerun 0 2").stdout
        assert answer == "Experiment #0 will be trained 2 more times, next.\n"
        assert bot.say("/skip").startswith("Skipping experiment #2")
        read_until(second, "Repeat 1 of 2 of #0 baseline")
        status = bot.json("status")
        assert [status[name] for name in ("experiment", "stage", "repeat", "repeats")] == [
            0,
            "training",
            1,
            2,
        ]
        second.kill()
    gate.touch()
    done = bot.run("up", "--experiments", "1", "--exit-when-done")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Repeat of #0: 1.074000 (first 1.074000; ") == 2
    assert bot.json("results")[0]["repeats"] == [1.074, 1.074]


HANGS = """\
import time

LEARNING_RATE = 0.01
if LEARNING_RATE != 0.01:
    print("step 1", flush=True)
    time.sleep(600)
print("---")
print("val_bpb: 1.0")
print("training_seconds: 1.0")
print("total_seconds: 2.0")
print("peak_vram_mb: 512.0")
"""


def test_a_training_that_hangs_is_given_up_and_the_loop_goes_on(tmp_path: Path) -> None:
    bot = RealBot(tmp_path, train=HANGS, HEARTBEAT_MINUTES="0.01", STALL_MINUTES="0.02")
    with bot.start("--tag", "toy") as running:
        told = read_until(running, "silent and idle")
        assert "→ crash" in told
        read_until(running, "Experiment #2: ")
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=60) == 0


def test_a_loop_that_ended_is_started_again_at_once(bot: RealBot) -> None:
    gate = gated(bot)
    with bot.start("--tag", "toy") as running:
        read_until(running, "step 1")
        shutil.rmtree(bot.home / "worktrees" / "toy")  # its log goes with it, so it is trained again
        gate.touch()
        read_until(running, "Experiment #2: ")
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=60) == 0
    assert "restarting its loop" in (bot.home / "bot.log").read_text()
    results = bot.json("results")
    assert [row["number"] for row in results] == list(range(len(results)))
    assert results[0]["status"] == "keep"


def test_a_stop_that_the_bot_died_over_is_carried_out_by_the_next(bot: RealBot) -> None:
    gate = gated(bot)
    with bot.start("--tag", "toy") as running:
        read_until(running, "50 % · step 1")
        running.kill()
    journal = Journal(bot.home / "state.db")
    run = journal.runs()[0]
    journal.set_state(run, RunState.STOPPED, Reason(Actor.PERSON, "ann"))
    journal.close()
    gate.touch()
    done = bot.run("up", "--tag", "other", "--experiments", "1", "--exit-when-done")
    assert done.returncode == 0, done.stderr
    (experiment,) = bot.json("results", "--tag", "toy")
    assert experiment["status"] in ("skip", "keep")  # as far as its training had come
    assert bot.json("status", "--tag", "toy")["stage"] is None
    git(bot.repository, "checkout", "--quiet", "autoresearch/toy")  # its worktree has let go
