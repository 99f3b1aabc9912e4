from __future__ import annotations

import os
import pty
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
Make = Callable[..., "subprocess.CompletedProcess[str]"]

# Stands in for python3: it makes an environment whose programs only write down how they were called.
PYTHON = """\
#!/bin/sh
case "$*" in
"-m venv --clear "*) ;;
*) exit 0 ;;
esac
mkdir -p "$4/bin"
for name in python pip uv autoresearch; do
    cat >"$4/bin/$name" <<END
#!/bin/sh
case "\\$*" in
-c*|"config get"*) ;;
*) echo $name "\\$@" >>{log} ;;
esac
exit \\${{STATUS_$name:-0}}
END
    chmod +x "$4/bin/$name"
done
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What the programs of the environment were called with, a line each."""
    file = tmp_path / "log"
    file.touch()
    return file


@pytest.fixture
def make(tmp_path: Path, log: Path) -> Make:
    """Run make on the project's Makefile, with an environment in `tmp_path`."""
    python = tmp_path / "python"
    python.write_text(PYTHON.format(log=log))
    python.chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if "MAKE" not in name}

    def run(
        *arguments: str, terminal: int | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", "-C", str(ROOT), "--no-print-directory", f"VENV={tmp_path / 'venv'}", *arguments],
            env=environ | {"PYTHON": str(python)} | variables,
            stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=subprocess.PIPE if terminal is None else terminal,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    return run


def test_help_is_the_default_and_lists_every_target(make: Make) -> None:
    done = make()
    assert done.returncode == 0
    listed = [line.split()[1] for line in done.stdout.splitlines()]
    others = ["test-slow", "chaos", "hostile", "cheats", "family", "ray", "gallery", "check", "lock", "clean"]
    assert listed == ["help", "demo", "run", "test", *others]
    assert make("help").stdout == done.stdout


def test_without_a_terminal_the_bot_ends_when_it_is_done(make: Make, log: Path) -> None:
    assert make("run").returncode == 0
    assert log.read_text().splitlines()[-1] == "autoresearch up --exit-when-done"


def test_with_a_terminal_the_bot_stays(make: Make, log: Path) -> None:
    controller, terminal = pty.openpty()
    try:
        assert make("run", terminal=terminal).returncode == 0
    finally:
        os.close(terminal)
        os.close(controller)
    assert log.read_text().splitlines()[-1] == "autoresearch up"


def test_the_bots_failure_is_passed_on(make: Make) -> None:
    done = make("run", STATUS_autoresearch="3")
    assert done.returncode != 0
    assert "Error 3" in done.stderr


def test_the_set_up_is_done_once_and_says_a_line_a_step(make: Make, log: Path, tmp_path: Path) -> None:
    first = make("run")
    assert first.stdout.splitlines() == [
        f"Making {tmp_path / 'venv'}",
        "Installing the bot and what a training needs",
    ]
    installed, *_ = [line for line in log.read_text().splitlines() if line.startswith("uv pip install")]
    assert "-c constraints.txt -e .[train,dev]" in installed
    log.write_text("")
    again = make("run")
    assert again.stdout == ""
    assert log.read_text() == "autoresearch up --exit-when-done\n"


def test_the_demo_needs_no_torch_and_takes_the_environment_that_is_there(
    make: Make, log: Path, tmp_path: Path
) -> None:
    assert make("demo").stdout.splitlines() == [f"Making {tmp_path / 'venv-demo'}", "Installing the bot"]
    *_, installed, played = log.read_text().splitlines()
    assert installed.endswith("-c constraints.txt -e .")
    assert played == "python -m tests.demo"
    assert not (tmp_path / "venv").exists()
    make("run")
    log.write_text("")
    assert make("demo").stdout == ""
    assert log.read_text() == "python -m tests.demo\n"


def test_pip_stands_in_for_uv(make: Make, log: Path) -> None:
    done = make("run", STATUS_uv="1")
    assert done.returncode == 0
    assert "Once more with pip" in done.stdout
    assert "pip install -qq -c constraints.txt -e .[train,dev]" in log.read_text().splitlines()


def test_a_failed_set_up_is_tried_again(make: Make, log: Path) -> None:
    assert make("run", STATUS_pip="1").returncode != 0
    assert "autoresearch" not in log.read_text()
    assert make("run").returncode == 0
    assert "autoresearch up" in log.read_text()


@pytest.mark.parametrize(
    ("refuses", "sentence"),
    [
        (
            "version_info",
            "Python 3.11 or newer is needed: install it, or name it: make PYTHON=/path/to/python3",
        ),
        ("ensurepip", "lacks its venv module: install it (Debian and Ubuntu: apt install python3-venv)"),
    ],
)
def test_a_python_that_will_not_do_is_one_sentence(
    refuses: str, sentence: str, make: Make, tmp_path: Path
) -> None:
    python = tmp_path / "other-python"
    python.write_text(f'#!/bin/sh\ncase "$*" in *{refuses}*) exit 1 ;; esac\n')
    python.chmod(0o755)
    done = make("run", PYTHON=str(python))
    assert done.returncode != 0
    assert done.stderr.splitlines()[0].endswith(sentence)
    assert not (tmp_path / "venv").exists()


def test_the_constraints_name_no_machine_and_no_local_build() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert "torch==2.13.0" in lines
    assert not [line for line in lines if "+" in line or "://" in line or line.startswith("-")]


@pytest.mark.parametrize(
    ("there", "made"),
    [
        ((), ["PYTHON=python3 check test"]),
        (("3.12",), ["PYTHON=python3.12 check test"]),
        (
            ("3.14", "3.12", "3.13"),
            ["PYTHON=python3.12 check test", "PYTHON=python3.14 VENV=.venv-newest test"],
        ),
    ],
)
def test_the_gate_is_check_and_test_and_the_tests_on_the_newest_python(
    there: tuple[str, ...], made: list[str], tmp_path: Path, log: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "dirname"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    scripts = {"make": f'echo "$@" >>{log}', "python3.11": "exit 1"}  # a shim for what is switched off
    scripts |= {f"python{version}": "exit 0" for version in there}
    for name, line in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    environ = {"PATH": str(programs), "PYENV_ROOT": str(tmp_path / "no-pyenv")}
    assert subprocess.run([ROOT / ".ci" / "run"], env=environ, check=False).returncode == 0
    assert log.read_text().splitlines() == made
    (programs / "make").write_text(f'#!/bin/sh\necho "$@" >>{log}\nexit 2\n')
    assert subprocess.run([ROOT / ".ci" / "run"], env=environ, check=False).returncode == 2
    assert log.read_text().splitlines() == made + made[:1]
