"""Rows of results for charts: made by chance, the same each time."""

from __future__ import annotations

import random

from loop.experiment import Goal, Status
from loop.store.experiments import Row

IDEAS = (
    "halve batch size",
    "EMBEDDING_LR 0.6 → 0.8",
    "WINDOW_PATTERN SSSL → SSL",
    "SwiGLU instead of ReLU²",
    "costs $5_000 or $x^{-1",
    "学習率を下げる",
    "a very long description " * 40,
)


def row(number: int, value: float | None, status: Status = Status.KEEP, description: str = "an idea") -> Row:
    return Row(number, "0123456", value, 44.0, status, description)


def night(count: int, *, seed: int = 1, keeps: float = 0.18, goal: Goal = Goal.MINIMIZE) -> list[Row]:
    """Return `count` rows: the gains grow smaller, one discard in twenty is an outlier."""
    chance = random.Random(seed)
    direction = -1 if goal is Goal.MINIMIZE else 1
    best = 0.9979
    rows = [row(0, best, description="baseline")]
    for number in range(1, count):
        draw, idea = chance.random(), chance.choice(IDEAS)
        if draw < keeps:
            best += direction * abs(chance.gauss(0, 0.01 / (1 + number / 10)))
            rows.append(row(number, best, Status.KEEP, idea))
        elif draw < keeps + 0.1:
            rows.append(row(number, None, Status.CRASH, idea))
        elif draw < keeps + 0.12:
            rows.append(row(number, None, Status.SKIP, idea))
        else:
            worse = abs(chance.gauss(0, 0.006)) * (200 if chance.random() < 0.05 else 1)
            rows.append(row(number, best - direction * worse, Status.DISCARD, idea))
    return rows
