from __future__ import annotations

import math
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bot.setup.doctor import Check, _clock, device, examine, examine_services, render
from bot.setup.settings import load_settings
from tests.loop.lab import git
from tests.servers.ports import free_port

Examine = Callable[..., dict[str, Check]]


@pytest.fixture
def look(tmp_path: Path) -> Examine:
    """Examine with the given settings; data paths are not checked unless they are named."""

    def examine_with(**environ: str) -> dict[str, Check]:
        given = {"AUTORESEARCH_HOME": str(tmp_path / "home"), "DATA_PATHS": ""} | environ
        settings = load_settings(Path("none.env"), given)
        return {check.name: check for check in (*examine(settings), *examine_services(settings))}

    return examine_with


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    for name in ("prepare.py", "train.py"):
        (folder / name).write_text("DEPTH = 4\n")
    git(folder, "init", "-q", "-b", "research")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "Begin")
    return folder


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH; it holds git alone."""
    folder = tmp_path / "programs"
    folder.mkdir()
    found = shutil.which("git")
    assert found
    (folder / "git").symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def script(file: Path, text: str) -> None:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def test_nothing_fails_on_the_machine_that_runs_the_tests(look: Examine) -> None:
    checks = look()
    assert [check for check in checks.values() if check.ok is False] == []
    assert checks["repository"].detail == "the embedded template"
    assert checks["bot"].detail == "not running"


def test_examining_leaves_nothing_behind(look: Examine, tmp_path: Path) -> None:
    look()
    assert list(tmp_path.iterdir()) == []


def test_torch_stays_out_of_this_process(look: Examine) -> None:
    code = (
        "import sys; from bot.setup.doctor import examine; from bot.setup.settings import load_settings;"
        "examine(load_settings()); sys.exit(len({'torch', 'pydantic_ai', 'openai'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_file_that_settings_are_read_from_is_named(
    look: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    detail = f"no .env in {tmp_path}; using defaults and the environment"
    assert look()["settings"] == Check("settings", True, detail)
    (tmp_path / ".env").touch()
    assert look()["settings"].detail == str(tmp_path / ".env")


def test_the_own_repository_is_named_with_its_branch(look: Examine, repository: Path) -> None:
    check = look(REPOSITORY=str(repository))["repository"]
    assert check.ok
    assert check.detail.startswith(f"{repository}, branch research at ")
    assert check.detail.endswith(": Begin")


def test_changes_that_a_run_would_not_see_are_a_warning(look: Examine, repository: Path) -> None:
    (repository / "train.py").write_text("DEPTH = 8\n")
    check = look(REPOSITORY=str(repository))["repository"]
    assert check.ok is None
    assert check.detail.endswith("; uncommitted, so not part of a run: changes of train.py")


def test_modules_that_were_never_committed_are_a_warning(look: Examine, repository: Path) -> None:
    (repository / "scripts").mkdir()
    for name in ("model.py", "notes.txt", "scripts/plot.py", "old.py"):
        (repository / name).touch()
    (repository / ".git/info/exclude").write_text("old.py\n")
    check = look(REPOSITORY=str(repository))["repository"]
    assert check.ok is None
    assert check.detail.endswith("; uncommitted, so not part of a run: new model.py")
    for number in range(6):
        (repository / f"a{number}.py").touch()
    (repository / "train.py").write_text("DEPTH = 8\n")
    detail = look(REPOSITORY=str(repository))["repository"].detail
    assert detail.endswith(": changes of train.py and new 7 files, among them a0.py, a1.py, a2.py")


def test_of_many_changes_a_few_are_named_those_of_the_programs_first(look: Examine, repository: Path) -> None:
    for number in range(338):
        (repository / f"f{number:03}.txt").touch()
    (repository / "train.py").write_text("DEPTH = 8\n")
    git(repository, "add", "-A")
    detail = look(REPOSITORY=str(repository))["repository"].detail
    assert detail.endswith(": changes of 339 files, among them train.py, f000.txt, f001.txt")


def test_a_time_budget_that_the_repository_does_not_use_is_a_warning(look: Examine, repository: Path) -> None:
    (repository / "prepare.py").write_text("TIME_BUDGET = 1200\n")
    git(repository, "commit", "-q", "-a", "-m", "Budget")
    assert "time budget" not in look(REPOSITORY=str(repository), TIME_BUDGET="300"), "as .env.example has it"
    assert "time budget" not in look(REPOSITORY=str(repository), TIME_BUDGET="1200")
    check = look(REPOSITORY=str(repository), TIME_BUDGET="60")["time budget"]
    assert check.ok is None
    assert check.detail == "TIME_BUDGET=60 is not used: the repository fixes 1200 s"


def test_a_number_that_should_rise_and_is_minimized_is_a_warning(look: Examine, repository: Path) -> None:
    here = {"REPOSITORY": str(repository), "METRIC": "val_accuracy"}
    check = look(**here)["goal"]
    assert check.ok is None
    assert check.detail == "lower val_accuracy counts as better: if higher is, set METRIC_GOAL=maximize"
    assert "goal" not in look(**here | {"METRIC_GOAL": "maximize"})
    assert "goal" in look(**here | {"METRIC": "val_sharpe"})
    assert "goal" not in look(**here | {"METRIC": "val_loss"})


def test_a_folder_without_git_is_refused(look: Examine, tmp_path: Path) -> None:
    check = look(REPOSITORY=str(tmp_path))["repository"]
    assert check.ok is False
    assert f"{tmp_path} is not a git repository" in check.detail


def test_a_deadline_within_the_budget_of_the_repository_is_named(look: Examine, repository: Path) -> None:
    assert "deadline" not in look(REPOSITORY=str(repository))
    check = look(REPOSITORY=str(repository), DEADLINE_MINUTES="0.01")["deadline"]
    assert check.ok is False
    assert "DEADLINE_MINUTES=0.01 is not longer than the time budget of " in check.detail


def test_a_missing_contract_file_is_named(look: Examine, repository: Path) -> None:
    check = look(REPOSITORY=str(repository), FROZEN="prepare.py,evaluate.py")["repository"]
    assert check.ok is False
    assert "evaluate.py" in check.detail


def test_a_path_that_cannot_be_looked_at_is_missing(look: Examine, repository: Path) -> None:
    assert look(REPOSITORY=str(repository), DATA_PATHS=f"/{'x' * 300}")["data"].ok is False
    assert look(REPOSITORY=str(repository), FROZEN="x" * 300)["repository"].ok is False


def test_an_unknown_base_branch_is_refused(look: Examine, repository: Path) -> None:
    check = look(REPOSITORY=str(repository), BASE_BRANCH="main")["repository"]
    assert check.ok is False
    assert "no branch main" in check.detail


def test_missing_data_is_named_with_the_command_that_makes_it(
    look: Examine, repository: Path, tmp_path: Path
) -> None:
    paths = f"{repository},{tmp_path / 'tokens'}"
    check = look(REPOSITORY=str(repository), DATA_PATHS=paths)["data"]
    fix = f"Run: cd {repository} && {sys.executable} prepare.py; or set DATA_PATHS to where the data is."
    assert check == Check("data", False, f"missing: {tmp_path / 'tokens'} (from DATA_PATHS)", fix)
    assert look(DATA_PATHS=paths)["data"].ok  # the template's is prepared at the first start
    assert look(DATA_PATHS=str(repository))["data"].ok


def test_a_lock_of_uv_without_uv_is_a_warning(
    look: Examine, repository: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(programs / "python"))  # which may have uv beside it
    assert look(REPOSITORY=str(repository))["uv"].ok
    (repository / "uv.lock").touch()
    check = look(REPOSITORY=str(repository))["uv"]
    assert check.ok is None
    assert check.fix.startswith(f"Run: {programs / 'python'} -m pip install uv")
    script(programs / "uv", "echo uv 9.8.7")
    assert look(REPOSITORY=str(repository))["uv"] == Check("uv", True, "9.8.7")


def test_a_machine_without_git_is_told(look: Examine, repository: Path, programs: Path) -> None:
    (programs / "git").unlink()
    assert look()["git"] == Check("git", False, "not installed", "Install git.")


def test_an_old_git_is_refused(look: Examine, programs: Path) -> None:
    (programs / "git").unlink()
    script(programs / "git", "echo git version 2.20.1")
    check = look()["git"]
    assert check.ok is False
    assert check.fix == "Install git 2.28 or newer."


def test_gpus_are_named(look: Examine, programs: Path) -> None:
    assert look()["GPU"].ok
    script(programs / "nvidia-smi", "echo 'NVIDIA H100, 81559 MiB'")
    assert look()["GPU"].detail == "NVIDIA H100, 81559 MiB"
    script(programs / "nvidia-smi", "exit 9")
    assert look()["GPU"].ok is None


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_an_nvidia_smi_that_hangs_in_the_driver_is_not_waited_for(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loop.machine.PATIENCE", 0.1)
    monkeypatch.setattr(subprocess.Popen, "kill", lambda process: None)  # it cannot be killed
    os.mkfifo(tmp_path / "pid")
    script(programs / "nvidia-smi", f"echo $$ > {tmp_path}/pid; exec /bin/sleep 60")  # waits for a reader
    assert device() == "nvidia-smi finds no GPU"
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_search_needs_nothing_but_a_constant_that_it_may_change(look: Examine, repository: Path) -> None:
    own = str(repository)
    assert "search" not in look()
    assert "search" not in look(REPOSITORY=own)
    check = look(REPOSITORY=own, FROZEN_CONSTANTS="DEPTH")["search"]
    assert check.ok is None
    assert check.detail == "no constant in train.py that it may change"
    (repository / "train.py").write_text("SEED = 4\n")
    git(repository, "commit", "-q", "-a", "-m", "Fix")
    assert look(REPOSITORY=own)["search"].fix.startswith("Add top-level lines such as LEARNING_RATE = ")
    assert "search" not in look(REPOSITORY=own, PROPOSER="search, agent:claude")


def test_a_model_needs_its_key(look: Examine) -> None:
    name = "anthropic:claude-sonnet-4-5"
    check = look(PROPOSER=f"{name}, search")[name]
    assert check == Check(name, False, "ANTHROPIC_API_KEY is not set", "Put ANTHROPIC_API_KEY=… into .env.")
    check = look(PROPOSER=name, ANTHROPIC_API_KEY="sk-ant-loopback", LLM_BUDGET_USD="5")[name]
    assert check == Check(name, True, "installed, with a key; price known")


def test_a_limit_of_dollars_needs_a_price(look: Examine) -> None:
    environ = {"FALLBACK_MODEL": "openai:mine", "OPENAI_BASE_URL": "http://127.0.0.1:8000/v1"}
    assert look(**environ)["openai:mine"].ok
    check = look(**environ, LLM_BUDGET_USD_A_DAY="5")["openai:mine"]
    assert check.ok is None
    assert check.detail == "at http://127.0.0.1:8000/v1; price unknown"
    checks = look(FALLBACK_MODEL="openai:no-such", OPENAI_API_KEY="sk-loopback", LLM_BUDGET_USD="5")
    assert checks["openai:no-such"].ok is None


@pytest.mark.parametrize(
    ("agent", "ok"), [("claude", True), ("opencode", True), ("codex", None), ("gemini", None)]
)
def test_a_limit_of_dollars_needs_an_agent_that_tells_them(
    look: Examine, programs: Path, agent: str, ok: bool | None
) -> None:
    script(programs / agent, "true")
    name = f"agent:{agent}"
    assert look(PROPOSER=name)[name].ok
    check = look(PROPOSER=name, LLM_BUDGET_USD="5")[name]
    assert check.ok is ok
    assert ("LLM_BUDGET_USD cannot be enforced" in check.fix) is (ok is None)


def test_a_model_needs_packages(look: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.setup.doctor.util.find_spec", lambda name: None)
    check = look(FALLBACK_MODEL="google:gemini-2.5-pro")["google:gemini-2.5-pro"]
    assert check.ok is False
    assert "autoresearch-bot[models]" in check.fix


def test_an_agent_must_be_on_the_path(look: Examine, programs: Path) -> None:
    check = look(PROPOSER="agent:codex")["agent:codex"]
    assert check.ok is False
    assert check.fix == "Run: npm install -g @openai/codex"
    script(programs / "codex", "true")
    check = look(PROPOSER="agent:codex")["agent:codex"]
    assert check.ok
    assert check.detail.startswith(f"by {programs / 'codex'}; to log in, ")
    check = look(PROPOSER="agent", AGENT_COMMAND="my-agent --yes")["agent"]
    assert check == Check("agent", False, "my-agent not found", "Correct AGENT_COMMAND.")


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # apprise falls back on it
def test_an_address_that_apprise_does_not_know_is_refused_without_being_repeated(look: Examine) -> None:
    checks = look(APPRISE_URLS="json://127.0.0.1/my-secret, hidden://my-secret")
    assert [check.ok for name, check in checks.items() if name.startswith("apprise:json-")] == [True]
    refused = checks["APPRISE_URLS"]
    assert refused.ok is False
    assert refused.detail.startswith("number 2 is no address of a service that apprise knows")
    assert "my-secret" not in repr(checks)
    assert look(APPRISE_URLS="foo")["APPRISE_URLS"].ok is False


def test_a_tracker_needs_its_package(look: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.setup.doctor.util.find_spec", lambda name: None)
    fix = f"Run: {sys.executable} -m pip install wandb"
    assert look(TRACKER="wandb:x")["tracker"] == Check("tracker", False, "wandb is not installed", fix)
    assert "tracker" not in look()


def test_a_state_directory_that_cannot_be_written_is_refused(look: Examine) -> None:
    check = look(AUTORESEARCH_HOME="/proc/autoresearch")["state directory"]  # not even root may write there
    assert check.ok is False
    assert "cannot write to" in check.detail


def test_little_room_is_a_warning(look: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loop.machine.WARN_BYTES", math.inf)
    monkeypatch.setattr("loop.machine.WARN_SHARE", 2.0)  # no disk has twice its size free
    check = look()["state directory"]
    assert check.ok is None
    assert "GB free" in check.detail


def test_a_running_bot_is_found(look: Examine, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bot:
        bot.bind(str(home / "bot.sock"))
        assert look()["bot"].detail == "not running"  # what a killed bot leaves behind
        bot.listen()
        assert look()["bot"].detail == f"running on {home}"


def test_the_clock_is_read_in_the_chosen_zone(look: Examine) -> None:
    assert look(TIME_ZONE="Asia/Tokyo")["clock"].detail.endswith(" Asia/Tokyo")


def test_a_clock_in_the_past_is_a_warning() -> None:
    now = datetime(1970, 1, 1, tzinfo=UTC)
    assert _clock(now, "UTC", written=-1.0) == Check("clock", True, "1970-01-01 00:00 UTC")
    assert _clock(now, "UTC", written=1.7e9).ok is None


def test_rendering_shows_what_to_do() -> None:
    checks = (
        Check("git", True, "2.39"),
        Check("data", False, "missing: /d", "Run: x"),
        Check("GPU", None, "?"),
    )
    assert render(checks) == "ok    git: 2.39\nFAIL  data: missing: /d\n      Run: x\nwarn  GPU: ?"


# Data that the repository itself names


def commit(repository: Path, prepare: str, name: str = "prepare.py") -> None:
    git(repository, "rm", "--quiet", "--force", "--ignore-unmatch", "prepare.py")
    (repository / name).write_text(prepare)
    git(repository, "add", name)
    git(repository, "commit", "--quiet", "-m", "Where the data is")


def data_of(repository: Path, **environ: str) -> Check:
    settings = load_settings(Path("none.env"), {"REPOSITORY": str(repository)} | environ)
    return {check.name: check for check in examine(settings)}["data"]


def test_data_is_read_from_the_repository(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "datasets"
    commit(repository, f'import os\nDATA_DIR = os.path.join("{folder}", "text")\n')
    for default in ({}, {"DATA_PATHS": "~/.cache/autoresearch/data,~/.cache/autoresearch/tokenizer"}):
        check = data_of(repository, **default)
        assert check.detail == f"missing: {folder / 'text'} (from prepare.py)"
        assert check.fix.startswith(f"Run: cd {repository} && ")
        assert not check.ok
    (folder / "text").mkdir(parents=True)
    assert not data_of(repository).ok  # an empty folder is no data
    (folder / "text" / "shard").touch()
    assert data_of(repository) == Check("data", True, f"{folder / 'text'} (from prepare.py)")
    named = data_of(repository, DATA_PATHS=str(tmp_path / "mine"))
    assert named.detail == f"missing: {tmp_path / 'mine'} (from DATA_PATHS)"


def test_where_nothing_names_data_nothing_is_called_found(repository: Path) -> None:
    commit(repository, "TIME_BUDGET = 60\n")
    assert data_of(repository).detail == "not checked: no paths found; DATA_PATHS names some"
    commit(repository, 'def data():\n    return "~/.cache/autoresearch/data"\n')
    assert "autoresearch/data" in data_of(repository).detail


def test_without_a_prepare_py_none_is_to_be_run(repository: Path, tmp_path: Path) -> None:
    commit(repository, f'DATA_DIR = "{tmp_path / "data"}"\n', "fixed.py")
    check = data_of(repository, FROZEN="fixed.py")
    assert check.detail == f"missing: {tmp_path / 'data'} (from fixed.py)"
    assert check.fix == "Set DATA_PATHS to where the data is."


@pytest.mark.parametrize("place", ["~", "/", "~/.."])
def test_no_home_directory_is_opened_as_data(repository: Path, place: str) -> None:
    commit(repository, f'import os\nDATA_DIR = os.path.expanduser("{place}")\n')
    assert "not checked" in data_of(repository).detail


def test_a_cluster_is_asked_and_nothing_that_only_nodes_need(
    look: Examine, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"127.0.0.1:{free_port()}"
    settings = {"REPOSITORY": str(repository), "EXECUTOR": "ray", "RAY_ADDRESS": address}
    monkeypatch.setattr("bot.setup.doctor._is_installed", lambda module: module == "ray")
    checks = look(**settings)
    assert checks["ray"].ok is False
    assert address in checks["ray"].detail
    assert "ray start --head" in checks["ray"].detail
    assert not checks.keys() & {"data", "GPU", "uv"}
    monkeypatch.setattr("bot.setup.doctor._is_installed", lambda _: False)
    assert "[ray]" in look(**settings)["ray"].fix
