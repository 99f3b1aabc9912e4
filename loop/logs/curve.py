"""How the loss of a training fell, read from its log: a few points, kept beside the end of the log."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TypeAlias

from loop.logs.progress import read_all_progress
from loop.logs.tail import LONG_TAIL, TAIL, read_tail

POINTS = 60
"""Of a kept curve, at most."""

_BYTES = 40 * POINTS  # of a kept curve, at most

Curve: TypeAlias = tuple[tuple[float, float], ...]
"""How much of the training was over, in percent, and the loss there."""


def read_curve(log: Path, limit: int = LONG_TAIL) -> Curve:
    """Return the curve of the last training in a log, as far as its last `limit` bytes show it."""
    found: list[tuple[int, float | None, float]] = []
    for progress in read_all_progress(read_tail(log, limit)):
        if progress.loss is not None:
            if found and progress.step <= found[-1][0]:
                found.clear()  # a launcher that tried again, or a rank that says the same
            found.append((progress.step, progress.percent, progress.loss))
    if len(found) < 2:
        return ()
    last = found[-1][0]
    by_percent = all(percent is not None for _, percent, _ in found)
    every = math.ceil(len(found) / POINTS)
    kept = [*found[-1::-every]][::-1]
    return tuple(
        (percent if by_percent and percent is not None else 100 * step / last, loss)
        for step, percent, loss in kept
    )


def keep_curve(log: Path, kept: Path) -> None:
    """Write the curve of a training's whole log beside `kept`, the end of it; nothing where there is none."""
    if curve := read_curve(log):
        lines = (f"{share:.4g} {loss:.6g}\n" for share, loss in curve)
        _beside(kept).write_text("".join(lines), encoding="ascii")


def kept_curve(kept: Path) -> Curve:
    """Return what was kept beside the end of a log; of older experiments, what this end shows."""
    try:
        lines = [line.split() for line in read_tail(_beside(kept), _BYTES).splitlines()]
        curve = tuple((float(share), float(loss)) for share, loss in lines)
    except ValueError:
        curve = ()
    if curve and all(map(math.isfinite, (number for point in curve for number in point))):
        return curve[:POINTS]
    return read_curve(kept, TAIL)


def _beside(kept: Path) -> Path:
    return kept.with_suffix(".curve")
