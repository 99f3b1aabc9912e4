"""What the progress chart of a run shows, as data: for the picture, the page, a line of blocks, and words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low

from loop.evaluation.certification import mean_of
from loop.evaluation.noise import BEYOND, noise_of
from loop.evidence import Invalidated
from loop.experiment import Goal, Status
from loop.gain import number, signed, step
from loop.results.gains import bests_before
from loop.results.report import Gain, make_report
from loop.store.experiments import Row
from loop.text import one_line
from notifiers.text.report import GAINS, headline_of, visible_gains

EXPERIMENT = "experiment"  # the axis of experiments by their numbers
_BLOCKS = "▁▂▃▄▅▆▇█"
_HUGE = 1e100  # a larger value is drawn as this one, so that differences stay finite
_FEW = 4  # others say too little about what is usual
_FINEST = 0.004  # steps, the least height of the value axis: what is finer is not told

_ALT_LINE = 60  # characters

_ROOM = 0.7  # of the height, for the plateau
_FLAT = 0.3  # of the height: a plateau that has less of it gets `_ROOM`
_ON_PLATEAU = 0.9  # of the values

Point = tuple[float, float]
"""Where an experiment stands on the axis, by its number or its time, and its value."""

Tick = tuple[float, str]  # where a label of an axis stands, and the label


class ChartError(Exception):
    """Why there is no chart, as one sentence for people."""


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of what a kept experiment came to when it was trained again, and its 95 % interval.

    `at` is where the experiment stands on the axis.
    """

    at: float
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to heights: even, but for what lies beyond `bend`, which is smaller by `factor`.

    Beyond is above it where lower is better, else below. Without a bend, all is even.
    """

    bend: float = 0.0
    factor: float = 1.0
    above: bool = True

    def height(self, value: float) -> float:
        return self._moved(value, self.factor)

    def value(self, height: float) -> float:
        return self._moved(height, 1 / self.factor)

    def _moved(self, at: float, factor: float) -> float:
        beyond = at > self.bend if self.above else at < self.bend
        return self.bend + factor * (at - self.bend) if beyond else at


@dataclass(frozen=True, slots=True)
class Scene:
    """A chart as data: the experiments by what became of them, the skipped ones left out.

    `best` is the corners of the running best, from the first kept experiment to the `last` of all. Values
    outside of `low` and `high` are outliers. Nothing `quarantined` or `rejected`, by a person or by the
    evaluation, is the best. `others` were discarded too, but have no mark of their own. Two trainings of one
    program differ by `noise` at times; 0 where it is unknown. `change` is how far the best has come from the
    baseline, signed, empty where it has not. `named` has the number and the place of each of the `gains`.
    `axis` says what the experiments are placed by.
    """

    title: str
    metric: str
    goal: Goal
    headline: str
    change: str
    kept: tuple[Point, ...]
    discarded: tuple[Point, ...]
    crashed: tuple[float, ...]
    best: tuple[Point, ...]
    quarantined: tuple[Point, ...]
    rejected: tuple[Point, ...]
    repeated: tuple[Mean, ...]
    noise: float
    gains: tuple[Gain, ...]
    named: tuple[tuple[int, float, float], ...]
    axis: str
    last: float
    low: float
    high: float
    scale: Scale
    others: tuple[Point, ...] = ()

    @property
    def has_values(self) -> bool:
        return bool(self.kept or self.discarded or self.quarantined or self.rejected)

    @property
    def has_points(self) -> bool:
        return self.has_values or bool(self.crashed)


def alt_text(scene: Scene) -> str:
    """Return what the chart shows in a few hundred characters, for people who cannot see it."""
    counts = {
        "kept": scene.kept,
        "discarded": scene.discarded + scene.rejected,
        "crashed": scene.crashed,
        "in quarantine": scene.quarantined,
    }
    like = scene.kept[0][1] if scene.kept else None
    moved = f" ({scene.change})" if scene.change else ""
    gains = [
        one_line(f"#{gain.number} {signed(-scene.goal.sign * gain.gain, like)} {gain.description}", _ALT_LINE)
        for gain in scene.gains[:GAINS]
    ]
    parts = (
        f"Progress of {one_line(scene.title, _ALT_LINE)}",
        f"{one_line(scene.metric, _ALT_LINE)}: {scene.headline}{moved}",
        ", ".join(f"{len(points):,} {word}" for word, points in counts.items() if points),
        f"Largest gains: {'; '.join(gains)}" if gains else "",
        f"Noise ± {number(scene.noise, like)}" if scene.noise else "",
    )
    return ". ".join(filter(None, parts)) + "."


def make_scene(
    rows: Sequence[Row],
    *,
    metric: str,
    goal: Goal,
    title: str,
    listed: Sequence[Row] | None = None,
    by_time: bool = False,
) -> Scene:
    """Return what the chart of `rows`, which stand in the order of their numbers, shows.

    With `listed`, those of them that have marks of their own, the kept ones among them.

    Raises:
        ChartError: it is to go by time, and no end is known.
    """
    places = _hours(rows) if by_time else {row.number: float(row.number) for row in rows}
    marked = rows if listed is None else listed
    numbers = {row.number for row in marked}

    def points(status: Status, among: Iterable[Row]) -> tuple[Point, ...]:
        return tuple(
            (places[row.number], _bounded(row.value))
            for row in among
            if row.status is status and row.value is not None
        )

    report = make_report(rows, metric=metric, goal=goal)
    headline, moved = headline_of(report)
    keeps = [row for row in rows if row.status is Status.KEEP and row.value is not None]
    kept = points(Status.KEEP, keeps)
    of_keep = {row.number: point for row, point in zip(keeps, kept, strict=True)}
    last = max(places.values(), default=0.0)
    repeated = _repeated(rows, places)
    gains = visible_gains(report)
    low, high = _limits(rows, goal)
    low = min([low, *(mean.value for mean in repeated)])
    high = max([high, *(mean.value for mean in repeated)])
    return Scene(
        title=title,
        metric=metric,
        goal=goal,
        headline=headline,
        change=moved,
        kept=kept,
        discarded=points(Status.DISCARD, (row for row in marked if not _is_rejected(row))),
        crashed=tuple(places[row.number] for row in marked if row.status is Status.CRASH),
        best=_running_best(kept, goal, last),
        quarantined=points(Status.QUARANTINE, marked),
        rejected=points(Status.DISCARD, filter(_is_rejected, marked)),
        repeated=repeated,
        noise=_noise(rows),
        gains=gains,
        named=tuple((gain.number, *of_keep[gain.number]) for gain in gains),
        axis="hours since the start" if by_time else EXPERIMENT,
        last=last,
        low=low,
        high=high,
        scale=_scale(rows, goal, low, high),
        others=points(Status.DISCARD, (row for row in rows if row.number not in numbers)),
    )


def _hours(rows: Sequence[Row]) -> dict[int, float]:
    """Return when each experiment ended, in hours since the first began; 0 where that is unknown."""
    if not any(row.ended_at for row in rows):
        raise ChartError("The chart cannot be drawn by time: these results have none.")
    start = min(at for row in rows if (at := row.started_at or row.ended_at))
    return {row.number: max(0.0, (row.ended_at or start) - start) / 3600 for row in rows}


def x_ticks(scene: Scene, most: int) -> list[Tick]:
    return _ticks(0, scene.last, most=most, finest=1.0 if scene.axis == EXPERIMENT else 0.0)


def y_ticks(scene: Scene, most: int) -> list[Tick]:
    """Return about `most` ticks of the value axis, of which a bent part has two; none without a value."""
    scale = scene.scale
    if not scene.has_values:
        return []
    if scale.factor == 1:
        return _ticks(scene.low, scene.high, most=most)
    near, far = (scene.low, scene.high) if scale.above else (scene.high, scene.low)
    fine = _ticks(*sorted((near, scale.bend)), most=max(2, most * 2 // 3))
    beyond = _ticks(*sorted((scale.bend, far)), most=2)
    apart = (scale.height(scene.high) - scale.height(scene.low)) / (2 * most)
    return [*fine, *(tick for tick in beyond if abs(scale.height(tick[0]) - scale.bend) > apart)]


def _ticks(low: float, high: float, *, most: int, finest: float = 0.0) -> list[Tick]:
    if low == high:
        return [(low, f"{low:g}")]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(step * power for step in (1, 2, 5, 10) if high - low <= step * power * most)
    step = max(finest, step)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    form = f"z,.{decimals}f" if 1e-7 < step < 1e7 else "g"
    counts = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [(count * step, f"{count * step:{form}}") for count in counts]


def _scale(rows: Sequence[Row], goal: Goal, low: float, high: float) -> Scale:
    """Give a plateau its room: where most values lie in a small part of the height, the rest is bent."""
    sign = goal.sign
    best, worst = sorted((sign * low, sign * high))
    shown = sorted(
        sign * _bounded(row.value) for row in rows if row.value is not None and low <= row.value <= high
    )
    if len(shown) <= _FEW:
        return Scale()
    usual = shown[int(_ON_PLATEAU * (len(shown) - 1))]
    bend = usual + (usual - best) / 10
    if not 0 < bend - best < _FLAT * (worst - best):
        return Scale()
    factor = (bend - best) / (worst - bend) * (1 - _ROOM) / _ROOM
    return Scale(sign * bend, factor, sign > 0) if factor > 1e-9 else Scale()


def sparkline(rows: Sequence[Row], *, metric: str, goal: Goal, width: int) -> str:
    """Return how the best moved as a line of at most `width` blocks; empty where it did not."""
    scene = make_scene(rows, metric=metric, goal=goal, title="")
    heights = [(at, scene.scale.height(value)) for at, value in scene.best]
    low, high = min((h for _, h in heights), default=0.0), max((h for _, h in heights), default=0.0)
    if low == high:
        return ""
    columns = min(width, round(scene.last - heights[0][0]) + 1)
    line = ""
    for column in range(columns):
        at = heights[0][0] + (scene.last - heights[0][0]) * column / (columns - 1)
        best = [height for place, height in heights if place <= at + 1e-9][-1]
        line += _BLOCKS[round((len(_BLOCKS) - 1) * (best - low) / (high - low))]
    return line


def _is_rejected(row: Row) -> bool:
    return row.invalidated in (Invalidated.REJECTED, Invalidated.NOT_BELIEVED)


def _repeated(rows: Sequence[Row], places: Mapping[int, float]) -> tuple[Mean, ...]:
    means = []
    for row in rows:
        values = [_bounded(value) for value in row.repeats if value is not None]
        if row.status is Status.KEEP and len(values) > 1:
            value, low, high = map(_bounded, mean_of(values))
            means.append(Mean(places[row.number], value, low, high))
    return tuple(means)


def _noise(rows: Sequence[Row]) -> float:
    believed = [(row.value, *row.repeats) for row in rows if row.is_believed]
    noise = noise_of([value for value in values if value is not None] for values in believed)
    return min(_HUGE, BEYOND * noise.sigma) if noise else 0.0


def _running_best(kept: Sequence[Point], goal: Goal, last: float) -> tuple[Point, ...]:
    better = min if goal is Goal.MINIMIZE else max
    corners: list[Point] = [*kept[:1]]
    for at, value in kept:
        before = corners[-1][1]
        best = better(before, value)
        if best != before:
            corners += [(at, before), (at, best)]
    return (*corners, (last, corners[-1][1])) if corners else ()


def _limits(rows: Sequence[Row], goal: Goal) -> tuple[float, float]:
    """Return the range of values to show: every kept one, and the others as far as they are not outliers.

    An outlier is further from the best of its time than eight times what a good quarter of the others is, or
    so far that the kept ones would be left with less than a third of the height.
    """
    values = [_bounded(row.value) for row in rows if row.value is not None]
    if not values:
        return 0.0, 1.0
    kept = [_bounded(row.value) for row in rows if row.status is Status.KEEP and row.value is not None]
    kept = kept or [median_low(values)]
    distances = sorted(
        abs(_bounded(row.value) - _bounded(kept[0] if before is None else before))
        for row, before in zip(rows, bests_before(rows, goal), strict=True)
        if row.value is not None and row.status is not Status.KEEP
    )
    usual = distances[(len(distances) - 1) // 4] if distances else 0.0
    low, high = min(kept), max(kept)
    span = high - low
    if span and len(distances) < _FEW:
        usual = min(usual, span)
    reach = max(span / 2, 1.5 * usual, min(8 * usual, 2 * span or math.inf))
    shown = [value for value in values if low - reach <= value <= high + reach]
    low, high = min(shown), max(shown)
    if low == high:
        margin = abs(high) / 100 or 0.5
    else:
        margin = max(0.0, max(_FINEST * step(kept[0]), 1e-9 * abs(high)) - (high - low)) / 2
    return low - margin, high + margin


def _bounded(value: float) -> float:
    return max(-_HUGE, min(_HUGE, value))
