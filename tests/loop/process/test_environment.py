from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from loop.errors import UserError
from loop.process.environment import (
    Launch,
    Launcher,
    find_missing_imports,
    find_uv,
    prepare_line,
    readable_for,
    training_environment,
)

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
    "AUTORESEARCH_CACHE_DIR": "/data/other",
    "AUTORESEARCH_DATASET": "tinystories",
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


def test_named_variables_are_let_through_whatever_their_name() -> None:
    environ = {"WANDB_API_KEY": "hush", "MY_PATH": "/data", "OTHER": "x"}
    assert training_environment(environ, {}, let_through=("WANDB_API_KEY", "MY_PATH", "ABSENT")) == {
        "WANDB_API_KEY": "hush",
        "MY_PATH": "/data",
        "PYTHONUNBUFFERED": "1",
    }


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


def test_uv_prepares_the_data_where_it_is_installed_and_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uv.lock").touch()
    (tmp_path / "uv").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert prepare_line(tmp_path) == f"cd {tmp_path} && uv run prepare.py"


def test_uv_beside_the_bot_is_named_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uv.lock").touch()
    (tmp_path / "uv").touch(mode=0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert prepare_line(tmp_path) == f"cd {tmp_path} && {tmp_path}/uv run prepare.py"


Prepare = Callable[..., Launch]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text("print('trained')\n")
    return folder


@pytest.fixture
def prepare(project: Path, tmp_path: Path) -> Prepare:
    def prepare(*command: str, checkout: Path | None = None, said: list[str] | None = None) -> Launch:
        environ = training_environment(os.environ, {}) | {"UV_OFFLINE": "1", "UV_PYTHON": sys.executable}
        launcher = Launcher(tmp_path / "environments", override=command, editable="train.py", environ=environ)
        lines: list[str] = [] if said is None else said
        return launcher.prepare(project, checkout, lines.append)

    return prepare


def test_without_a_lock_file_the_running_python_trains(prepare: Prepare) -> None:
    launch = prepare()
    assert launch.argv == (sys.executable, "train.py")
    assert Path(sys.prefix) in launch.readable


def test_the_configured_command_wins(project: Path, prepare: Prepare) -> None:
    (project / "uv.lock").touch()
    assert prepare("nice", sys.executable, "train.py").argv == ("nice", sys.executable, "train.py")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("no-such-program", "train.py"), "no-such-program is not on the PATH"),
        (("./train.sh",), "./train.sh is not in the repository"),
        (("/no/such/python", "train.py"), "/no/such/python is not"),
        ((sys.executable, "trian.py"), "there is no trian.py in the repository"),
        ((f"./{'x' * 300}",), "xxx is not in the repository"),
        ((sys.executable, f"{'x' * 300}.py"), "there is no xxx.*py in the repository"),
    ],
)
def test_a_command_that_cannot_start_is_refused_before_the_run(
    command: tuple[str, ...], sentence: str, prepare: Prepare
) -> None:
    with pytest.raises(UserError, match=f"TRAIN_COMMAND: .*{sentence}"):
        prepare(*command)


@pytest.mark.parametrize("make", [lambda path: path.touch(mode=0o644), Path.mkdir])
def test_what_is_no_program_is_refused_and_not_said_to_be_missing(
    make: Callable[[Path], None], project: Path, prepare: Prepare
) -> None:
    make(project / "train.sh")
    with pytest.raises(UserError, match=r"TRAIN_COMMAND: \./train\.sh is not executable"):
        prepare("./train.sh")


def test_a_command_may_lie_in_the_repository(project: Path, prepare: Prepare) -> None:
    (project / "train.sh").touch(mode=0o755)
    assert prepare("./train.sh") == Launch(("./train.sh",))


def test_a_script_needs_the_python_of_its_first_line(tmp_path: Path) -> None:
    script = tmp_path / "torchrun"
    script.write_text(f"#!{sys.executable}\n")
    assert {script, Path(sys.executable), Path(sys.prefix)} <= set(readable_for(script))


def test_home_is_never_opened_for_a_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python of ~/.local has the whole of it as its prefix, the state directory among it."""
    prefix = tmp_path / ".local"
    for name in ("bin", "lib", "share"):
        (prefix / name).mkdir(parents=True)
    python = prefix / "bin" / "python3"
    python.write_text(f'#!/bin/sh\necho \'["{prefix}", "{tmp_path}", "/usr"]\'\n')
    python.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert set(readable_for(python)) == {
        python,
        prefix / "bin",
        prefix / "lib",
        Path("/usr/bin"),
        Path("/usr/lib"),
    }


def test_imports_that_fail_are_named_and_what_is_there_with_its_error(tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text("print('hello'); import no_such_module\n")
    environ = {"PYTHONPATH": str(tmp_path)}
    assert find_missing_imports(Path(sys.executable), ["json", "noisy", "absent"], environ) == (
        "noisy (ModuleNotFoundError: No module named 'no_such_module')",
        "absent",
    )


# With uv, and packages from a folder: no network


@pytest.fixture
def locked(project: Path) -> Path:
    """A repository with a uv.lock, of one package that lies beside it."""
    if find_uv() is None:
        pytest.skip("uv is not installed")
    make_wheel(project / "wheels", "tinypack", "1.0")
    (project / "pyproject.toml").write_text(
        """[project]
name = "research"
version = "0"
requires-python = ">=3.11"
dependencies = ["tinypack"]

