"""results.tsv: one line a decided experiment. Written for people, read from wherever it comes."""

from __future__ import annotations

import logging
import math
import re
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from loop.errors import UserError
from loop.experiment import Status
from loop.files import place, writing
from loop.gain import DIGITS, digits
from loop.store.experiments import Row
from loop.text import one_line

log = logging.getLogger(__name__)

ASIDE = ".aside"
"""What the name of a file ends with that holds the lines of others out of a `results.tsv` of ours."""

_COLUMNS = ("commit", "val_bpb", "memory_gb", "status", "description")
_MEASURED = (Status.KEEP, Status.DISCARD, Status.QUARANTINE)
_OTHERS = {
    Status.KEEP: ("accept", "accepted", "baseline", "best", "improved", "kept"),
    Status.DISCARD: ("discarded", "reject", "rejected", "repair", "revert", "reverted", "tentative", "worse"),
    Status.CRASH: ("crashed", "error", "fail", "failed", "invalid", "oom", "timeout"),
    Status.SKIP: ("blocked", "duplicate", "skipped"),
}
"""What other projects call a verdict. A baseline that is trained again after a keep is none itself."""

_MEANT = {word: status for status, words in _OTHERS.items() for word in words} | {s.value: s for s in Status}
_NO_NUMBER = ("-", "n/a", "na", "none", "null", "crash", *_OTHERS[Status.CRASH])  # of what was not kept
_LARGEST = 2**26  # bytes of a file that is read; a line of ours has about a hundred
_LINE_END = re.compile(r"\r\n|\n|\r")
# A row as this project writes it, or as a spreadsheet makes of it.
_ROW = re.compile(
    r"[^\t]*\t(?:[-+\d.e]+|nan|inf)\t(?:[-+\d.e]*|nan|inf)\t(?:keep|discard|crash|skip)\t[^\t]*"
)


@dataclass(frozen=True, slots=True)
class Results:
    """A `results.tsv` as read: the name of its metric and its rows, numbered from 0 in their order.

    `renamed` are verdicts in words of others: the word, what it counts as, and in how many rows it stands.
    """

    metric: str
    rows: tuple[Row, ...]
    renamed: tuple[tuple[str, Status, int], ...] = ()


def results_text(rows: Iterable[Row], *, metric: str) -> str:
    return _header(metric) + "".join(_line(row, metric) for row in rows)


def write_results(path: Path, rows: Iterable[Row], *, metric: str) -> None:
    """Write `results.tsv` in one step: a reader sees the old file or the new one, never a half.

    It is not forced to the disk: the journal is the truth and can write it again. Lines of others go into a
    file beside it.

    Raises:
        UserError: the file cannot be written.
    """
    text = results_text(rows, metric=metric)
    ours = {*map(_but_status, text.split("\n"))}  # a verdict may be taken back
    with suppress(UserError):  # what cannot be read cannot be kept
        _set_aside(path, [line for line in _lines(path) if _but_status(line) not in ours])
    _replace(path, text)


def append_result(path: Path, row: Row, *, metric: str) -> None:
    """Add one row to `results.tsv`, in one step as well; it comes after those with smaller numbers.

    The rows that are there stay as they are. A line that is none, or that is one too many, is of somebody
    else and goes into a file beside it.

    Raises:
        UserError: the file cannot be read or written.
    """
    header, added = _header(metric), _line(row, metric)
    rows: list[str] = []
    others: list[str] = []
    for line in _lines(path):
        if _ROW.fullmatch(line) and len(rows) < row.number:
            rows.append(line)
        elif f"{line}\n" not in (header, added):
            others.append(line)
    _set_aside(path, others)
    _replace(path, header + "".join(f"{line}\n" for line in rows) + added)


def read_results(path: Path, metric: str = "val_bpb") -> Results:
    """Read any `results.tsv`, also one that this project did not write; see `parse_results`.

    Raises:
        UserError: the file cannot be read, or a line of it.
    """
    return parse_results(_read(path), metric, name=str(path))


