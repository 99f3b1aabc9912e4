"""The whole bot, as a process, on one night after another."""

from __future__ import annotations

import json
import re
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bot.real_bot import TOY, RealBot, gated, read_until
from tests.loop.lab import git

CONSTANTLESS = """\
print("---")
for key in ("val_bpb", "training_seconds", "total_seconds", "peak_vram_mb"):
    print(f"{key}: 1.0")
"""


NOSY = "import os\nprint(sorted(os.environ.items()))\n"


@dataclass(frozen=True)
class Night:
    """A bot whose run is done, which no test changes, and what it printed."""

    bot: RealBot
    output: str


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    bot = RealBot(tmp_path_factory.mktemp("night") / "user", train=NOSY + TOY, HF_TOKEN="hf_secret")
    done = bot.run("up", "--tag", "toy", "--experiments", "3", "--exit-when-done")
    assert done.returncode == 0, done.stderr
    return Night(bot, done.stdout)


def test_it_makes_the_experiments_tells_them_and_ends_with_the_report(night: Night) -> None:
    bot = night.bot
    for number in range(4):
        assert f"Experiment #{number}: " in night.output
    assert "val_bpb: 1.074000 (baseline)\nStatus: keep" in night.output
    results = bot.json("results")
    assert [row["number"] for row in results] == [0, 1, 2, 3]
    assert len({row["val_bpb"] for row in results}) > 1
    report, status = bot.json("report"), bot.json("status")
    assert report["tag"] == "toy"
    assert report["experiments"] == 4
    assert report["best"] == min(row["val_bpb"] for row in results)
    assert status["state"] == "done"
    for has_ledger in (report, status):
        assert has_ledger["ledger"]["total_seconds"] > 0
    rows = (bot.home / "worktrees" / "toy" / "results.tsv").read_text().splitlines()
    assert [row.split("\t")[0] for row in rows[1:]] == [row["commit"] for row in results]
    assert git(bot.repository, "status", "--porcelain") == ""


def test_nothing_of_the_state_is_open_to_others_and_no_secret_reaches_a_training(night: Night) -> None:
    home = night.bot.home
    for log in (home / "runs" / "1" / "0.log", home / "worktrees" / "toy" / "run.log"):
        assert "'PATH'" in log.read_text()
        assert "hf_secret" not in log.read_text()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "bot.log").stat().st_mode) == 0o600


def test_doctor_and_service_print_what_a_person_needs(night: Night) -> None:
    done = night.bot.run("doctor", "--all")
    assert done.returncode == 0, done.stdout
    assert "heartbeat" in done.stdout
    night.bot.environment["SANDBOX"] = "auto"
    assert re.fullmatch(r"All well \(\d+ checks; .*\)\.\n", night.bot.run("doctor").stdout)
    unit = night.bot.run("service").stdout
    assert f"AUTORESEARCH_HOME={night.bot.home}" in unit
    assert re.search(r'^ExecStart=".*/autoresearch" up$', unit, re.MULTILINE)


def test_a_program_without_constants_says_at_once_what_the_search_lacks(tmp_path: Path) -> None:
    bot = RealBot(tmp_path, train=CONSTANTLESS)
    with bot.start("--tag", "toy") as running:
        read_until(running, "Waiting for a proposal: The search finds no constant that it may change")
        assert "Waiting for a proposal: The search finds no constant" in bot.say("/status")
        running.terminate()


def test_commands_reach_the_running_bot(bot: RealBot) -> None:
    gate = gated(bot)
    with bot.start("--tag", "toy") as running:
        read_until(running, "50 % · step 1")
        status = bot.run("send", "/status")
        assert status.returncode == 0
        assert "Experiment #0: baseline\n█████░░░░░ 50 % · step 1 · loss 2.5000 · 1 s left" in status.stdout
        assert bot.run("send", "retag", "toy", "wide").returncode == 0
        refused = bot.run("send", "/start_run other")
        assert refused.returncode == 1
        assert "Run wide is running on this machine" in refused.stdout
        assert bot.run("send", "/nonsense").returncode == 1
        bot.say("/pause")
        gate.touch()
        read_until(running, "Run wide paused from the terminal")
        assert bot.say("/results").count("baseline") == 1
        assert "LEARNING_RATE" not in bot.say("/diff 0")
        assert "val_bpb: 1.074000" in bot.say("/log 0")
        bot.say("/resume")
        read_until(running, "Experiment #1: ")
        assert "train.py" in bot.say("/diff 1")
        assert bot.say("/diff 0 1").startswith("From experiment #0 to #1\ndiff --git a/train.py")
        bot.say("/stop")
        read_until(running, "Run wide is stopped.")
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=60) == 0
    assert bot.json("status")["state"] == "stopped"


def test_the_bot_process_stays_small(bot: RealBot) -> None:
    heavy = ("torch", "matplotlib", "numpy", "pydantic_ai")
    imports = f"import sys, bot.app, bot.cli.main; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", imports], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_any_results_file_gets_a_report_and_a_chart(bot: RealBot) -> None:
    lines = ("commit\tval_bpb\tmemory_gb\tstatus\tdescription", "baseline\t1.5\t2.0\tkeep\tbaseline")
    (bot.folder / "night.tsv").write_text("\r\n".join((*lines, "abc1234\t1.4\t2.0\tkeep\twider")))
    done = bot.run("report", "--results", "night.tsv", "--chart", "night.png", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["gain"] == pytest.approx(0.1)
    assert (bot.folder / "night.png").read_bytes().startswith(b"\x89PNG")
    assert bot.run("report", "--results", "night.tsv", "--chart", "/no/such/x.png").returncode == 1
