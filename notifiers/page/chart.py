"""The progress chart as the shapes of an inline SVG, so that every experiment can be pointed at."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from notifiers.charts.scene import Point, Scene

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
        for number, value in points:
            beyond = -1 if value > scene.high else 1 if value < scene.low else 0
            yield Mark(int(number), kind, x(number), y(value), beyond, titles.get(int(number), ""))

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
