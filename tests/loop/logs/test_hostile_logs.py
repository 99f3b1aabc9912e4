"""Logs that were made to stop their readers: twice the text must be no more than twice the work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest

from loop.logs.error_line import error_line
from loop.logs.progress import read_progress
from loop.logs.summary import keys_seen, read_summary
from loop.logs.tail import LINE, plain_lines
from tests.loop.logs import crash_logs

READERS: tuple[Callable[[str], object], ...] = (read_summary, keys_seen, error_line, read_progress)

UNITS = {
    "rules": "---\n",
    "rules that end in carriage returns": "---\r",
    "rules and entries": "---\na: 1\n",
    "rules and colons": "---\n:\n",
    "line ends": "\r",
    "both line ends": "\r\n",
    "one line": "x",
    "one line of dashes": "-",
    "escapes": "\x1b",
    "escapes without an end": "\x1b[0;",
    "titles without an end": "\x1b]0;",
    "decorations": "[rank0]: 2026-11-29 20:00:01 INFO | INFO | > * ",
    "decorated lines": "[rank0]: 2026-11-29 20:00:01 INFO | INFO | > * a:\n",
    "a value of spaces": "a: 1" + " " * 400 + "(" * 90 + "\n",
    "progress bars": "1%|[",
    "steps": "step 1" + " " * 400 + "x\n",
    "losses": "step 1 " + "loss " * 90 + "eta " + "1 " * 90 + "\n",
    "pairs": "a" * 99 + "= ",
    "tracebacks": "Traceback (most recent call last):\n",
    "tracebacks of many processes": "[r{}]: Traceback (most recent call last):\n",
    "tracebacks behind prefixes": "{} > Traceback (most recent call last):\n",
    "frames": '  File "x", line 1\n',
    "chains": crash_logs.TRACEBACK + "ValueError: a\n" + crash_logs.CHAINED,
    "groups": crash_logs.GROUP,
    "groups in groups": "\n".join(crash_logs.GROUP.splitlines()[:5]) + "\n",
    "words of signs": "error killed assertion `" + "a" * 300 + "\n",
    "nothing but signs": "error: a\n",
}


def text_of(unit: str, size: int) -> str:
    return "".join(unit.replace("{}", str(number)) for number in range(size // len(unit) + 1))[:size]


def calls(function: Callable[[str], object], text: str) -> int:
    """Count the functions that are called, those in C too: each looks at one line of a bounded length."""
    made = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function(text)
    finally:
        sys.setprofile(before)
    return made


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS.keys())
@pytest.mark.parametrize("read", READERS)
def test_twice_the_text_is_no_more_than_twice_the_work(read: Callable[[str], object], unit: str) -> None:
    once, twice = (calls(read, f"---\n{text_of(unit, size)}") for size in (4_096, 8_192))
    assert twice <= 2.2 * once + 100


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS.keys())
def test_no_line_is_longer_than_its_limit(unit: str) -> None:
    assert max(map(len, plain_lines(text_of(unit, 32_768))), default=0) <= LINE
