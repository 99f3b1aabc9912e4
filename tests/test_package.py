"""The bot as a package, outside of a checkout and without what a training needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of a wheel, in an environment that uv made: without pip and without torch."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    unneeded = shutil.ignore_patterns(".[!e]*", "__pycache__", "build", "dist")
    shutil.copytree(ROOT, source, ignore=unneeded)
    wheels, uv = folder / "wheels", shutil.which("uv", path=Path(sys.executable).parent) or "uv"
    for command in (
        (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, source),
        (uv, "venv", "--quiet", "--python", sys.executable, folder / "venv"),
    ):
        subprocess.run(command, check=True)
    (wheel,) = wheels.iterdir()
    python = folder / "venv" / "bin" / "python"
    subprocess.run((uv, "pip", "install", "--quiet", "--python", python, wheel), check=True)
    return python.with_name("autoresearch")


def test_a_package_without_its_extra_says_how_to_get_it(program: Path, tmp_path: Path) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()

    def run(*arguments: str) -> str:
        done = subprocess.run(
            (program, *arguments),
            cwd=here,
            env={"HOME": str(home), "PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stdout
        return f"{done.returncode} {done.stdout}"

    python = program.with_name("python")
    fix = f"Run: uv pip install --python {python} 'autoresearch-bot[train]'\n"
    for command in ("doctor", "up", "up --exit-when-done"):
        said = run(*command.split())
        assert said.startswith("1 ")
        assert "pyarrow" in said
        assert fix in said
    assert run("status").startswith("1 No run in ")
    assert f"`{program} up`" in run("status")
    assert run("init", str(home / "research")).startswith("0 ")
    (here / ".env").write_text(f"REPOSITORY={home / 'research'}\n")
    assert "'autoresearch-bot[train]'; or set TRAIN_COMMAND" in (looked := run("doctor"))
    assert looked.index("autoresearch-bot[train]") < looked.index("prepare.py")  # which needs it
    (here / ".env").write_text("NO_SUCH=1\n")
    *_, example = run("doctor").partition("is not a setting. ")
    assert "TELEGRAM_BOT_TOKEN" in Path(example.removesuffix(" lists all of them.\n")).read_text()
    (here / ".env").unlink()
    prepared = subprocess.run(
        (python, "prepare.py", "--source", "python"),
        cwd=home / "research",
        text=True,
        capture_output=True,
        check=False,
    )
    assert prepared.stderr.startswith("error: ")
    assert "no module pyarrow" in prepared.stderr
    assert prepared.stderr.count("\n") == 1
