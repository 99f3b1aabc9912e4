"""One thing that a machine needs, looked at; and how the checks are shown."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

_PATIENCE = 20.0  # seconds for a program to answer


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `ok` is None for a warning; `mend` is what to do, empty where all is well."""

    name: str
    ok: bool | None
    detail: str
    mend: str = ""


def render(checks: tuple[Check, ...]) -> str:
    """The checks for a terminal: a line each, and another where there is something to do."""
    words = {True: "ok  ", None: "warn", False: "FAIL"}
    lines = []
    for check in checks:
        lines.append(f"{words[check.ok]}  {check.name}: {check.detail}")
        if check.mend:
            lines.append(f"      {check.mend}")
    return "\n".join(lines)


def ask(*command: str) -> str | None:
    """Return what a program prints, None where it fails, is not there or gives no answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
