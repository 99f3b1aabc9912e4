"""The report of a run as one self-contained HTML page: it needs no network, and works as an attachment.

All that experiments say is untrusted: the template escapes it, the script only sets it as text, and a content
security policy lets no other script run. `bot` imports it; jinja2 is loaded when a page is made.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from functools import partial
from pathlib import Path

from loop.evaluation.certainty import Certainty
from loop.experiment import Status
from loop.gain import change, number, signed, step
from loop.logs.progress import Curve
from loop.results.constants import Move, flat
from loop.results.export import Provenance
from loop.results.gains import bests_before, reason_of
from loop.results.ledger import Ledger, Spent
from loop.results.report import Report
from loop.store.experiments import Row
from loop.text import one_line
from notifiers.charts.scene import make_scene
from notifiers.page.drawing import draw_chart, draw_slices
from notifiers.text.certainty import certainty_lines, effect_text
from notifiers.text.report import spent_text
from notifiers.text.words import duration, family_text, money, with_minus

_PARTS = Path(__file__).parent
_SIZES = {"wide": (1040, 420), "narrow": (390, 330)}  # on a phone the wide one would be too small to read
_TEXT_CHARACTERS = 3_000_000  # of all diffs and logs together, so that a long run fits into a mail
_DIFF_CHARACTERS, _LOG_CHARACTERS = 20_000, 3_000  # of one experiment, at most
_ALL_POINTS, _CURVE_POINTS = 20_000, 16  # of the curves of all experiments, and of one at least
_VALUE_CHARACTERS = 40  # of a constant
_LISTED = 2_000  # experiments that have a line and a view of their own, beside those that were kept
_MOVES = 16  # of constants, in the table of what mattered
_SHORTENED = "… shortened; the rest is in the repository"


@dataclass(frozen=True, slots=True)
class Detail:
    """What an experiment's own view shows beside its row; empty where it is unknown."""

    rationale: str = ""
    diff: str = ""
    log: str = ""
    curve: Curve = ()
    constants: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Content:
    """What a page is made of. `details` are by number; a bare `results.tsv` has none of the later ones.

    `moves` are what moving the constants did.
    """

    report: Report
    rows: Sequence[Row]
    details: Mapping[int, Detail]
    title: str
    ledger: Ledger | None = None
    provenance: Provenance | None = None
    certainty: Certainty | None = None
    moves: Sequence[Move] = ()


