"""What a person types into a shell, as it works on this machine: this program, and what installs packages."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

PROGRAM = "autoresearch"
USUAL_HOME = "~/.local/share/autoresearch"
"""The state directory where none is named."""


def own_command(words: str, home: Path | None = None) -> str:
    """Return how this program is run with `words`: by its path where a shell would not find it.

    A state directory other than the usual one is named too.
    """
    program = Path(sys.executable).with_name(PROGRAM)
    found = shutil.which(PROGRAM)
    known = not program.exists() or (found is not None and Path(found).resolve() == program.resolve())
    named = os.environ.get("AUTORESEARCH_HOME") or USUAL_HOME
    elsewhere = home is not None and home != Path(named).expanduser().absolute()
    option = f" --home {shlex.quote(str(home))}" if elsewhere else ""
    return f"{PROGRAM if known else shlex.quote(str(program))}{option} {words}"


def install_line(*packages: str, python: Path | None = None) -> str:
    """Return what installs packages into the bot's own Python, or another: uv's environments have no pip."""
    python = python or Path(sys.executable)
    names = shlex.join(packages)
    if _is_made_by_uv(python):
        return f"uv pip install --python {shlex.quote(str(python))} {names}"
    return f"{shlex.quote(str(python))} -m pip install {names}"


def _is_made_by_uv(python: Path) -> bool:
    try:
        lines = (python.parents[1] / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return False
    return any(line.startswith("uv =") for line in lines) and not any(python.parent.glob("pip*"))
