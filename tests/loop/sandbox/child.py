"""Campaigns in processes of their own, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loop.files import remove
from loop.sandbox.sandbox import SandboxKind
from tests.loop.sandbox.campaign import Seen
from tests.loop.sandbox.scene import AS_ROOT, NOBODY, ROOT, python_of_others

MODULE = Seen.__module__


@dataclass(frozen=True, slots=True)
class Started:
    """A campaign in a process of its own."""

    process: subprocess.Popen[str]
    folder: Path

    def wait(self) -> Seen:
        said, errors = self.process.communicate()
        remove(self.folder)
        assert self.process.returncode == 0, errors
        seen = Seen(**json.loads(said))
        honest = {name: (value, taken) for name, (value, taken) in seen.honest.items()}  # JSON has no tuples
        return replace(seen, honest=honest)


def start(kind: SandboxKind, *groups: str, python: str = sys.executable) -> Started:
    """Start a campaign with our Python, or with that of an ordinary user, as whom it then runs."""
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    if python != sys.executable:
        os.chown(folder, NOBODY, NOBODY)
    environment = {"HOME": str(folder / "person")}
    arguments = ("-m", MODULE, str(folder), kind, *groups)
    return Started(_start(python, arguments, environment), folder)


def _start(python: str, arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    other = None if python == sys.executable else NOBODY
    return subprocess.Popen(
        [python, *arguments],
        user=other,
        group=other,
        extra_groups=None if other is None else [],
        cwd=ROOT,
        # The packages are ours: that user's Python may have none.
        env={"PATH": os.environ["PATH"], "PYTHONPATH": sysconfig.get_path("purelib"), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def other_python() -> str | None:
    """Return a Python with which an ordinary user can run this, None where we are one or there is none."""
    python = python_of_others() if AS_ROOT else None
    if python is None or python == sys.executable:
        return None
    with _start(python, ("-c", f"import {MODULE}"), {}) as tried:
        tried.communicate()
    return python if tried.returncode == 0 else None
