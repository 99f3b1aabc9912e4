"""Starts the two processes of an evaluation as the bot does, but for the sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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
    limit: float = 100,
    environment: Mapping[str, str],
    model: tuple[str, ...] = (sys.executable, "evaluate.py", "model"),
) -> Evaluation:
    """Evaluate the model of the folder `trained` by the files in `fixed`."""
    environ = {**os.environ, **environment}
    exchange = os.memfd_create("exchange")
    to_model, to_scorer = os.pipe(), os.pipe()
    options = ["--exchange", str(exchange), "--out", str(out), "--seed", str(seed), "--limit", str(limit)]
    options += ["--head", str(head)] if head else []
    with (
        tempfile.TemporaryFile("w+") as model_said,
        subprocess.Popen(
            (*model, "--exchange", str(exchange)),
            cwd=trained,
            env=environ,
            stdin=to_model[0],
            stdout=to_scorer[1],
            stderr=model_said,
            pass_fds=[exchange],
        ) as answering,
        subprocess.Popen(
            (sys.executable, "evaluate.py", "score", *options),
            cwd=fixed,
            env=environ,
            stdin=to_scorer[0],
            stdout=to_model[1],
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[exchange],
        ) as scoring,
    ):
        for end in (*to_model, *to_scorer, exchange):
            os.close(end)
        assert scoring.stderr
        scorer_said = scoring.stderr.read()
        assert scoring.wait() == 0, scorer_said
        answering.kill()
        answering.wait()
        model_said.seek(0)
        said = model_said.read()
    return Evaluation(json.loads(Path(f"{out}.json").read_text()), out, scorer_said, said)
