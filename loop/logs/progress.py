"""What a training's log says about how far it is, and how its loss fell."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from loop.logs.tail import LONG_TAIL, TAIL, plain, plain_lines, read_tail, untagged

_STEP = re.compile(
    r"\W{0,80}(?:step|iter(?:ation)?)\b[\s:=#]*(\d[\d,]{0,15})(?:\s*/\s*(\d[\d,]{0,15}))?",
    re.ASCII | re.IGNORECASE,
)
_PERCENT = re.compile(r"[\s:|]*(?:\(\s*)?(\d{1,3}(?:\.\d+)?)\s*%", re.ASCII)
_LOSS = re.compile(
    r"\b(?:train[_ ])?loss\b[\s:=]*([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)", re.ASCII | re.IGNORECASE
)
_REMAINING = re.compile(
    r"\b(?:remaining|eta)\b[\s:=]*"
    r"(?:(?:(?P<h>\d{1,4}):)?(?P<m>\d{1,2}):(?P<s>\d\d)\b"  # 1:02:43
    r"|(?:(?P<hours>\d{1,4})\s*h\s*)?(?:(?P<minutes>\d{1,6})\s*m\s*)?(?:(?P<seconds>\d{1,9}(?:\.\d+)?)(?:s|\b))?)",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Progress:
    """A progress line as data, None for what it does not say; `percent` is of the training's budget."""

    step: int
    percent: float | None = None
    loss: float | None = None
    remaining_seconds: float | None = None


def read_progress(text: str) -> Progress | None:
    """Read the last progress line of a log; None where there is none.

    A progress line begins with a step: `step 00123 (45.6%) | loss: 4.123456 | … | remaining: 163s`,
    `step 12/100`, `iter 12: loss 3.2`.
    """
    found = [*read_all_progress(text)]
    return found[-1] if found else None


def read_all_progress(text: str) -> Iterator[Progress]:
    return filter(None, map(_read_line, plain_lines(text)))


def is_progress(line: str) -> bool:
    return _read_line(line) is not None


def _read_line(line: str) -> Progress | None:
    line = untagged(plain(line))[1]
    match = _STEP.match(line)
    if not match:
        return None
    step, steps = (int(group.replace(",", "")) if group else 0 for group in match.groups())
    rest = line[match.end() :]
    percent = _number(_PERCENT.match(rest))
    if percent is None and steps:
        percent = min(100.0, 100.0 * step / steps)
    loss = _number(_LOSS.search(rest))
    remaining = _remaining(rest)
    if rest.strip() and percent is None and loss is None and remaining is None:
        return None  # a sentence, such as "step 12: the loss exploded"
    return Progress(step, percent, loss, remaining)


def _number(match: re.Match[str] | None) -> float | None:
    value = float(match[1]) if match else math.nan
    return value if math.isfinite(value) else None


def _remaining(text: str) -> float | None:
    match = _REMAINING.search(text)
    if not match or not any(match.groups()):
        return None
    hours, minutes, seconds = (
        float(match[clock] or match[words] or 0)
        for clock, words in (("h", "hours"), ("m", "minutes"), ("s", "seconds"))
    )
    return 3600 * hours + 60 * minutes + seconds


POINTS = 60  # of a kept curve, at most
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
