"""Campaigns in processes of their own, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop.files import remove
from loop.sandbox.sandbox import SandboxKind
from tests.loop.sandbox.campaign import Seen
from tests.loop.sandbox.scene import AS_ROOT, NOBODY, ROOT, python_of_others

IMPOSSIBLE = 77
START = f"""\
import sys
try:
    from {Seen.__module__} import main
except Exception:  # that user may not read what it is made of
    sys.exit({IMPOSSIBLE})
main()
"""


@dataclass(frozen=True, slots=True)
class Started:
    """Campaigns in a process of their own."""

    process: subprocess.Popen[str]
    folder: Path
    must_run: bool

    def wait(self) -> dict[SandboxKind, Seen]:
        """Return what came of each; nothing where this Python cannot run them."""
        said, errors = self.process.communicate()
        remove(self.folder)
        if self.process.returncode == IMPOSSIBLE and not self.must_run:
            return {}
        assert self.process.returncode == 0, errors
        return {SandboxKind(kind): _seen(found) for kind, found in json.loads(said).items()}


def _seen(found: dict[str, Any]) -> Seen:
    honest = {name: (value, taken) for name, (value, taken) in found["honest"].items()}  # no tuples in JSON
    return Seen(**{**found, "honest": honest})


def start(asked: Mapping[SandboxKind, tuple[str, ...]], python: str = sys.executable) -> Started:
    """Start campaigns with our Python, or with that of an ordinary user, as whom they then run.

    `asked` are the groups of tricks to try in each sandbox.
    """
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    other = None if python == sys.executable else NOBODY
    if other is not None:
        os.chown(folder, other, other)
    words = [",".join((kind, *groups)) for kind, groups in asked.items()]
    process = subprocess.Popen(
        [python, "-c", START, str(folder), *words],
        user=other,
        group=other,
        extra_groups=None if other is None else [],
        cwd=ROOT,
        # The packages are ours: that user's Python may have none.
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": sysconfig.get_path("purelib"),
            "HOME": str(folder / "person"),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return Started(process, folder, must_run=other is None)


def other_python() -> str | None:
    """Return the Python of an ordinary user, None where we are one or there is none."""
    python = python_of_others() if AS_ROOT else None
    return None if python == sys.executable else python
