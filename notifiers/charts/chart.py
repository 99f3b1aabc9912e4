"""The progress chart of a run: drawn in a process of its own, so that matplotlib never enters the bot."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from loop.experiment import Goal
from loop.process.worker import WorkerError, run_worker
from loop.results.report import make_report
from loop.store.experiments import Row
from notifiers.charts.scene import headline_of, largest_gains
from notifiers.text.words import one_line, signed

_MODULE = "notifiers.charts.worker"
_SETTINGS = {"MATPLOTLIBRC": os.devnull}  # a person's own style is for their own figures
_DESCRIPTION = 60  # characters; the chart has room for fewer
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
    """Return the chart of `rows`, which stand in the order of their numbers, as a PNG.

    It is drawn by `python` at low priority, in `limit` seconds at most. When cancelled, that process is ended
    first.

    Raises:
        ChartError: it cannot be drawn.
    """
    cells = [(row.number, row.value, row.status, one_line(row.description, _DESCRIPTION)) for row in rows]
    request = json.dumps({"rows": cells, "metric": metric, "goal": goal, "title": title}).encode()
    try:
        return await run_worker(_MODULE, request, python=python, limit=limit, settings=_SETTINGS)
    except WorkerError as error:
        raise ChartError(f"The chart cannot be drawn: its worker {error}.") from None


def alt_text(rows: Sequence[Row], *, metric: str, goal: Goal, title: str) -> str:
    """Return what the chart shows, for who does not see it: a few hundred characters at most."""
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
        for gain in largest_gains(report)
    ]
    if gains:
        parts.append(f"Largest gains: {'; '.join(gains)}")
    return ". ".join(filter(None, parts)) + "."
