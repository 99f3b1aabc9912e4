"""The progress chart of a run, drawn in another process: matplotlib is never imported here."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from loop.experiment import Goal
from loop.process.worker import WorkerError, run_worker
from loop.results.report import make_report
from loop.store.experiments import Row
from loop.text import one_line
from notifiers.charts.scene import GAINS, headline_of, make_scene, visible_gains
from notifiers.text.words import signed

_SETTINGS = {"MATPLOTLIBRC": os.devnull}  # a person's own style is for their own figures
_ALT_LINE = 60


class ChartError(Exception):
    """Why there is no chart, as one sentence for people."""


async def chart(
    rows: Sequence[Row],
    *,
    metric: str,
    goal: Goal,
    title: str,
    python: str = sys.executable,
    limit: float = 60.0,
) -> bytes:
    """Return the chart of `rows`, ordered by number, as a PNG; `python` draws it in `limit` seconds at most.

    Raises:
        ChartError: it cannot be drawn.
    """
    try:
        return await run_worker(
            "notifiers.charts.drawing:draw",
            make_scene(rows, metric=metric, goal=goal, title=title),
            returns=bytes,
            name="its worker",
            python=python,
            limit=limit,
            settings=_SETTINGS,
        )
    except WorkerError as error:
        raise ChartError(f"The chart cannot be drawn: {error}") from None


def alt_text(rows: Sequence[Row], *, metric: str, goal: Goal, title: str) -> str:
    """Return what the chart shows in a few hundred characters, for people who cannot see it."""
    report = make_report(rows, metric=metric, goal=goal)
    headline, moved = headline_of(report)
    counts = {"kept": report.keep, "discarded": report.discard, "crashed": report.crash}
    parts = [
        f"Progress of {one_line(title, _ALT_LINE)}",
        f"{one_line(metric, _ALT_LINE)}: {headline}{f' ({moved})' if moved else ''}",
        ", ".join(f"{count:,} {word}" for word, count in counts.items() if count),
    ]
    sign = -1 if goal is Goal.MINIMIZE else 1
    gains = [
        one_line(f"#{gain.number} {signed(sign * gain.gain)} {gain.description}", _ALT_LINE)
        for gain in visible_gains(report)[:GAINS]
    ]
    if gains:
        parts.append(f"Largest gains: {'; '.join(gains)}")
    return ". ".join(filter(None, parts)) + "."
