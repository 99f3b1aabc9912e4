"""Starts the three processes of an evaluation as the bot does, but for the sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
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
    """What `score` found, its losses, and what it and the first model's process printed."""

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
    """Evaluate the model of the folder `trained`, which `start` starts twice, by the files in `fixed`."""
    environ = {**os.environ, **environment}
    with ExitStack() as stack:
        said = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3)]
        links: list[tuple[int, int, int]] = []
        answering: list[Forked | subprocess.Popen[bytes]] = []
        for which in said[2:0:-1]:  # the second is asked first
            exchange = os.memfd_create("exchange")
            (from_scorer, to_model), (from_model, to_scorer) = os.pipe(), os.pipe()
            process = start(
                ("evaluate.py", "model", "--exchange", str(exchange)),
                cwd=trained,
                stdin=from_scorer,
                stdout=to_scorer,
                stderr=which.fileno(),
                env=environ,
                pass_fds=[exchange],
            )
            stack.enter_context(process)
            answering.append(process)
            os.close(from_scorer)
            os.close(to_scorer)
            links.append((exchange, from_model, to_model))
        second, (exchange, from_model, to_model) = links
        options = ["--exchange", str(exchange), "--second", ",".join(map(str, second))]
        options += ["--out", str(out), "--seed", str(seed), "--limit", str(limit)]
        options += ["--head", str(head)] if head else []
        scoring = python(
            ("evaluate.py", "score", *options),
            cwd=fixed,
            stdin=from_model,
            stdout=to_model,
            stderr=said[0].fileno(),
            env=environ,
            pass_fds=[exchange, *second],
        )
        for end in (exchange, from_model, to_model, *second):
            os.close(end)
        code = scoring.wait()
        for each in answering:
            each.kill()
            each.wait()
        for file in said:
            file.seek(0)
        words, model_said = said[0].read(), said[1].read()
        assert code == 0, words
        found = json.loads(Path(f"{out}.json").read_text())
        return Evaluation(found, out, words, model_said)
