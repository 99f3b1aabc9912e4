"""The numbers of a training: those of its summary, `---` and then `key: value` lines, or of SUMMARY_PATTERN.

`key=value` in a block is read too and, where there is no block, lines `METRIC key=value`.

Launchers, loggers and terminals decorate lines: `[rank0]: val_bpb: 0.99`, `│ val_bpb: 0.99 │`,
`2026-11-29 20:00:01 INFO val_bpb: 0.99`. What stands around a `key: number` in a block is read over.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from loop.logs.progress import is_progress
from loop.logs.tail import LONG_TAIL, TAIL, plain_lines, read_tail, untagged
from loop.process.worker import run_worker

MOST_KEYS = 1000  # of a summary
PATTERN_SECONDS = 10.0  # for SUMMARY_PATTERN and one log: such a pattern may take years for one line

_RULE = "---"
_DECORATIONS = 8  # that a line may begin with
_DECORATION = re.compile(
    r"""
    [\s|│┃║*>\#•"'`]{1,80} | -\s                                        # bars, quotes, bullets
  | \[?(?:TRACE|DEBUG|INFO|SUCCESS|NOTICE|WARN(?:ING)?|ERROR)\]?(?::[\w.]{1,60}:|:?(?=[\s|-]))  # INFO:root:
  | [IWEF]\d{4}\ \d\d:\d\d:\d\d\.\d{1,9}\ {1,8}\d{1,9}\ [^\]\s]{1,80}\]  # I1129 20:00:01.123 412 train.py:10]
  | [\w.<>]{1,60}:[\w.<>]{1,60}:\d{1,6}(?=\s)                           # __main__:main:12 of loguru
  | [\w.]{1,60}(?=\ -\ )                                                # root - INFO -
  | [^|]{0,60}\d{1,3}%\|[^|]{0,200}\|[^\[]{0,60}\[[^\]]{0,100}\]        # a bar of tqdm without its line end
    """,
    re.VERBOSE,
)
_END = " |│┃║*\"'`,"  # what may stand after a value
_PLACE = re.compile(r"\s\S{1,80}\.py:\d{1,6}\Z")  # rich names the line that printed at the right
_ENTRY = re.compile(r"([A-Za-z_][\w./-]{0,99})[\"'`*]{0,2}\s{0,80}[:=][\"'`*]{0,2}\s{0,80}(\S.*)")
_METRIC = "METRIC "
_NUMBER = re.compile(
    r"(?:[-+]?(?:[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?|\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
    r"|[-+]?(?:nan|inf(?:inity)?)(?![A-Za-z]))",
    re.ASCII | re.IGNORECASE,
)
_UNIT = re.compile(r"(?:%|[A-Za-zµ]{1,20}(?:/[A-Za-z]{1,20})?)?\s*(?:\(.*\))?")  # and a remark
_PAIR = re.compile(
    r"(?<![\w./-])([A-Za-z_][\w./-]{0,99})[\"'`]?\s{0,20}[:=]\s{0,20}"
    r"[-+]?(?:\d[\d,]*\.?\d*(?:e[-+]?\d+)?|\.\d+|nan|inf)(?:[A-Zµ]{1,6}|%)?(?![\w.:/-])",
    re.ASCII | re.IGNORECASE,
)

PAIRS = r"(?P<key>[\w./-]+)\W?\s*[:=]\s*(?P<value>nan|[-+.]*\d[-+.,\w]*\b)"
"""A SUMMARY_PATTERN that reads all of `keys_seen`."""


def read_summary(text: str) -> dict[str, float]:
    """Read the numbers of the last summary in `text`, also NaN and infinity; empty where there is none.

    A `---` that no `key: number` follows is no summary. Thousands separators and units are read over. Of a
    key that occurs twice the first counts, so that text printed after the block changes nothing in it; in
    lines `METRIC key=value`, which are printed as the training goes on, the last.
    """
    last: dict[str, float] = {}
    metrics: dict[str, float] = {}
    block: dict[str, float] | None = None
    for line in plain_lines(text):
        if _RULE in line and _is_rule(line):
            last = block or last
            block = {}
        elif block is not None and len(block) < MOST_KEYS and (entry := _entry(line)):
            block.setdefault(*entry)
        elif _METRIC in line and len(metrics) < MOST_KEYS:
            metrics |= _metric(line)
    return block or last or metrics


def read_pattern(text: str, pattern: str) -> dict[str, float]:
    """Read what SUMMARY_PATTERN finds, line by line; of a key that occurs twice the last counts."""
    compiled = re.compile(pattern)
    numbers: dict[str, float] = {}
    for line in plain_lines(text):
        for found in compiled.finditer(line):
            value = _value(found["value"] or "")
            if value is not None and found["key"] and (len(numbers) < MOST_KEYS or found["key"] in numbers):
                numbers[found["key"]] = value
    return numbers


def read_numbers(path: Path, *, cut_off: bool, pattern: str = "") -> dict[str, float]:
    """Read the numbers of the last summary of a log; of one that was `cut_off` whole lines only.

    A `pattern` (SUMMARY_PATTERN) is run in a process of its own, which can be ended. Not to be called from an
    event loop.

    Raises:
        UserError: the pattern took too long.
    """
    for limit in (TAIL, LONG_TAIL):
        text = read_tail(path, limit)
        if cut_off:
            text = text[: max(text.rfind("\n"), text.rfind("\r")) + 1]
        if numbers := _match(text, pattern) if pattern else read_summary(text):
            return numbers
    return {}


def _match(text: str, pattern: str) -> dict[str, float]:
    function, name = f"{__name__}:{read_pattern.__name__}", "SUMMARY_PATTERN"
    return asyncio.run(run_worker(function, text, pattern, returns=dict, name=name, limit=PATTERN_SECONDS))


def keys_seen(text: str) -> tuple[str, ...]:
    """Return the names of all numbers in a log, `key: 1.0` or `key=1.0` anywhere, but in progress lines."""
    keys: dict[str, None] = {}
    for line in plain_lines(text):
        if (found := _PAIR.findall(line)) and not is_progress(line):
            keys |= dict.fromkeys(found)
            if len(keys) >= MOST_KEYS:
                break
    return tuple(keys)


def _is_rule(line: str) -> bool:
    plain = line.strip()
    return plain == _RULE or _RULE in _bare(line) or (plain.endswith(f" {_RULE}") and is_progress(line))


def is_entry(line: str) -> bool:
    return _entry(line) is not None


def _metric(line: str) -> dict[str, float]:
    """Read a line such as `METRIC total_us=1064`, decorated or not."""
    stripped = (text.removeprefix(_METRIC) for text in _bare(line) if text.startswith(_METRIC))
    return dict(entry for text in stripped if (entry := _entry(text)))


def _entry(line: str) -> tuple[str, float] | None:
    if len(line) < len("a:1") or (":" not in line and "=" not in line):
        return None
    for text in _bare(line):
        if (entry := _ENTRY.fullmatch(text)) and (value := _value(entry[2])) is not None:
            return entry[1], value
    return None


def _bare(line: str) -> Iterator[str]:
    """Yield a line without its end's decorations, and then without one more of its beginning's each time."""
    text = untagged(line.strip())[1].strip()
    if ".py:" in text:
        text = _PLACE.sub("", text)
    text = text.rstrip(_END)
    yield text
    for _ in range(_DECORATIONS):
        found = _DECORATION.match(text)
        if found is None:
            return
        text = text[found.end() :].lstrip()
        yield text


def _value(text: str) -> float | None:
    """Read a number that may have a unit and a remark: `1,640,000 tok/s (best)`."""
    number = _NUMBER.match(text)
    if number is None or not _UNIT.fullmatch(text[number.end() :].strip()):
        return None
    with suppress(ValueError):
        return float(number[0].replace(",", ""))
    return None