def listed(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the experiments that a page lists: what was kept or is in quarantine, and the newest ones.

    A browser takes seconds for 10,000 of them.
    """
    if len(rows) <= _LISTED:
        return rows
    always = (Status.KEEP, Status.QUARANTINE)
    return [*(row for row in rows[:-_LISTED] if row.status in always), *rows[-_LISTED:]]


def page(content: Content, *, made_at: datetime) -> str:
    """Return the page as HTML; times are shown in the zone of `made_at`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    report, rows, shown = content.report, content.rows, listed(content.rows)
    style, script = (_PARTS.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    scene_of = partial(make_scene, rows, metric=report.metric, goal=report.goal, title="", listed=shown)
    scene, timed = scene_of(), scene_of(by_time=True) if any(row.ended_at for row in rows) else None
    charts = {
        name: (draw_chart(scene, *size), timed and draw_chart(timed, *size))
        for name, size in _SIZES.items()
        if scene.has_points
    }
    constants = {number: flat(detail.constants) for number, detail in content.details.items()}
    base = _base([*constants.values()])
    gains = {gain.number: gain for gain in report.gains}
    templates = Environment(
        loader=FileSystemLoader(_PARTS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("page.html").render(
        title=one_line(content.title),  # the name of a folder may have bytes that are no text
        report=report,
        headline=scene.headline,
        moved=with_minus(scene.change),
        facts=_facts(content),
        certain=certainty_lines(content.certainty) if content.certainty else [],
        charts=charts,
        tooltips={row.number: _tooltip(row, report.like) for row in shown},
        left_out=_left_out(len(rows), len(shown)),
        rows=_with_changes(content, shown),
        lineage=[(row, gains.get(row.number)) for row in reversed(shown) if row.status is Status.KEEP],
        slices=_slices(content.ledger) if content.ledger else [],
        provenance=content.provenance,
        moves=_moves(content),
        graphs=draw_slices(content.moves, constants.get(report.best_number or 0, {}), report.like),
        data={
            "metric": report.metric,
            "base": base,
            "experiments": _details(content, shown, constants, base, made_at.tzinfo),
        },
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        made_at=f"{made_at:%Y-%m-%d %H:%M %Z}",
        number=lambda value: number(value, report.like),
        family_text=family_text,
        signed=lambda value: with_minus(signed(value, report.like)),
    )


def _tooltip(row: Row, like: float | None) -> str:
    value = row.status.value if row.value is None else f"{number(row.value, like)}, {row.status}"
    return f"#{row.number} · {value}\n{one_line(row.description, 120)}"


def _left_out(made: int, shown: int) -> str:
    """Say what the page lists where that is not all."""
    if made == shown:
        return ""
    return (
        f"{shown:,} of {made:,} experiments are listed: what was kept or is in quarantine, and the newest "
        f"{_LISTED:,}. Of the others, those discarded are points without a number and crashes are not drawn; "
        "all are in results.tsv."
    )


def _with_changes(content: Content, shown: Sequence[Row]) -> list[tuple[Row, str]]:
    """Return the rows with the change from the best before each, empty without a number."""
    changes = {
        row.number: with_minus(change(best, row.value))
        for row, best in zip(content.rows, bests_before(content.rows, content.report.goal), strict=True)
        if row.value is not None and best is not None
    }
    return [(row, changes.get(row.number, "")) for row in shown]


def _facts(content: Content) -> list[tuple[str, str]]:
    report, ledger = content.report, content.ledger
    facts = [(f"{report.made:,}", "experiment" if report.made == 1 else "experiments")]
    counts = {
        "improvement" if len(report.gains) == 1 else "improvements": len(report.gains),
        "crashed": report.crash,
        "in quarantine": report.quarantine,
        "skipped": report.skipped,
        "under way": report.under_way,
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


def _slices(ledger: Ledger) -> list[dict[str, object]]:
    slices: list[dict[str, object]] = []
    start = 0.0
    for cause in Spent:
        seconds = ledger.seconds[cause]
        share = seconds / ledger.total if ledger.total else 0.0
        if share:
            part = {
                "cause": cause.value,
                "label": spent_text(cause),
                "spent": duration(seconds / ledger.lanes),
            }
            slices.append({**part, "start": start, "share": share})
        start += share
    return slices


def _moves(content: Content) -> list[dict[str, object]]:
    """Return what moving each constant did, with its interval as a share of the width of all."""
    moves, like = content.moves[:_MOVES], content.report.like
    ends = [end for move in moves for end in _ends(move)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    sign = content.report.goal.sign

    def share(value: float) -> float:
        return round(100 * (value - low) / ((high - low) or 1.0), 1)

    return [
        {
            "name": move.name,
            "way": move.way.value,
            "tried": move.tried,
            "effect": with_minus(effect_text(move.effect, move.half, like)),
            "kind": "" if not move.is_certain else "better" if sign * move.effect < 0 else "worse",
            "places": [share(at) for at in (0.0, move.effect, *_ends(move))],
        }
        for move in moves
    ]


def _ends(move: Move) -> tuple[float, float]:
    half = move.half or 0.0
    return move.effect - half, move.effect + half


def _base(programs: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Return the constants of the first program that are not the same in all of them."""
    first = next(filter(None, programs), {})
    return {
        name: _written(value)
        for name, value in first.items()
        if any(constants.get(name, value) != value for constants in programs)
    }


def _written(value: object) -> str:
    return one_line(f"{value:g}" if isinstance(value, float) else str(value), _VALUE_CHARACTERS)


def _details(
    content: Content,
    rows: Sequence[Row],
    constants: Mapping[int, Mapping[str, object]],
    base: Mapping[str, str],
    zone: tzinfo | None,
) -> list[dict[str, object]]:
    each, like = _TEXT_CHARACTERS // max(1, len(rows)), content.report.like
    most = min(_DIFF_CHARACTERS, each)
    head: int | None = None
    shown = []
    for row in rows:
        detail, at = content.details.get(row.number, Detail()), row.started_at
        own = {name: _written(value) for name, value in constants.get(row.number, {}).items() if name in base}
        facts = {
            "proposed by": row.proposer,
            "family": family_text(row.family) if row.family else "",
            "hoped for": row.expected,
            "verdict": reason_of(row, content.report.goal),
            "started": f"{datetime.fromtimestamp(at, zone):%Y-%m-%d %H:%M}" if at else "",
            "trained": duration(row.training_seconds) if row.training_seconds else "",
            "memory": f"{row.memory_gb:.1f} GB" if row.memory_gb else "",
            "repeats": ", ".join("crash" if n is None else number(n, like) for n in row.repeats),
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
                "value": "" if row.value is None else number(row.value, like),
                "rationale": detail.rationale,
                "facts": [[name, text] for name, text in facts.items() if text],
                "diff": detail.diff if len(detail.diff) <= most else f"{detail.diff[:most]}\n{_SHORTENED}\n",
                "log": log if len(log) == len(detail.log) else f"…{log}",
                "curve": _curve(detail.curve, max(_CURVE_POINTS, _ALL_POINTS // len(rows))),
                "before": head,
                "constants": {name: value for name, value in own.items() if value != base[name]},
            }
        )
        if row.status is Status.KEEP:
            head = row.number
    return shown


def _curve(curve: Curve, most: int) -> list[list[float]]:
    thinned = [*curve[-1 :: -math.ceil(len(curve) / most)]][::-1] if curve else []
    return [[round(share, 1), float(f"{loss:.5g}")] for share, loss in thinned]


def _hash(text: str) -> str:
    """Return the source expression that lets exactly this inline element through."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
