"""The report of a run as one self-contained HTML page: it needs no network, and works as an attachment.

All that experiments say is untrusted: the template escapes it, the script only sets it as text, and a content
security policy lets no other script run. `bot` imports it; jinja2 is loaded when a page is made.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from loop.experiment import Goal
from loop.gain import change, number, signed, step
from loop.results.certainty import Certainty
from loop.results.export import Provenance
from loop.results.gains import bests_before, reason_of
from loop.results.ledger import Ledger, Spent
from loop.results.report import Report
from loop.store.experiments import Row
from loop.text import one_line
from notifiers.charts import Point, Scene, headline_of, make_scene
from notifiers.text.certainty import certified_line, doubtful_lines
from notifiers.text.words import duration, money

if TYPE_CHECKING:
    from jinja2 import Template

_PARTS = Path(__file__).parent
_SIZES = {"wide": (1040, 420), "narrow": (390, 330)}  # on a phone the wide one would be too small to read
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 14, 48  # around the plot, in units of the drawing
_EDGE = 18  # above and below the values; crashes are marked there
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
    """What an experiment's own view shows beside its row; empty where it is unknown."""

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
    certainty: Certainty | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """One experiment in the chart. Its kind is a status, or above or below the scale."""

    number: int
    kind: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart of `width` by `height` units; the plot is between the four edges.

    `best` is the path of the running best, `band` that of the noise around it, empty where that is unknown.
    `intervals` are of what was repeated: x, and y of mean, low and high. The ticks are where a label stands,
    and the label.
    """

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    marks: tuple[Mark, ...]
    best: str
    band: str
    intervals: tuple[tuple[float, float, float, float], ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


def page(content: Content, *, made_at: datetime) -> str:
    """Return the page as HTML; times are shown in the zone of `made_at`."""
    report, rows = content.report, content.rows
    style, script = (_PARTS.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    scene = make_scene(rows, metric=report.metric, goal=report.goal, title=content.title)
    headline, moved = headline_of(report)
    charts = {}
    if scene.has_points:
        charts = {name: draw_chart(scene, *size) for name, size in _SIZES.items()}
    gains = {gain.number: gain for gain in report.gains}
    return _template().render(
        title=content.title,
        report=report,
        headline=headline,
        moved=moved.replace("-", "−"),
        facts=_facts(content),
        certain=_certain(content.certainty),
        charts=charts,
        tooltips={row.number: _tooltip(row) for row in rows},
        rows=list(zip(rows, _changes(content), strict=True)),
        lineage=[(row, gains.get(row.number)) for row in reversed(rows) if row.status == "keep"],
        slices=_slices(content.ledger) if content.ledger else [],
        provenance=content.provenance,
        details=_details(content, made_at.tzinfo),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        made_at=f"{made_at:%Y-%m-%d %H:%M %Z}",
        number=lambda value: number(value, report.like),
        signed=lambda value: signed(value, report.like).replace("-", "−"),
    )


@cache  # to compile it takes nine times as long as to fill it in
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(_PARTS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("page.html")


def draw_chart(scene: Scene, width: int, height: int) -> Drawing:
    right, bottom = width - _RIGHT, height - _BOTTOM
    highest, lowest = _TOP + _EDGE, bottom - _EDGE
    crash_edge = _TOP + 6 if scene.goal is Goal.MINIMIZE else bottom - 6  # a crash is no good value

    def x(at: float) -> float:
        return round(_LEFT + (right - _LEFT) * (at / scene.last if scene.last else 0.5), 1)

    def y(value: float) -> float:
        share = (value - scene.low) / (scene.high - scene.low)
        return round(lowest - (lowest - highest) * min(1.0, max(0.0, share)), 1)

    def discards(points: Sequence[Point]) -> Iterator[Mark]:
        for at, value in points:
            kind = "above" if value > scene.high else "below" if value < scene.low else "discard"
            yield Mark(int(at), kind, x(at), y(value))

    crashes = (Mark(at, "crash", x(at), crash_edge) for at in scene.crashed)
    keeps = (Mark(int(at), "keep", x(at), y(value)) for at, value in scene.kept)
    doubted = (Mark(int(at), "quarantine", x(at), y(value)) for at, value in scene.quarantined)
    rejected = (Mark(int(at), "rejected", x(at), y(value)) for at, value in scene.rejected)
    corners = [f"{x(at)} {y(value)}" for at, value in scene.best]
    upper = [f"{x(at)} {y(value + scene.noise)}" for at, value in scene.best]
    lower = [f"{x(at)} {y(value - scene.noise)}" for at, value in reversed(scene.best)]
    return Drawing(
        width=width,
        height=height,
        left=_LEFT,
        right=right,
        top=_TOP,
        bottom=bottom,
        marks=(*discards(scene.discarded), *crashes, *rejected, *doubted, *keeps),
        best=f"M{'L'.join(corners)}" if corners else "",
        band=f"M{'L'.join(upper + lower)}Z" if corners and scene.noise else "",
        intervals=tuple((x(m.number), y(m.value), y(m.low), y(m.high)) for m in scene.repeated),
        x_ticks=tuple((x(at), text) for at, text in _ticks(0, scene.last, most=width // 90, finest=1)),
        y_ticks=tuple((y(at), text) for at, text in _ticks(scene.low, scene.high, most=height // 55)),
    )


def _ticks(low: float, high: float, *, most: int, finest: float = 0.0) -> list[tuple[float, str]]:
    if low == high:
        return [(low, f"{low:g}")]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(step * power for step in (1, 2, 5, 10) if high - low <= step * power * most)
    step = max(finest, step)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    form = f"z,.{decimals}f" if 1e-7 < step < 1e7 else "g"
    counts = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [(count * step, f"{count * step:{form}}") for count in counts]


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
    report, ledger = content.report, content.ledger
    facts = [(f"{report.experiments:,}", "experiment" if report.experiments == 1 else "experiments")]
    counts = {
        "kept": report.keep,
        "discarded": report.discard,
        "crashed": report.crash,
        "in quarantine": report.quarantine,
        "skipped": report.skipped,
    }
    facts += [(f"{count:,}", word) for word, count in counts.items() if count]
    if report.hours:
        facts.append((duration(report.hours * 3600), "from first to last"))
    if ledger and ledger.busy_share is not None:
        facts.append((f"{100 * ledger.busy_share:.0f} %", "of the time spent training"))
    if report.dollars:
        facts.append((money(report.dollars), "for models"))
    if report.dollars_per_thousandth:
        facts.append((money(report.dollars_per_thousandth), f"per {step(report.like):g} {report.metric}"))
    return facts


def _certain(certainty: Certainty | None) -> list[str]:
    if certainty is None:
        return []
    return [line for line in (certified_line(certainty), *doubtful_lines(certainty)) if line]


def _slices(ledger: Ledger) -> list[dict[str, object]]:
    slices: list[dict[str, object]] = []
    start = 0.0
    for cause, label in _SPENT.items():
        seconds = ledger.seconds[cause]
        share = seconds / ledger.total if ledger.total else 0.0
        if share:
            part = {"cause": cause.value, "label": label, "spent": duration(seconds)}
            slices.append({**part, "start": start, "share": share})
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
            "verdict": reason_of(row, content.report.goal),
            "started": f"{datetime.fromtimestamp(row.started_at, zone):%Y-%m-%d %H:%M}"
            if row.started_at
            else "",
            "trained": duration(row.training_seconds) if row.training_seconds else "",
            "memory": f"{row.memory_gb:.1f} GB" if row.memory_gb else "",
            "repeats": ", ".join("crash" if n is None else number(n, row.value) for n in row.repeats),
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


def _hash(text: str) -> str:
    """Return the source expression that lets exactly this inline element through."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