[tool.uv]
no-index = true
find-links = ["wheels"]
"""
    )
    subprocess.run(
        [str(find_uv()), "lock", "--offline", "--python", sys.executable],
        cwd=project,
        check=True,
        capture_output=True,
    )
    (project / "train.py").write_text("import tinypack\nprint(tinypack.__file__)\n")
    return project


def make_wheel(folder: Path, name: str, version: str) -> None:
    folder.mkdir()
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        path: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        for path, text in files.items()
    }
    record = "".join(f"{path},sha256={digests[path]},{len(text)}\n" for path, text in files.items())
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            wheel.writestr(path, text)


def run(launch: Launch, folder: Path) -> str:
    environment = training_environment(os.environ, launch.environment)
    done = subprocess.run(
        launch.argv, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_one_environment_serves_all_trainings_of_a_lock_file(
    locked: Path, prepare: Prepare, tmp_path: Path
) -> None:
    said: list[str] = []
    launch = prepare(said=said)
    python = Path(launch.argv[0])
    assert python.is_relative_to(tmp_path / "environments")
    assert python.parent.parent in launch.readable
    assert "uv installs the packages of uv.lock for the first training" in said
    assert Path(run(launch, locked)).is_relative_to(tmp_path / "environments")
    said.clear()
    assert prepare(said=said) == launch
    assert said == []
    assert not (locked / ".venv").exists()


def test_uv_run_needs_the_lock_file_in_the_commit_and_not_only_in_the_checkout(
    project: Path, tmp_path: Path, prepare: Prepare
) -> None:
    if find_uv() is None:
        pytest.skip("uv is not installed")
    (project / "pyproject.toml").write_text('[project]\nname = "tiny"\nversion = "1"\n')
    python = tmp_path / "checkout" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    (tmp_path / "checkout" / "uv.lock").touch()
    with pytest.raises(UserError, match=r"uv cannot make the environment of uv\.lock: .*lock"):
        prepare("uv", "run", "train.py", checkout=tmp_path / "checkout")


def test_uv_run_as_the_command_makes_no_environment_in_a_training(locked: Path, prepare: Prepare) -> None:
    assert prepare("uv", "run", "train.py").argv == prepare().argv
    assert prepare("uv", "run", "python", "-O", "train.py").argv[1:] == ("-O", "train.py")


def test_the_checkouts_own_environment_is_used_where_it_fits(
    locked: Path, prepare: Prepare, tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(locked, checkout)
    sync = [str(find_uv()), "sync", "--offline", "--python", sys.executable]
    subprocess.run(sync, cwd=checkout, check=True, capture_output=True)
    assert Path(prepare(checkout=checkout).argv[0]) == checkout / ".venv" / "bin" / "python"
    subprocess.run(
        [str(find_uv()), "pip", "uninstall", "tinypack"], cwd=checkout, check=True, capture_output=True
    )
    assert Path(prepare(checkout=checkout).argv[0]).is_relative_to(tmp_path / "environments")


def test_an_environment_that_was_not_finished_is_made_anew(
    locked: Path, prepare: Prepare, tmp_path: Path
) -> None:
    launch = prepare()
    (ready,) = (tmp_path / "environments").glob("*.ready")
    ready.unlink()
    next(Path(launch.argv[0]).parents[1].rglob("tinypack.py")).unlink()
    shutil.rmtree(next(Path(launch.argv[0]).parents[1].rglob("tinypack-1.0.dist-info")))
    run(prepare(), locked)


def test_without_network_and_cache_the_sentence_says_so(project: Path, tmp_path: Path) -> None:
    if find_uv() is None:
        pytest.skip("uv is not installed")
    (project / "pyproject.toml").write_text(
        '[project]\nname = "research"\nversion = "0"\nrequires-python = ">=3.11"\n'
        'dependencies = ["tinypack"]\n'
    )
    (project / "uv.lock").write_text(
        """version = 1
requires-python = ">=3.11"

[[package]]
name = "research"
version = "0"
source = { virtual = "." }
dependencies = [{ name = "tinypack" }]

[package.metadata]
requires-dist = [{ name = "tinypack" }]

[[package]]
name = "tinypack"
version = "1.0"
source = { registry = "http://127.0.0.1:9/simple" }
wheels = [{ url = "http://127.0.0.1:9/tinypack-1.0-py3-none-any.whl", hash = "sha256:%s", size = 1 }]
"""
        % ("0" * 64)
    )
    environ = training_environment(os.environ, {}) | {
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "UV_PYTHON": sys.executable,
        "UV_HTTP_RETRIES": "0",
        "NO_PROXY": "*",
    }
    launcher = Launcher(tmp_path / "environments", override=(), editable="train.py", environ=environ)
    with pytest.raises(UserError, match=r"No network for the packages of uv\.lock.*tinypack.*uv sync"):
        launcher.prepare(project, None, print)


def test_the_folder_that_the_bot_was_started_in_is_not_read_by_trainings(tmp_path: Path) -> None:
    program = "import sys; from loop.process.environment import readable_for; from pathlib import Path\n"
    program += "print(*readable_for(Path(sys.executable)), sep='\\n')"
    (tmp_path / "script.py").write_text(program)
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    for command in (["script.py"], ["-c", program], ["-m", "script"]):
        ran = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True
        )
        read = [Path(line) for line in ran.stdout.splitlines()]
        assert Path(sys.prefix) in read
        assert not [path for path in read if tmp_path.is_relative_to(path)]
