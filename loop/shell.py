"""Commands: what a person types into a shell, as it works on this machine, and what we ask programs."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PROGRAM = "autoresearch"
USUAL_HOME = "~/.local/share/autoresearch"  # the state directory where none is named
NOT_RUN = 127  # the exit status of what did not start, or not end in time


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


def run(
    argv: Sequence[str],
    environment: Mapping[str, str] | None = None,
    seconds: float = 20.0,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with our own environment where none is given.

    One that does not start or not end in time has `NOT_RUN` as its exit status, and says why in `stderr`.
    """
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    try:
        process = subprocess.Popen(
            argv, cwd=cwd, env=environment, stdin=null, stdout=pipe, stderr=pipe, text=True, errors="replace"
        )
    except OSError as error:
        return subprocess.CompletedProcess(argv, NOT_RUN, "", str(error))
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        try:
            said, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                # One that hangs in a driver cannot be killed, and `subprocess.run` would wait for it.
                process.wait(timeout=1.0)
            return subprocess.CompletedProcess(argv, NOT_RUN, "", str(error))
    return subprocess.CompletedProcess(argv, process.returncode, said, errors)


def answer_of(
    *command: str, environ: Mapping[str, str] | None = None, cwd: Path | None = None, seconds: float = 20.0
) -> str | None:
    """Return what a program prints; None where it fails, is missing or does not answer in time."""
    done = run(command, environ, seconds, cwd)
    return done.stdout.strip() if done.returncode == 0 else None
