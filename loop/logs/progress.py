"""What a line of a training's log says about how far it is."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from loop.logs.tail import plain, plain_lines, untagged

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
