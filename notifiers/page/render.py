"""A run as one self-contained page: it needs no network, and works from a mail or a file share.

All that experiments say is untrusted. The template escapes it, the script only ever sets it as text, and a
content security policy lets no other script run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING

from loop.results.export import Provenance
from loop.results.gains import bests_before
from loop.results.ledger import Ledger, Spent
from loop.results.report import Gain, Report
from loop.store.experiments import Row
from loop.text import one_line
from notifiers.charts.scene import Point, Scene, headline_of, make_scene
from notifiers.text.words import change, duration, money, number

# Pixels around the plot, in the drawing's own units.
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 14, 48
_FLOOR = 18  # the height of the lane for crashes, above the lower edge
_STEPS = (1, 2, 5, 10)  # a tick's distance is one of these times a power of ten


@dataclass(frozen=True, slots=True)
class Mark:
    """One experiment: where it is drawn, what it is (`keep`, `discard`, `crash`), and its tooltip.

    `beyond` is -1 or 1 for a value above or below what is shown; it stands at that edge.
    """

    number: int
    kind: str
    x: float
    y: float
    beyond: int
    title: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the grid with its label."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart of `width` by `height` units; `best` is the path of the running best."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    marks: tuple[Mark, ...]
    best: str
    values: tuple[Tick, ...]
    numbers: tuple[Tick, ...]


def draw_chart(scene: Scene, titles: Mapping[int, str], *, width: int, height: int) -> Drawing:
    """Return the shapes of `scene`; `titles` are the tooltips by number."""
    right, floor = width - _RIGHT, height - _BOTTOM
    bottom = floor - _FLOOR

    def x(number: float) -> float:
        return round(_LEFT + (right - _LEFT) * (number / scene.last if scene.last else 0.5), 1)

    def y(value: float) -> float:
        share = (value - scene.low) / (scene.high - scene.low)
        return round(bottom - (bottom - _TOP) * min(1.0, max(0.0, share)), 1)

    def marks(points: tuple[Point, ...], kind: str) -> Iterator[Mark]:
        for at, value in points:
            beyond = -1 if value > scene.high else 1 if value < scene.low else 0
            yield Mark(int(at), kind, x(at), y(value), beyond, titles.get(int(at), ""))

    crashes = (
        Mark(number, "crash", x(number), floor - _FLOOR / 2, 0, titles.get(number, ""))
        for number in scene.crashed
    )
    corners = [f"{x(number)} {y(value)}" for number, value in scene.best]
    return Drawing(
        width=width,
        height=height,
        left=_LEFT,
        right=right,
        top=_TOP,
        bottom=floor,
        marks=(*marks(scene.discarded, "discard"), *crashes, *marks(scene.kept, "keep")),
        best=f"M{'L'.join(corners)}" if corners else "",
        values=tuple(
            Tick(y(value), label) for value, label in _ticks(scene.low, scene.high, most=height // 55)
        ),
        numbers=tuple(
            Tick(x(number), label) for number, label in _ticks(0, scene.last, most=width // 90, whole=True)
        ),
    )


def _ticks(low: float, high: float, *, most: int, whole: bool = False) -> list[tuple[float, str]]:
    """Return round numbers from `low` to `high`, at most `most` and one, each with its label."""
    span = high - low
    if span <= 0:
        return [(low, f"{low:g}")]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(step * power for step in _STEPS if span / (step * power) <= most)
    if whole:
        step = max(1.0, step)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    form = f"z,.{decimals}f" if 1e-7 < step < 1e7 else "g"
    return [(count * step, f"{count * step:{form}}") for count in range(first, last + 1)]


if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_PARTS = Path(__file__).parent
_TEXT_CHARACTERS = 3_000_000  # of all diffs and logs together, so that a long run fits into a mail
_DIFF_CHARACTERS, _LOG_CHARACTERS = 20_000, 3_000  # of one experiment, at most
_SHORTENED = "… shortened; the rest is in the repository"
_SPENT = {
    Spent.TRAINING: "training",
    Spent.OVERHEAD: "start-up and evaluation",
    Spent.PROPOSING: "proposing",
    Spent.CRASHED: "crashed work",
    Spent.INTERRUPTED: "interrupted work",
    Spent.WAITING: "on hold",
    Spent.BOT_DOWN: "bot down",
    Spent.MACHINE_DOWN: "machine down",
}


@dataclass(frozen=True, slots=True)
class Detail:
    """What an experiment's own view shows beside its row; empty where nobody knows."""

    rationale: str = ""
    diff: str = ""
    log: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """What a page is made of. `details` are by number; a bare `results.tsv` has none of the later ones."""

    report: Report
    rows: Sequence[Row]
    details: Mapping[int, Detail]
    title: str
    ledger: Ledger | None = None
    provenance: Provenance | None = None


@dataclass(frozen=True, slots=True)
class _Slice:
    """A part of the ledger's bar, in shares of its width."""

    cause: str
    label: str
    start: float
    share: float
    spent: str


