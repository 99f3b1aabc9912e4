"""What experiments came to: the table of results, and the end of a log."""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean

from loop.experiment import Experiment, Goal
from loop.gain import change, number
from loop.logs.tail import plain_lines
from loop.results.gains import bests_before
from loop.store.experiments import Row
from loop.text import one_line
from notifiers.message import Message
from notifiers.text.words import plural

PHONE = 36  # columns of fixed width that a phone shows without wrapping
_NARROW = 44  # columns, below which the value is left out: the change says as much
_CHANGE = re.compile(r"(.+?) \S+ → ([^\s,]+)(.*)")
_NAME = 3  # letters of a name, below which it says nothing
_LOG_LINES = 15
_NUMBERS = 12


def results_message(
    rows: Sequence[Row], *, metric: str, goal: Goal, total: int, tag: str | None = None, width: int = 60
) -> Message:
    """Return `rows`, the last of `total` results, as a table `width` columns wide.

    Δ is to the best value so far. A narrow table has no other values.
    """
    title = f"{tag}: " if tag else ""
    if not rows:
        return Message(f"{title}no results yet")
    count = plural(total, "result")
    if len(rows) < total:
        count = f"the last {len(rows)} of {count}" if len(rows) > 1 else f"the last of {count}"
    cells: list[tuple[str, ...]] = [("#", metric, "Δ", "status", "description")]
    for row, best in zip(rows, bests_before(rows, goal), strict=True):
        value = "-" if row.value is None else number(row.value, best)
        delta = "" if row.value is None or best is None else change(best, row.value)
        cells.append((str(row.number), value, delta, row.status, f"{_mean(row)}{row.description}"))
    if width < _NARROW:
        cells = [(cell[0], cell[2] or cell[1], *cell[3:]) for cell in cells]
    return Message(f"{title}{count}", "\n".join(_table(cells, width)))


def _table(cells: Sequence[tuple[str, ...]], width: int) -> list[str]:
    """Return lines of all columns; the last but one is the only one that is aligned at its left."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    left = width - sum(widths[:-1]) - len(widths) + 1  # with gaps of one space
    lines = []
    for *numbers, status, description in cells:
        aligned = [f"{cell:>{size}}" for cell, size in zip(numbers, widths, strict=False)]
        shown = (_brief if width < _NARROW else one_line)(description, max(1, left))
        lines.append(" ".join((*aligned, f"{status:<{widths[-2]}}", shown)).rstrip())
    return lines


def _brief(description: str, room: int) -> str:
    """Return a description; of a change that does not fit the new value, and how many changes follow."""
    line = one_line(description)
    found = _CHANGE.fullmatch(line)
    if found is None or len(line) <= room:
        return one_line(line, room)
    name, value, others = found.groups()
    more = f" +{others.count(' → ')}" if " → " in others else ""
    left = room - len(f" {value}{more}")
    if left < _NAME:
        return one_line(line, room)
    return f"{name if len(name) <= left else f'{name[: left - 1]}…'} {value}{more}"


def _mean(row: Row) -> str:
    values = [value for value in (row.value, *row.repeats) if value is not None]
    return f"mean of {len(values)}: {number(fmean(values), values[0])} · " if len(values) > 1 else ""


def log_message(experiment: Experiment, text: str, *, cut_off: bool) -> Message:
    """Return the end of a log, whole lines of it, below the numbers that were read from it.

    Where it is `cut_off` the first line is a part of one.
    """
    whole = [*plain_lines(text)][cut_off:]
    lines = [line.rstrip() for line in whole if line.strip()][-_LOG_LINES:]
    numbers = [f"{name}: {value:g}" for name, value in list(experiment.numbers.items())[:_NUMBERS]]
    status = f" ({experiment.status})" if experiment.status else ""
    title = f"End of the log of experiment #{experiment.number}{status}"
    summary = [*numbers, "---"] if numbers and lines else numbers
    return Message(title, "\n".join((*summary, *lines)) or "(empty)")
