r"""What a training's log says: the numbers of its summary block, and the line that tells why it failed.

The summary is a line `---` and then `key: value` lines. Logs come from programs that models write, so
anything may be in them: 100 MB, bytes that are no text, `\r` instead of lines.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from loop.process.progress import is_progress
from loop.text import one_line

TAIL = 64 * 1024
"""Bytes of a log's end that are read as a rule."""

LONG_TAIL = 1024 * 1024
"""Bytes of a log's end in which a summary is still found, whatever was printed after it."""

ERROR_LENGTH = 200
"""Characters of an error line that are kept."""

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
    """Read the last `limit` bytes of a log as text; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            return file.read(limit).decode("utf-8", errors="replace")
    except OSError:
        return ""


def read_summary(text: str) -> dict[str, float]:
    """Read the numbers of the last summary in `text`, also NaN and infinity; empty where there is none.

    A `---` that no `key: number` follows is no summary. Thousands separators, units and per cent signs are
    read over. Of a key that occurs twice after the `---` the first counts, so that text printed after the
    block changes nothing in it.
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
    """Tell whether words of a training say that the memory of the GPU or of the machine was full."""
    return any(sign in text for sign in ("OutOfMemoryError", "out of memory", "MemoryError"))


def error_line(text: str, *, killed: bool = False) -> str:
    """Find the line that tells best why a training failed, at most 200 characters of it.

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
    """Find the line under the frames of the last traceback that ended the training."""
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
