"""Commands to type: they must do what is said where they are typed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from loop.shell import PROGRAM, install_line, own_command


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation that is not on the PATH."""
    folder = tmp_path / "my venv" / "bin"
    folder.mkdir(parents=True)
    program = folder / PROGRAM
    program.touch(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("AUTORESEARCH_HOME", raising=False)
    return program


def test_a_program_that_the_shell_does_not_find_is_named_by_its_path(program: Path) -> None:
    assert own_command("up") == f"'{program}' up"


def test_on_the_path_its_name_is_enough(program: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / PROGRAM).symlink_to(program)  # as uv and pipx do
    assert own_command("up") == f"{PROGRAM} up"
    (tmp_path / "bin" / PROGRAM).unlink()
    (tmp_path / "bin" / PROGRAM).touch(0o755)  # another installation
    assert own_command("up") == f"'{program}' up"


def test_another_state_directory_is_named(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.unlink()
    usual, other = Path.home() / ".local/share/autoresearch", tmp_path / "other"
    assert own_command("up", usual) == f"{PROGRAM} up"
    assert own_command("up", other) == f"{PROGRAM} --home {other} up"
    monkeypatch.setenv("AUTORESEARCH_HOME", str(other))
    assert own_command("up", other) == f"{PROGRAM} up"
    assert own_command("up", usual) == f"{PROGRAM} --home {usual} up"


@pytest.mark.parametrize(
    ("made_by", "pip", "uv"), [("uv = 0.9", False, True), ("uv = 0.9", True, False), ("", 0, 0)]
)
def test_an_environment_of_uv_without_pip_is_filled_by_uv(
    program: Path, made_by: str, pip: bool, uv: bool
) -> None:
    (program.parents[1] / "pyvenv.cfg").write_text(f"home = /usr/bin\n{made_by}\n")
    if pip:
        (program.parent / "pip3").touch()
    python = f"'{program.parent / 'python'}'"
    line = f"uv pip install --python {python}" if uv else f"{python} -m pip install"
    assert install_line("autoresearch-bot[train]") == f"{line} 'autoresearch-bot[train]'"