def page(content: Content, *, made_at: datetime) -> str:
    """Return the page as HTML; times are shown in the zone of `made_at`."""
    report, rows = content.report, content.rows
    style, script = (_PARTS.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    scene = make_scene(rows, metric=report.metric, goal=report.goal, title=content.title)
    titles = {row.number: _tooltip(row) for row in rows}
    headline, moved = headline_of(report)
    template = _environment().get_template("page.html")
    return template.render(
        title=content.title,
        report=report,
        headline=headline,
        moved=moved.replace("-", "−"),
        facts=_facts(content),
        charts=_charts(scene, titles) if scene.kept or scene.discarded or scene.crashed else (),
        rows=list(zip(rows, _changes(content), strict=True)),
        families=report.families,
        proposers=sorted({row.proposer for row in rows if row.proposer}),
        lineage=_lineage(report, rows),
        slices=_slices(content.ledger) if content.ledger else (),
        provenance=content.provenance,
        data=_embedded(_details(content, made_at.tzinfo)),
        style=_trusted(style),
        script=_trusted(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        made_at=f"{made_at:%Y-%m-%d %H:%M %Z}",
        number=number,
        signed=lambda value: f"{value:+z.6f}".replace("-", "−"),
    )


def _charts(scene: object, titles: Mapping[int, str]) -> tuple[tuple[str, Drawing], ...]:
    """One for a wide screen and one for a phone, where the same drawing would be too small to read."""
    from notifiers.charts.scene import Scene

    assert isinstance(scene, Scene)
    return (
        ("wide", draw_chart(scene, titles, width=1040, height=420)),
        ("narrow", draw_chart(scene, titles, width=390, height=330)),
    )


def _tooltip(row: Row) -> str:
    value = row.status.value if row.value is None else f"{number(row.value)}, {row.status}"
    return f"#{row.number} · {value}\n{one_line(row.description, 120)}"


def _changes(content: Content) -> list[str]:
    before = bests_before(content.rows, content.report.goal)
    return [
        "" if row.value is None or best is None else change(best, row.value).replace("-", "−")
        for row, best in zip(content.rows, before, strict=True)
    ]


def _facts(content: Content) -> list[tuple[str, str]]:
    """Return what stands in the tiles: a figure and what it is."""
    report, ledger = content.report, content.ledger
    facts = [(f"{report.experiments:,}", "experiment" if report.experiments == 1 else "experiments")]
    counts = ((report.keep, "kept"), (report.discard, "discarded"), (report.crash, "crashed"))
    facts += [(f"{count:,}", word) for count, word in (*counts, (report.skipped, "skipped")) if count]
    if report.hours:
        facts.append((duration(report.hours * 3600), "from first to last"))
    if ledger and ledger.busy_share is not None:
        facts.append((f"{100 * ledger.busy_share:.0f} %", "of the time spent training"))
    if report.dollars:
        facts.append((money(report.dollars), "for models"))
    if report.dollars_per_thousandth:
        facts.append((money(report.dollars_per_thousandth), f"per 0.001 {report.metric}"))
    return facts


def _lineage(report: Report, rows: Sequence[Row]) -> list[tuple[Row, Gain | None]]:
    """Return the kept rows, the newest first, each with what it gained."""
    gains = {gain.number: gain for gain in report.gains}
    kept = [row for row in rows if row.status == "keep"]
    return [(row, gains.get(row.number)) for row in reversed(kept)]


def _slices(ledger: Ledger) -> list[_Slice]:
    slices, start = [], 0.0
    for cause, label in _SPENT.items():
        share = ledger.seconds[cause] / ledger.total if ledger.total else 0.0
        if share:
            slices.append(_Slice(cause.value, label, start, share, duration(ledger.seconds[cause])))
        start += share
    return slices


def _details(content: Content, zone: tzinfo | None) -> list[dict[str, object]]:
    each = _TEXT_CHARACTERS // max(1, len(content.rows))
    shown = []
    for row in content.rows:
        detail = content.details.get(row.number, Detail())
        facts = {
            "proposed by": row.proposer,
            "family": row.family or "",
            "hoped for": row.expected,
            "verdict": row.reason,
            "started": f"{datetime.fromtimestamp(row.started_at, zone):%Y-%m-%d %H:%M}"
            if row.started_at
            else "",
            "trained": duration(row.training_seconds) if row.training_seconds else "",
            "memory": f"{row.memory_gb:.1f} GB" if row.memory_gb else "",
            "lines": f"+{row.lines_added} −{row.lines_removed}" if row.lines_added is not None else "",
            "cost": money(row.cost.dollars) if row.cost and row.cost.dollars else "",
            "commit": row.commit,
        }
        log = detail.log[-min(_LOG_CHARACTERS, each) :]
        shown.append(
            {
                "number": row.number,
                "title": row.description,
                "status": row.status.value,
                "value": "" if row.value is None else number(row.value),
                "rationale": detail.rationale,
                "facts": [[name, text] for name, text in facts.items() if text],
                "diff": _shortened(detail.diff, min(_DIFF_CHARACTERS, each)),
                "log": log if len(log) == len(detail.log) else f"…{log}",
            }
        )
    return shown


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}\n{_SHORTENED}\n"


def _embedded(value: object) -> Markup:
    """Return JSON that cannot end the element it stands in, nor begin another."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return _trusted(text)


def _trusted(text: str) -> Markup:
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 - ours, or escaped above


def _hash(text: str) -> str:
    """Return the source expression that lets exactly this inline element through."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_PARTS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
