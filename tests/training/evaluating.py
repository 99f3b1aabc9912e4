"""Starts the two processes of an evaluation as the bot does, but for the sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bot.preloaded import Forked

Start = Callable[..., "Forked | subprocess.Popen[bytes]"]


def python(command: tuple[str, ...], **options: Any) -> subprocess.Popen[bytes]:
    """Start `python *command`."""
    return subprocess.Popen((sys.executable, *command), **options)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What `score` found, its losses, and what both processes printed."""

    found: dict[str, Any]
    losses: Path
    scorer_said: str
    model_said: str

    def __getitem__(self, key: str) -> Any:
        return self.found[key]


def evaluate(
    trained: Path,
    fixed: Path,
    out: Path,
    *,
    head: Path | None = None,
    seed: int = 0,
    limit: float = 300,
    environment: Mapping[str, str],
    start: Start = python,
) -> Evaluation:
    """Evaluate the model of the folder `trained` by the files in `fixed`."""
    environ = {**os.environ, **environment}
    exchange = os.memfd_create("exchange")
    (from_scorer, to_model), (from_model, to_scorer) = os.pipe(), os.pipe()
    options = ["--exchange", str(exchange), "--out", str(out), "--seed", str(seed), "--limit", str(limit)]
    options += ["--head", str(head)] if head else []
    common: dict[str, Any] = {"env": environ, "pass_fds": [exchange]}
    with (
        tempfile.TemporaryFile("w+") as model_said,
        tempfile.TemporaryFile("w+") as scorer_said,
        start(
            ("evaluate.py", "model", "--exchange", str(exchange)),
            cwd=trained,
            stdin=from_scorer,
            stdout=to_scorer,
            stderr=model_said.fileno(),
            **common,
        ) as answering,
        start(
            ("evaluate.py", "score", *options),
            cwd=fixed,
            stdin=from_model,
            stdout=to_model,
            stderr=scorer_said.fileno(),
            **common,
        ) as scoring,
    ):
        for end in (from_scorer, to_model, from_model, to_scorer, exchange):
            os.close(end)
        code = scoring.wait()
        answering.kill()
        answering.wait()
        for said in (model_said, scorer_said):
            said.seek(0)
        words = scorer_said.read()
        assert code == 0, words
        found = json.loads(Path(f"{out}.json").read_text())
        return Evaluation(found, out, words, model_said.read())
