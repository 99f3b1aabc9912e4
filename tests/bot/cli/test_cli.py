"""The command line without a bot: what it says of a state directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner, Result

from bot.cli import open_run, what_goes_on
from bot.cli.main import app
from bot.setup.doctor import Check
from bot.setup.settings import Settings, load_settings
from loop.errors import UserError
from loop.experiment import RunState, Stage, Training
from loop.shell import own_command
from loop.store.journal import Journal
from loop.store.tables.migrations import MIGRATIONS
from tests.loop.real_git import make_repository
from tests.loop.store.test_journal import make_experiment, make_run, write_version


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)  # away from a .env of the user who runs the tests
    return load_settings(tmp_path / "no.env", {"AUTORESEARCH_HOME": str(tmp_path / "home")})


def refusal(settings: Settings, tag: str | None) -> str:
    with pytest.raises(UserError) as caught, open_run(settings, tag):
        pass
    return str(caught.value)


def test_a_state_directory_that_is_a_file_is_told_with_where_it_was_named() -> None:
    rule = "must be a folder, but /dev/null is a file."
    environment = {"AUTORESEARCH_HOME": "/dev/null"}
    refused = CliRunner().invoke(app, ["status"], env=environment).exception
    assert str(refused) == f"AUTORESEARCH_HOME in the environment {rule}"
    refused = CliRunner().invoke(app, ["--home", "/dev/null", "status"], env=environment).exception
    assert str(refused) == f"--home {rule}"


def test_a_state_directory_that_may_not_be_entered_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, int]] = []
    monkeypatch.setattr("os.access", lambda path, mode: asked.append((path, mode)))  # root may enter any
    refused = CliRunner().invoke(app, ["doctor"], env={"AUTORESEARCH_HOME": str(tmp_path / "new")}).exception
    rule = f"must be a folder that can be opened, but {tmp_path} denies access."
    assert str(refused) == f"AUTORESEARCH_HOME in the environment {rule}"
    assert asked == [(tmp_path, os.X_OK)]


def test_where_no_run_is_known_one_is_to_be_started(settings: Settings) -> None:
    said = f"No run in {settings.home} yet: start one with `{own_command('up', settings.home)}`."
    assert refusal(settings, None) == said
    Journal(settings.home / "state.db").close()  # what a start that was refused leaves behind
    assert refusal(settings, None) == said


def test_an_unknown_run_is_told_with_the_known_ones(settings: Settings) -> None:
    with closing(Journal(settings.home / "state.db")) as journal:
        make_run(journal)
    assert refusal(settings, "mar13") == f"No run mar13 in {settings.home}; known runs: mar12."


def test_a_status_without_a_bot_says_that_nobody_runs_it(settings: Settings) -> None:
    def status(*options: str) -> str:
        return CliRunner().invoke(app, ["--home", str(settings.home), "status", *options]).stdout

    with closing(Journal(settings.home / "state.db")) as journal:
        run = make_run(journal)
        assert status().endswith(f"\nNo bot is running: `{own_command('up', settings.home)}` continues it\n")
        assert json.loads(status("--json"))["bot_answers"] is False
        journal.set_state(run, RunState.STOPPED)
        assert "No bot is running" not in status()


def test_what_goes_on_without_the_bot_is_told_with_what_ends_it(settings: Settings) -> None:
    up = own_command("up", settings.home)
    with closing(Journal(settings.home / "state.db")) as journal:
        assert what_goes_on(settings) == ""
        run = make_run(journal)
        assert what_goes_on(settings) == f"To continue run mar12: {up}"
        training = Training(1, supervisor_pid=4711, supervisor_started=1.0, started_at=time.time() - 60)
        journal.record(replace(make_experiment(run, 7), stage=Stage.TRAINING, training=training))
        first, second = what_goes_on(settings).splitlines()
        assert first.startswith("Experiment #7 trains on without the bot, for ")  # 9 min, but for the clock
        assert first.endswith(" min at most. To end it: kill 4711")
        assert second == f"To continue run mar12: {up}"
        journal.set_state(run, RunState.PAUSED)
        assert what_goes_on(settings).endswith(f"\nTo continue run mar12: {up}, then /resume")
        journal.set_state(run, RunState.DONE)
        assert what_goes_on(settings) == ""


READERS = (
    "status",
    "status --json",
    "results",
    "report",
    "report --html page.html",
    "export --jsonl -",
    "bundle",
)


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize(
    ("version", "said"),
    [
        (1, "start the bot with `{up}`, or restart it, to bring the file up to date."),
        (999, "update autoresearch-bot."),
    ],
)
def test_a_command_that_only_reads_says_what_another_version_needs_and_writes_nothing(
    settings: Settings, command: str, version: int, said: str
) -> None:
    path = settings.home / "state.db"
    path.parent.mkdir()
    write_version(path, version)
    before = path.read_bytes()
    refused = CliRunner().invoke(app, ["--home", str(settings.home), *command.split()]).exception
    assert isinstance(refused, UserError)
    assert str(refused).startswith(f"The state file {path} has version {version}, but this program ")
    assert str(refused).endswith(f"{len(MIGRATIONS)}: {said.format(up=own_command('up', settings.home))}")
    assert path.read_bytes() == before


def run_doctor(settings: Settings, *arguments: str, **more: str) -> Result:
    """Examine what is quickly examined of trainings: a toy without a sandbox."""
    repository = settings.home.parent / "repository"
    if not repository.exists():
        make_repository(repository)
    environment = {"REPOSITORY": str(repository), "SANDBOX": "none", **more}
    return CliRunner().invoke(app, ["--home", str(settings.home), "doctor", *arguments], env=environment)


@pytest.mark.parametrize("command", ["adopt --branch mine", "check train.py"])
def test_a_repository_that_cannot_be_looked_at_is_a_sentence(
    settings: Settings, tmp_path: Path, command: str
) -> None:
    (tmp_path / "train.py").write_text("X = 1\n")
    arguments = ["--home", str(settings.home), *command.split(), "--repo", "x" * 300]
    refused = CliRunner().invoke(app, arguments).exception
    assert isinstance(refused, UserError)
    assert "o folder x" in str(refused)


def test_doctor_names_a_repository_that_cannot_be_looked_at(settings: Settings) -> None:
    done = run_doctor(settings, "--repo", "x" * 300)
    assert done.exit_code == 1
    assert "FAIL  repository: There is no folder /" in done.stdout


def test_doctor_looks_at_chats_too(settings: Settings) -> None:
    done = run_doctor(settings, TELEGRAM_CHAT_IDS="1", SLACK_CHANNELS="C1")
    for row in ("warn  Telegram: ", "warn  Slack: "):
        assert f"\n{row}" in f"\n{done.stdout}"


def test_an_older_state_file_is_a_warning_of_doctor_and_a_newer_one_a_failure(settings: Settings) -> None:
    def checks() -> dict[str, Check]:
        done = run_doctor(settings, "--json")
        return {check.name: check for check in (Check(**check) for check in json.loads(done.stdout))}

    path = settings.home / "state.db"
    path.parent.mkdir()
    write_version(path, 1)
    before = path.read_bytes()
    older = checks()["state file"]
    assert (older.ok, path.read_bytes()) == (None, before)
    assert f"has version 1, but this program reads version {len(MIGRATIONS)}" in older.detail
    write_version(path, 999)
    newer = checks()["state file"]
    assert newer.ok is False
    assert newer.detail.endswith(": update autoresearch-bot.")


def test_a_state_file_that_cannot_be_used_is_one_of_the_checks(settings: Settings) -> None:
    settings.home.mkdir()
    (settings.home / "state.db").write_text("no database")
    done = run_doctor(settings)
    assert done.exit_code == 1
    said = f"The state file {settings.home}/state.db cannot be used (file is not a database)"
    assert f"\nFAIL  state file: {said}: repair it or move it away." in done.stdout


def test_every_command_says_what_it_does() -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    assert [name for name, command in group.commands.items() if not command.help] == []


def test_the_commands_that_only_read_load_nothing_else() -> None:
    needed = "bot.cli.main, loop.results.ledger, loop.results.report, notifiers.text.status"
    late = (
        "bot.app",
        "loop.engine",
        "loop.git",
        "loop.program",
        "loop.process",
        "asyncio",
        "apscheduler",
        "rich",
    )
    imports = f"import sys, {needed}; print([name for name in {late} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", imports], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
