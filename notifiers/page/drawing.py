"""The charts of the page as data for its template: the progress of a run, and slices of its constants."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loop.experiment import Goal
from loop.gain import signed
from loop.results.constants import Move, Try, Way
from notifiers.charts.scene import EXPERIMENT, Point, Scene, x_ticks, y_ticks
from notifiers.text.words import with_minus

_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 14, 48  # around the plot, in units of the drawing
_EDGE = 18  # above and below the values; crashes are marked there
_LETTER, _LINE, _BESIDE = 8, 14, 8  # of the number of a gain, in units of the drawing
_SLICE = (260, 150)
_SLICES = 6
_LOGARITHMIC = 5.0  # times the smallest, from which a range of values is drawn by factors


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
    `others` is a path of points, of the experiments that have no mark.
    `intervals` are of what was repeated: x, and y of mean, low and high. `labels` are the numbers of the
    largest gains and where they end. The ticks are where a label stands, and the label. At `bend` the scale
    changes. `axes` is, in JSON, what the script makes ticks of.
    """

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    marks: tuple[Mark, ...]
    labels: tuple[tuple[int, float, float], ...]
    best: str
    band: str
    intervals: tuple[tuple[float, float, float, float], ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    bend: float | None
    axes: str
    others: str = ""


def draw_chart(scene: Scene, width: int, height: int) -> Drawing:
    right, bottom = width - _RIGHT, height - _BOTTOM
    highest, lowest = _TOP + _EDGE, bottom - _EDGE
    crash_edge = _TOP + 6 if scene.goal is Goal.MINIMIZE else bottom - 6  # a crash is no good value
    scale = scene.scale
    least, most = scale.height(scene.low), scale.height(scene.high)

    def x(at: float) -> float:
        return round(_LEFT + (right - _LEFT) * (at / scene.last if scene.last else 0.5), 1)

    def y(value: float) -> float:
        share = (scale.height(value) - least) / (most - least)
        return round(lowest - (lowest - highest) * min(1.0, max(0.0, share)), 1)

    def discards(points: Sequence[Point]) -> Iterator[Mark]:
        for at, value in points:
            kind = "above" if value > scene.high else "below" if value < scene.low else "discard"
            yield Mark(int(at), kind, x(at), y(value))

    def marks(kind: str, points: Sequence[Point]) -> Iterator[Mark]:
        return (Mark(int(at), kind, x(at), y(value)) for at, value in points)

    crashes = (Mark(int(at), "crash", x(at), crash_edge) for at in scene.crashed)
    judged = (*marks("rejected", scene.rejected), *marks("quarantine", scene.quarantined))
    corners = [f"{x(at)} {y(value)}" for at, value in scene.best]
    upper = [f"{x(at)} {y(value + scene.noise)}" for at, value in scene.best]
    lower = [f"{x(at)} {y(value - scene.noise)}" for at, value in reversed(scene.best)]
    named = [(number, x(at), y(value)) for number, at, value in scene.named]
    # Two that lie together are one: of 100,000 no more are drawn than the eye tells apart.
    others = {
        (round(x(at)), round(y(value))) for at, value in scene.others if scene.low <= value <= scene.high
    }
    axes = {
        "last": scene.last,
        "whole": scene.axis == EXPERIMENT,
        "heights": [lowest, highest, least, most],
        "bend": [scale.bend, scale.factor, scale.above],
    }
    return Drawing(
        width=width,
        height=height,
        left=_LEFT,
        right=right,
        top=_TOP,
        bottom=bottom,
        marks=(*discards(scene.discarded), *crashes, *judged, *marks("keep", scene.kept)),
        labels=tuple(_labels(named, below=scene.goal is Goal.MINIMIZE)),
        best=f"M{'L'.join(corners)}" if corners else "",
        band=f"M{'L'.join(upper + lower)}Z" if corners and scene.noise else "",
        intervals=tuple((x(m.at), y(m.value), y(m.low), y(m.high)) for m in scene.repeated),
        x_ticks=tuple((x(at), text) for at, text in x_ticks(scene, width // 90)),
        y_ticks=tuple((y(at), text) for at, text in y_ticks(scene, height // 55)),
        bend=None if scale.factor == 1 else y(scale.bend),
        axes=json.dumps(axes),
        others="".join(f"M{at} {height}h0" for at, height in sorted(others)),
    )


def _labels(named: Sequence[tuple[int, float, float]], *, below: bool) -> Iterator[tuple[int, float, float]]:
    """Yield where the numbers of gains are written, left of their marks: the first, and all that fit."""
    taken: list[tuple[float, float]] = []
    for number, x, y in named:
        right, line = max(x - _BESIDE, _LEFT + 4 * _LETTER), y + (_LINE if below else -_BESIDE)
        if all(abs(right - other) > 5 * _LETTER or abs(line - at) > _LINE for other, at in taken):
            taken.append((right, line))
            yield number, right, line


@dataclass(frozen=True, slots=True)
class Slice:
    """How the metric changed with one constant: a point for each experiment that moved it.

    `kept` and `others` are paths of points, `zero` is the height of no change, `present` the place of the
    value that the best program has, None where it is outside. The labels are of the ends of both axes.
    """

    name: str
    width: int
    height: int
    kept: str
    others: str
    zero: float
    present: float | None
    x_labels: tuple[str, str]
    y_labels: tuple[str, str]


def draw_slices(moves: Sequence[Move], present: dict[str, object], like: float | None) -> list[Slice]:
    """Return a slice for each of the constants that matter most and have values in an order."""
    tries: dict[str, list[Try]] = {}
    for move in moves:
        if move.way is not Way.CHANGED:
            tries.setdefault(move.name, []).extend(move.tries)
    usable = [(name, found) for name, found in tries.items() if len({each.value for each in found}) > 1]
    return [_slice(name, found, present.get(name), like) for name, found in usable[:_SLICES]]


def _slice(name: str, tries: Sequence[Try], present: object, like: float | None) -> Slice:
    width, height = _SLICE
    left, right, top, bottom = 8, width - 8, 8, height - 8
    values = [each.value for each in tries]
    if isinstance(present, int | float) and not isinstance(present, bool):
        values.append(float(present))
    first, last = min(values), max(values)
    by_factor = first > 0 and last > _LOGARITHMIC * first
    low, high = min(0.0, *(each.change for each in tries)), max(0.0, *(each.change for each in tries))

    def x(value: float) -> float:
        if by_factor:
            share = math.log(value / first) / math.log(last / first)
        else:
            share = (value - first) / (last - first)
        return round(left + share * (right - left), 1)

    def y(change: float) -> float:
        return round(bottom - (change - low) / ((high - low) or 1.0) * (bottom - top), 1)

    def path(kept: bool) -> str:
        return "".join(f"M{x(t.value)} {y(t.change)}h0" for t in tries if t.kept is kept)

    return Slice(
        name=name,
        width=width,
        height=height,
        kept=path(True),
        others=path(False),
        zero=y(0.0),
        present=x(values[-1]) if len(values) > len(tries) else None,
        x_labels=(f"{first:g}", f"{last:g}"),
        y_labels=(with_minus(signed(low, like)), with_minus(signed(high, like))),
    )
