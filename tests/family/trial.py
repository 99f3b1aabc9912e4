"""One shape tried, and what of it is not as it should be."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from loop.process.environment import find_uv
from tests.family.shapes import Shape
from tests.family.walk import EXPERIMENTS, User, Walk


@dataclass(frozen=True)
class Trial:
    """`problem` is empty where all went as the shape says; what is `wrong` as yet must be in it."""

    shape: Shape
    walk: Walk
    seconds: float
    problem: str

    @property
    def is_right(self) -> bool:
        wrong = self.shape.wrong
        return wrong in self.problem if wrong else not self.problem


def try_shape(shape: Shape, folder: Path, *, forks: bool = True) -> Trial:
    """Walk the way through a shape on a machine in a new `folder`."""
    started = monotonic()
    user = User(folder, shape.files, forks=forks)
    names = {"here": str(user.repository), "python": sys.executable, "uv": find_uv() or "uv"}

    def filled(text: str) -> str:
        for name, value in names.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    shape.arrange(user)
    walk = Walk(
        user,
        shape.knows,
        {words: filled(command) for words, command in shape.does.items()},
        tuple(map(filled, shape.adopts)),
    )
    walk.go()
    problem = _problem(shape, walk, [filled(step) for step in shape.steps])
    return Trial(shape, walk, monotonic() - started, problem)


def _problem(shape: Shape, walk: Walk, steps: list[str]) -> str:
    if walk.before != shape.before:
        return f"before: {walk.before}; {walk.stuck}"
    if walk.stuck:
        return f"stuck: {walk.stuck}"
    if walk.steps != steps:
        return f"steps: {walk.steps}"
    if walk.after != shape.after:
        return f"after: {walk.after}"
    first = walk.taken_over or 1  # after the baseline, or after what others did
    values, statuses = walk.values[first:], walk.statuses[first:]
    if len(values) != EXPERIMENTS or None in values or not {*statuses} <= {"keep", "discard"}:
        return f"experiments: {', '.join(statuses)}"
    better = max if walk.user.settings.get("METRIC_GOAL") == "maximize" else min
    if walk.best != better(value for value in walk.values if value is not None):
        return f"best: {walk.best} of {walk.values}"
    try:
        shape.proves(walk)
    except AssertionError as error:
        return f"not proved: {error}"
    return ""