def parse_results(text: str, metric: str = "val_bpb", *, name: str = "results.tsv") -> Results:
    """Read the text of a `results.tsv`.

    Columns are found by the names in the header, in any order and among others; without a header they are
    the usual five. The value is in the column named `metric`, else in the one after `commit`. A value that is
    not finite is none at all. The numbers of crashed and skipped rows are not read. A verdict may be a word
    that other projects use for it.

    Raises:
        UserError: names the line and what is wrong with it.
    """
    numbered = enumerate(_LINE_END.split(text.removeprefix("\ufeff")), 1)
    lines = [(f"{name}: line {i}", line) for i, line in numbered if line.strip()]
    if not lines:
        return Results(metric, ())
    if zeros := [where for where, line in lines if "\0" in line]:
        raise UserError(f"{zeros[0]} is no text; a results.tsv is text in UTF-8")
    where, first = lines[0]
    if "\t" not in first:
        found = "commas" if first.count(",") >= 2 else "no tabs"
        raise UserError(f"{where} has {found}; put one tab between the columns: {', '.join(_COLUMNS)}")
    cells = _split(first)
    if len(cells) > 3 and cells[3].lower() in _MEANT:
        layout = _Layout(
            metric, width=max(len(cells), 5), commit=0, value=1, memory=2, status=3, description=4
        )
    else:
        layout = _read_header(cells, metric, where)
        del lines[0]
    rows: list[Row] = []
    renamed: Counter[tuple[str, Status]] = Counter()
    kept = False
    for at, line in lines:
        row, word = _read_row(len(rows), _split(line), layout, at, kept=kept)
        rows.append(row)
        kept = kept or row.status is Status.KEEP
        if word != row.status:
            renamed[word, row.status] += 1
    return Results(layout.metric, tuple(rows), tuple((*each, times) for each, times in renamed.items()))


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the columns of a file are; None for one that it does not have."""

    metric: str
    width: int
    value: int
    status: int
    commit: int | None
    memory: int | None
    description: int | None


def _read_header(cells: Sequence[str], metric: str, where: str) -> _Layout:
    names = [cell.lower() for cell in cells]
    at = {name: names.index(name) for name in {*names}}
    if "status" not in at:
        raise UserError(f"{where} is neither a header with a status nor a row of {', '.join(_COLUMNS)}")
    value = at.get(metric.lower(), at.get("commit", 0) + 1)
    if value >= len(names) or names[value] in ("", "commit", "memory_gb", "status", "description"):
        raise UserError(f"{where} is a header without a column named {metric}")
    return _Layout(
        metric=cells[value],
        width=len(cells),
        value=value,
        status=at["status"],
        commit=at.get("commit"),
        memory=at.get("memory_gb"),
        description=at.get("description"),
    )


def _read_row(
    number: int, cells: Sequence[str], layout: _Layout, where: str, *, kept: bool
) -> tuple[Row, str]:
    """Return a row and the word for its verdict; `kept` says whether there was a keep before it."""
    if len(cells) > layout.width:
        if layout.description != layout.width - 1:
            raise UserError(f"{where} has {len(cells)} columns, where the header has {layout.width}")
        # A tab within a description, the last column, is not a new column.
        cells = [*cells[: layout.description], " ".join(cells[layout.description :])]

    def cell(index: int | None) -> str:
        return cells[index] if index is not None and index < len(cells) else ""

    word = cell(layout.status).lower()
    status = _MEANT.get(word)
    if status is None:
        found = f"the status {one_line(word, 40)!r}" if word else "no status"
        raise UserError(f"{where} has {found}; it is one of {', '.join(Status)}")
    if word == "baseline" and kept:
        status = Status.DISCARD
    measured = status in _MEASURED
    value = cell(layout.value) if measured else ""
    if status is Status.DISCARD and value.lower() in _NO_NUMBER:
        value = ""
    elif measured and not value:
        raise UserError(f"{where} has no {layout.metric}, where a number belongs")
    memory = cell(layout.memory) if measured else ""
    row = Row(
        number=number,
        commit=one_line(cell(layout.commit)),
        value=_read_number(value, layout.metric, where) if value else None,
        memory_gb=(_read_number(memory, "memory_gb", where) or 0.0) if memory else 0.0,
        status=status,
        description=one_line(cell(layout.description)),
    )
    return row, word


def _read_number(cell: str, column: str, where: str) -> float | None:
    try:
        number = float(cell)
    except ValueError:
        raise UserError(f"{where} has {one_line(cell, 40)!r} for {column}, where a number belongs") from None
    return number if math.isfinite(number) else None


def _split(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("\t")]


def _header(metric: str) -> str:
    return "\t".join(("commit", metric, *_COLUMNS[2:])) + "\n"


def _line(row: Row, metric: str) -> str:
    if row.status in _MEASURED:
        # The practice writes six digits; of a metric that may be 1e-5 they would leave nothing.
        shown = DIGITS if metric == "val_bpb" else max(DIGITS, digits(row.value))
        value = "nan" if row.value is None else f"{row.value:z.{shown}f}"
        memory = f"{row.memory_gb:z.1f}"
    else:
        value, memory = "0.000000", "0.0"
    # Other readers of the file know no quarantine; its number is no best one until a person accepts it.
    status = Status.DISCARD if row.status is Status.QUARANTINE else row.status
    return "\t".join((one_line(row.commit), value, memory, status, one_line(row.description))) + "\n"


def _but_status(line: str) -> tuple[str, ...]:
    cells = line.split("\t")
    return (*cells[:3], *cells[4:])


def _read(path: Path, errors: str = "replace") -> str:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path} is no file: name a results.tsv")
        if found.st_size > _LARGEST:
            raise UserError(f"{path} has {found.st_size / 2**20:,.0f} MiB, and a results.tsv less than 64")
        return path.read_bytes().decode("utf-8", errors)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _lines(path: Path) -> list[str]:
    """Return the lines of a file that have anything in them, byte for byte.

    What is no plain file, but a link or a pipe that a training left there, is not read.
    """
    if not path.is_file() or path.is_symlink():
        return []
    text = _read(path, "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")
    return [line for line in text.split("\n") if line.strip()]


def _set_aside(path: Path, lines: Sequence[str]) -> None:
    """Keep lines of others, each once, where they spoil nothing."""
    aside = path.with_name(path.name + ASIDE)
    kept = _lines(aside) if lines else []
    all_ = [*dict.fromkeys([*kept, *lines])]
    if len(all_) > len(kept):
        log.warning("%s has lines that are not the bot's: they are in %s", path, aside.name)
        _replace(aside, "".join(f"{line}\n" for line in all_))


def _replace(path: Path, text: str) -> None:
    with writing(path):
        place(path.parent, path.name, text.encode("utf-8", "surrogateescape"), executable=False)
