"""The training template's CPU profile as something to measure programs on."""

from __future__ import annotations

import copy
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from bot.setup.template import template_files
from loop.errors import UserError
from loop.logs.summary import read_summary
from loop.program.constants import replace_constants

_AGAIN = (1001, 1002, 1003)
"""Seeds with which a program is trained to see what it is worth; no experiment uses them."""


class Template:
    """Trains programs in `folder`, for `budget` seconds each, one after the other.

    They are seconds of one processor, not of the clock, so that a busy machine does not change the numbers.
    """

    def __init__(self, folder: Path, *, budget: float) -> None:
        self._folder = folder
        self._limit = 120 + 10 * budget
        self._true: dict[str, float] = {}  # by source
        files = template_files("cpu", budget)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        self.program = files["train.py"]
        prepare = [sys.executable, "prepare.py"]
        subprocess.run(prepare, cwd=folder, env=self._environment(), check=True, stdout=sys.stderr)

    def copy(self, folder: Path) -> Template:
        """Return the like that trains in another, empty folder, with all that is known so far."""
        shutil.copytree(self._folder, folder, dirs_exist_ok=True)
        other = copy.copy(self)
        other._folder, other._true = folder, dict(self._true)
        return other

    def _environment(self) -> dict[str, str]:
        own = {"AUTORESEARCH_CACHE": str(self._folder / "cache"), "OMP_NUM_THREADS": "1"}
        return {**os.environ, **own}

    def measure(self, source: str) -> float | None:
        """Return the val_bpb of one training, None for a crash."""
        timed = source.replace("time.perf_counter()", "time.process_time()")
        (self._folder / "train.py").write_text(timed, encoding="utf-8")
        try:
            done = subprocess.run(
                [sys.executable, "train.py"],
                cwd=self._folder,
                env=self._environment(),
                timeout=self._limit,
                capture_output=True,
                text=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None
        return read_summary(done.stdout).get("val_bpb")

    def memory(self, source: str) -> float:
        """Return 0: it takes none of a GPU."""
        return 0.0

    def true(self, source: str) -> float:
        """Return the mean of several trainings with seeds that no experiment used.

        Raises:
            UserError: one of them crashed.
        """
        if source not in self._true:
            values = [self.measure(replace_constants(source, {"SEED": seed})) for seed in _AGAIN]
            known = [value for value in values if value is not None]
            if len(known) < len(values):
                raise UserError("A program that was kept crashes with another seed.")
            self._true[source] = statistics.mean(known)
        return self._true[source]
