from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from loop.evidence import Certification, Repeat
from loop.experiment import Actor, Reason, RunState
from loop.store.evidence.certifications import Certifications
from loop.store.evidence.repeats import Repeats
from loop.store.journal import Journal
from tests.bot.real_bot import TOY, RealBot, read_until
from tests.loop.lab import git


@pytest.fixture
def bot(tmp_path: Path) -> Iterator[RealBot]:
    made = RealBot(tmp_path)
    yield made
    for process in psutil.process_iter(["environ"]):  # what a failed test left running, and nothing else
        if (process.info["environ"] or {}).get("AUTORESEARCH_HOME") == str(made.home):
            process.kill()


CONSTANTLESS = """\
print("---")
for key in ("val_bpb", "training_seconds", "total_seconds", "peak_vram_mb"):
    print(f"{key}: 1.0")
"""


def gated(bot: RealBot) -> Path:
    """Let every training wait until the returned file is made."""
    gate = bot.folder / "gate"
    bot.environment["TORCH_GATE"] = str(gate)
    return gate


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
        assert bot.run("send", "retag toy wide").returncode == 0
        refused = bot.run("send", "/start_run other")
        assert refused.returncode == 1
        assert "Run wide is running on this machine" in refused.stdout
        assert bot.run("send", "/nonsense").returncode == 1
        bot.say("/pause")
        gate.touch()
        read_until(running, "Run wide paused by command")
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
    line = said.partition("Next: ")[2].strip()
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


def test_the_bot_process_stays_small(bot: RealBot) -> None:
    heavy = ("torch", "matplotlib", "numpy", "pydantic_ai")
    imports = f"import sys, bot.app, bot.cli.main; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", imports], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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


def test_a_deadline_within_the_budget_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    bot = RealBot(tmp_path, DEADLINE_MINUTES="1")  # the repository fixes 60 s
    done = bot.run("up", "--tag", "toy", "--experiments", "1", "--exit-when-done")
    assert done.returncode == 1
    assert (
        "DEADLINE_MINUTES=1 is not longer than the time budget of 60 s. Set it to more than 1" in done.stderr
    )
    assert bot.run("results", "--json").stdout.strip() in ("", "[]")


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


def test_any_results_file_gets_a_report_and_a_chart(bot: RealBot) -> None:
    lines = ("commit\tval_bpb\tmemory_gb\tstatus\tdescription", "baseline\t1.5\t2.0\tkeep\tbaseline")
    (bot.folder / "night.tsv").write_text("\r\n".join((*lines, "abc1234\t1.4\t2.0\tkeep\twider")))
    done = bot.run("report", "--results", "night.tsv", "--chart", "night.png", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["gain"] == pytest.approx(0.1)
    assert (bot.folder / "night.png").read_bytes().startswith(b"\x89PNG")
    assert bot.run("report", "--results", "night.tsv", "--chart", "/no/such/x.png").returncode == 1


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
