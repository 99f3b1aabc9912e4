"""The end of a training's log, as lines of plain text.

Logs come from programs that models write, so anything may be in them: 100 MB, bytes that are no text, colours
and carriage returns. Every reader takes its lines from here: each is looked at once and has a bounded length,
so that the time is linear in the text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

TAIL = 64 * 1024  # bytes of a log's end that are read as a rule
LONG_TAIL = 1024 * 1024  # bytes of its end in which a summary is found, whatever was printed after it
LINE = 500  # characters of a line that are read

_RAW = 4 * LINE  # a line may have as many escapes
_LINE = re.compile(rf"([^\r\n]{{0,{_RAW}}})[^\r\n]*([\r\n]+|\Z)")
_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~]|.)"  # a colour, a title, others
)

_TIME = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_TAG = re.compile(
    rf"""
    (?P<source>
        \[[A-Za-z_./-]{{0,40}}\d{{1,5}}(?:[,/]\d{{1,5}})?\](?:<\w{{1,12}}>)?:?  # [rank0]: [1,0]<stdout>:
      | \d{{1,4}}:(?=\s|\Z)                              # 0: of srun
      | \([^()]{{0,60}}\bpid=\d{{1,10}}[^()]{{0,60}}\)             # (train pid=123)
      | [\w.-]{{1,40}}[-_]\d{{1,4}}\ {{0,8}}\|(?=\ )            # train-1  | of docker
    )
  | [A-Z][a-z]{{2}}\ [ \d]\d\ {_TIME}\ \S{{1,60}}\ \S{{1,40}}\[\d{{1,9}}\]:  # Nov 29 20:00:01 pc python[1]:
  | [\[(]?(?:\d{{4}}-\d\d-\d\d[T\ ]|\d\d/\d\d/\d\d\ )?{_TIME}(?:Z|[+-]\d\d:?\d\d)?[\])]?:?(?=\s|\Z)
    """,
    re.VERBOSE,
)
_TAG_STARTS = "[(0123456789"  # as do all but one that holds a bar
_TAGS = 4  # that a line may begin with


def read_tail(path: Path, limit: int = TAIL) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            return file.read(limit).decode("utf-8", errors="replace")
    except OSError:
        return ""


def plain_lines(text: str) -> Iterator[str]:
    r"""Yield the beginning of each line, which ends in `\n`, `\r` or both; of empty lines in a row the first.

    Terminal escapes are left out, and a space stands for any other character that cannot be printed.
    """
    for found in _LINE.finditer(text):
        if found[1]:
            yield plain(found[1])
        if len(found[2]) > 1 and len(found[2].replace("\r\n", "\n")) > 1:
            yield ""


def plain(line: str) -> str:
    if not line.isprintable():
        line = "".join(c if c.isprintable() else " " for c in _ESCAPE.sub("", line))
    return line[:LINE]


def untagged(line: str) -> tuple[str, str]:
    """Split off what a launcher and a clock put ahead of a line: which process said it, and what it said."""
    source = ""
    for _ in range(_TAGS):
        if not (line[:1].isupper() or line[:1] in _TAG_STARTS or "|" in line):
            break
        tag = _TAG.match(line)
        if tag is None:
            break
        source += tag["source"] or ""
        line = line[tag.end() :].removeprefix(" ")  # what is left of an indentation means something
    return source, line
