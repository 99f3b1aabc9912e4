from __future__ import annotations

import sys
from pathlib import Path

import pytest

from loop.process.trainer import launch_command, prepare_line, training_environment

NEEDED = {
    "PATH": "/usr/bin",
    "HOME": "/home/ada",
    "LC_ALL": "C.UTF-8",
    "CUDA_VISIBLE_DEVICES": "0",
    "LD_LIBRARY_PATH": "/usr/lib",
    "OMP_NUM_THREADS": "2",
    "TORCHINDUCTOR_CACHE_DIR": "/tmp/t",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "NCCL_DEBUG": "WARN",
    "HF_HOME": "/data/hf",
    "TOKENIZERS_PARALLELISM": "false",
    "AUTORESEARCH_CACHE": "/data/cache",
    "UV_CACHE_DIR": "/data/uv",
    "UV_INDEX_URL": "https://packages.example.org/simple",
    "https_proxy": "http://proxy:3128",
    "VIRTUAL_ENV": "/home/ada/.venv",
}


def test_what_a_training_needs_is_passed_on() -> None:
    assert training_environment(NEEDED, {}) == NEEDED | {"PYTHONUNBUFFERED": "1"}


@pytest.mark.parametrize(
    "name",
    [
        "TELEGRAM_BOT_TOKEN",
        "SLACK_APP_TOKEN",
        "OPENAI_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "HF_TOKEN",
        "NVIDIA_API_KEY",
        "TORCH_HUB_TOKEN",
        "UV_PUBLISH_PASSWORD",
        "UV_INDEX_PRIVATE_USERNAME",
        "CUDA_CREDENTIALS",
        "pytorch_secret",
        "HF_DATASETS_TOKENS",
        "AUTORESEARCH_HOME",
        "AUTORESEARCH_TRAINING",
        "SSH_AUTH_SOCK",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "PATH_TO_MY_DIARY",
        "MY_PATH",
        "LD_PRELOAD",
    ],
)
def test_nothing_else_is(name: str) -> None:
    assert training_environment({name: "hush"}, {}) == {"PYTHONUNBUFFERED": "1"}


@pytest.mark.parametrize("value", ["https://ada:hush@example.org/simple", "http://hush@proxy:3128"])
def test_a_login_within_a_url_is_a_secret(value: str) -> None:
    assert training_environment({"UV_INDEX_URL": value, "HTTPS_PROXY": value}, {}) == {
        "PYTHONUNBUFFERED": "1"
    }


def test_extra_variables_win_but_are_no_way_round_the_rule() -> None:
    extra = {"PATH": "/opt/bin", "SEED": "1", "WANDB_API_KEY": "hush"}
    assert training_environment({"PATH": "/usr/bin"}, extra) == {
        "PATH": "/opt/bin",
        "SEED": "1",
        "PYTHONUNBUFFERED": "1",
    }


def test_the_configured_command_wins(tmp_path: Path) -> None:
    (tmp_path / "uv.lock").touch()
    assert launch_command(tmp_path, ("nice", "my python", "train.py")) == ("nice", "my python", "train.py")


def test_without_a_lock_file_the_running_python_trains(tmp_path: Path) -> None:
    assert launch_command(tmp_path, ()) == (sys.executable, "train.py")
    assert launch_command(tmp_path, (), "model.py") == (sys.executable, "model.py")


def test_uv_is_used_where_it_is_installed_and_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uv.lock").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launch_command(tmp_path, ()) == (sys.executable, "train.py")
    (tmp_path / "uv").touch(mode=0o755)
    assert launch_command(tmp_path, ()) == ("uv", "run", "train.py")
    assert prepare_line(tmp_path) == f"cd {tmp_path} && uv run prepare.py"


@pytest.mark.parametrize(
    ("override", "editable", "line"),
    [
        ((), "train.py", f"{sys.executable} prepare.py"),
        (
            ("conda", "run", "-n", "my env", "python", "model.py"),
            "model.py",
            "conda run -n 'my env' python prepare.py",
        ),
        (("./train.sh",), "train.py", "python prepare.py"),
    ],
)
def test_the_python_that_trains_prepares_the_data(
    override: tuple[str, ...], editable: str, line: str, tmp_path: Path
) -> None:
    folder = tmp_path / "my research"
    assert prepare_line(folder, override, editable) == f"cd '{folder}' && {line}"
