r"""What a training's log says: the numbers of its summary block, and the line that says why it failed.

The summary is a line `---` and then `key: value` lines. Logs come from programs that models write, so
anything may be in them: 100 MB, bytes that are no text, `\r` instead of lines.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loop.text import one_line

_STEP = re.compile(
    r"(?:\x1b\[[0-9;?]*[A-Za-z]|\W)*"  # escapes that clear the line, brackets
    r"(?:step|iter(?:ation)?)\b[\s:=#]*(\d[\d,]{0,15})(?:\s*/\s*(\d[\d,]{0,15}))?",
    re.ASCII | re.IGNORECASE,
)
_PERCENT = re.compile(r"[\s:|]*\(?\s*(\d{1,3}(?:\.\d+)?)\s*%", re.ASCII)
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
    r"""Read the last progress line of a log, lines being separated by `\n` or `\r`; None where there is none.

    A progress line begins with a step: `step 00123 (45.6%) | loss: 4.123456 | … | remaining: 163s`,
    `step 12/100`, `iter 12: loss 3.2`.
    """
    for line in reversed(re.split(r"[\r\n]+", text)):
        if progress := _read_line(line):
            return progress
    return None


def is_progress(line: str) -> bool:
    return _read_line(line) is not None


def _read_line(line: str) -> Progress | None:
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


TAIL = 64 * 1024  # bytes of a log's end that are read as a rule
LONG_TAIL = 1024 * 1024  # bytes of its end in which a summary is found, whatever was printed after it
ERROR_LENGTH = 200  # characters of an error line that are kept

_RULE = re.compile(r"---[ \t]*(?=[\r\n]|\Z)")
_LINE_END = re.compile(r"\r\n|\n|\r")
_ENTRY = re.compile(r"\s*([A-Za-z_][\w./-]*)\s*:\s*(\S.*)")
_VALUE = re.compile(
    r"([-+]?(?:[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?|\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?i:nan|inf|infinity))"
    r"\s*(?:%|[A-Za-zµ]+(?:/[A-Za-z]+)?)?(?:\s*\(.*\))?\s*"  # a unit, a remark
)
_TRACEBACK = "Traceback (most recent call last):"
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)")


def read_tail(path: Path, limit: int = TAIL) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            return file.read(limit).decode("utf-8", errors="replace")
    except OSError:
        return ""


def read_summary(text: str) -> dict[str, float]:
    """Read the numbers of the last summary in `text`, also NaN and infinity; empty where there is none.

    A `---` that no `key: number` follows is no summary. Thousands separators and units are read over. Of a
    key that occurs twice the first counts, so that text printed after the block changes nothing in it.
    """
    end = len(text)
    while (start := text.rfind("---", 0, end)) >= 0:
        end = start
        if text[max(0, start - 1) : start] in ("", "\n", "\r") and _RULE.match(text, start):
            entries: dict[str, float] = {}
            for line in _LINE_END.split(text[start:]):
                if (entry := _ENTRY.fullmatch(line)) and (value := _VALUE.fullmatch(entry[2])):
                    entries.setdefault(entry[1], float(value[1].replace(",", "")))
            if entries:
                return entries
    return {}


def read_numbers(path: Path, *, cut_off: bool) -> dict[str, float]:
    """Read the numbers of the last summary of a log; of one that was `cut_off` whole lines only."""
    for limit in (TAIL, LONG_TAIL):
        text = read_tail(path, limit)
        if cut_off:
            text = text[: max(text.rfind("\n"), text.rfind("\r")) + 1]
        if numbers := read_summary(text):
            return numbers
    return {}


def tells_of_full_memory(text: str) -> bool:
    return any(sign in text for sign in ("OutOfMemoryError", "out of memory", "MemoryError"))


def error_line(text: str, *, killed: bool = False) -> str:
    """Find the line that says best why a training failed, at most 200 characters of it.

    This is the exception of the last traceback, unless the training went on after it; else the last line that
    says something and is no progress line, but not of one that was `killed`: there it is no error. Terminal
    escapes and control characters are removed.
    """
    lines = [_plain(line) for line in _LINE_END.split(text)]
    telling = _exception(lines) or ("" if killed else next(_telling(reversed(lines)), ""))
    return one_line(telling, ERROR_LENGTH)


def _plain(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else " " for c in _ESCAPE.sub("", line))


def _telling(lines: Iterator[str]) -> Iterator[str]:
    return (line for line in lines if any(map(str.isalnum, line)) and not is_progress(line))


def _exception(lines: list[str]) -> str:
    for number in range(len(lines) - 1, -1, -1):
        line = lines[number]
        if is_progress(line):
            return ""  # whatever was raised before was caught
        if line.endswith(_TRACEBACK) and not _ignored(lines, number):
            prefix = line[: -len(_TRACEBACK)]  # such as "[rank0]: "
            below = (later.removeprefix(prefix) for later in lines[number + 1 :])
            return next((later for later in below if later.strip() and not later[0].isspace()), "")
    return ""


def _ignored(lines: list[str], number: int) -> bool:
    """Tell whether this is a traceback that Python prints from clean-up at its end and goes on."""
    return number > 0 and "Exception ignored in" in lines[number - 1]
