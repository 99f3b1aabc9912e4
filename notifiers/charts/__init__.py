"""The progress chart of a run: what it shows, as data, and the PNG of it.

`bot` and the page import this; `drawing.py` is imported only in a process of its own, for matplotlib.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median_low

from loop.evaluation.certification import mean_of
from loop.evaluation.noise import BEYOND, noise_of
from loop.evidence import Invalidated
from loop.experiment import Goal, Run, Status
from loop.gain import change, is_visible, number, signed, step
from loop.process.worker import WorkerError, in_thread, run_worker
from loop.results.gains import bests_before
from loop.results.report import Gain, Report, make_report
from loop.store.experiments import Row
from loop.text import one_line
from notifiers.charts.warm_worker import WarmWorker
from notifiers.message import Attachment

GAINS = 5
"""How many of the largest gains are listed with their descriptions."""

EXPERIMENT = "experiment"
"""The axis of experiments by their numbers."""

_BLOCKS = "▁▂▃▄▅▆▇█"
_HUGE = 1e100  # a larger value is drawn as this one, so that differences stay finite
_FEW = 4  # others say too little about what is usual
_FINEST = 0.004  # steps, the least height of the value axis: what is finer is not told

_DRAW, _NAME = "notifiers.charts.drawing:draw", "its worker"
_SETTINGS = {"MATPLOTLIBRC": os.devnull}  # a person's own style is for their own figures
_ALT_LINE = 60

_ROOM = 0.7  # of the height, for the plateau
_FLAT = 0.3  # of the height: a plateau that has less of it gets `_ROOM`
_ON_PLATEAU = 0.9  # of the values

Point = tuple[float, float]
"""Where an experiment stands on the axis, by its number or its time, and its value."""

Tick = tuple[float, str]
"""Where a label of an axis stands, and the label."""


class ChartError(Exception):
    """Why there is no chart, as one sentence for people."""


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of what a kept experiment came to when it was trained again, and its 95 % interval."""

    number: int
    value: float
    low: float
    high: float
    at: float = 0.0


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
    def has_points(self) -> bool:
        return bool(self.kept or self.discarded or self.quarantined or self.rejected or self.crashed)


def warm_drawing() -> WarmWorker:
    """Return what draws the next chart without the second that matplotlib takes to start."""
    return WarmWorker(_DRAW, name=_NAME, python=sys.executable, settings=_SETTINGS)


async def chart(
    rows: Sequence[Row],
    *,
    metric: str,
    goal: Goal,
    title: str,
    by_time: bool = False,
    python: str = sys.executable,
    limit: float = 60.0,
    drawing: WarmWorker | None = None,
) -> bytes:
    """Return the chart of `rows`, ordered by number, as a PNG, within `limit` seconds.

    It is drawn by `drawing`, where that is given, else by a new process of `python`.

    Raises:
        ChartError: it cannot be drawn.
    """
    if by_time and not any(row.ended_at for row in rows):
        raise ChartError("The chart cannot be drawn by time: these results have none.")
    scene = await in_thread(make_scene, rows, metric=metric, goal=goal, title=title, by_time=by_time)
    try:
        if drawing is not None:
            return await drawing.call(scene, returns=bytes, limit=limit)
        return await run_worker(
            _DRAW, scene, returns=bytes, name=_NAME, python=python, limit=limit, settings=_SETTINGS
        )
    except WorkerError as error:
        raise ChartError(f"The chart cannot be drawn: {error}") from None


async def chart_of(run: Run, rows: Sequence[Row], *, drawing: WarmWorker | None = None) -> Attachment:
    picture = await chart(rows, metric=run.metric, goal=run.goal, title=run.tag, drawing=drawing)
    alt = await in_thread(alt_text, rows, metric=run.metric, goal=run.goal, title=run.tag)
    return Attachment(f"{run.tag}.png", picture, alt)


def alt_text(rows: Sequence[Row], *, metric: str, goal: Goal, title: str) -> str:
    """Return what the chart shows in a few hundred characters, for people who cannot see it."""
    report = make_report(rows, metric=metric, goal=goal)
    headline, moved = headline_of(report)
    counts = {
        "kept": report.keep,
        "discarded": report.discard,
        "crashed": report.crash,
        "in quarantine": report.quarantine,
    }
    noise = _noise(rows)
    parts = [
        f"Progress of {one_line(title, _ALT_LINE)}",
        f"{one_line(metric, _ALT_LINE)}: {headline}{f' ({moved})' if moved else ''}",
        ", ".join(f"{count:,} {word}" for word, count in counts.items() if count),
    ]
    sign = -1 if goal is Goal.MINIMIZE else 1
    gains = [
        one_line(f"#{gain.number} {signed(sign * gain.gain, report.like)} {gain.description}", _ALT_LINE)
        for gain in visible_gains(report)[:GAINS]
    ]
    if gains:
        parts.append(f"Largest gains: {'; '.join(gains)}")
    if noise:
        parts.append(f"Noise ± {number(noise, report.like)}")
    return ". ".join(filter(None, parts)) + "."


def make_scene(
    rows: Sequence[Row],
    *,
    metric: str,
    goal: Goal,
    title: str,
    by_time: bool = False,
    listed: Sequence[Row] | None = None,
) -> Scene:
    """Return what the chart of `rows`, which stand in the order of their numbers, shows.

    With `listed`, those of them that have marks of their own, the kept ones among them.
    """
    marked = rows if listed is None else listed
    report = make_report(rows, metric=metric, goal=goal)
    headline, moved = headline_of(report)
    kept = _points(rows, Status.KEEP)
    last = float(max((row.number for row in rows), default=0))
    repeated = _repeated(rows)
    gains = visible_gains(report)
    values = dict(kept)
    low, high = _limits(rows, goal)
    low = min([low, *(mean.value for mean in repeated)])
    high = max([high, *(mean.value for mean in repeated)])
    scene = Scene(
        title=title,
        metric=metric,
        goal=goal,
        headline=headline,
        change=moved,
        kept=kept,
        discarded=_points([row for row in marked if not _is_rejected(row)], Status.DISCARD),
        crashed=tuple(float(row.number) for row in marked if row.status is Status.CRASH),
        best=_running_best(kept, goal, last),
        quarantined=_points(marked, Status.QUARANTINE),
        rejected=_points([row for row in marked if _is_rejected(row)], Status.DISCARD),
        repeated=repeated,
        noise=_noise(rows),
        gains=gains,
        named=tuple((gain.number, float(gain.number), values[gain.number]) for gain in gains),
        axis=EXPERIMENT,
        last=last,
        low=low,
        high=high,
        scale=_scale(rows, goal, low, high),
        others=_points(_but(rows, marked), Status.DISCARD),
    )
    return timed(scene, rows) if by_time else scene


def timed(scene: Scene, rows: Sequence[Row]) -> Scene:
    """Return the scene of `rows` with each experiment at the hour of its end."""
    hours = hours_of(rows)
    last = max(hours.values(), default=0.0)

    def points(found: Sequence[Point]) -> tuple[Point, ...]:
        return tuple((hours[int(number)], value) for number, value in found)

    kept = points(scene.kept)
    return replace(
        scene,
        kept=kept,
        discarded=points(scene.discarded),
        crashed=tuple(hours[int(number)] for number in scene.crashed),
        best=_running_best(kept, scene.goal, last),
        quarantined=points(scene.quarantined),
        rejected=points(scene.rejected),
        repeated=tuple(replace(mean, at=hours[mean.number]) for mean in scene.repeated),
        named=tuple((number, hours[number], value) for number, _, value in scene.named),
        axis="hours since the start",
        last=last,
        others=points(scene.others),
    )


def _but(rows: Sequence[Row], marked: Sequence[Row]) -> Sequence[Row]:
    numbers = {row.number for row in marked}
    return () if rows is marked else [row for row in rows if row.number not in numbers]


def x_ticks(scene: Scene, most: int) -> list[Tick]:
    return _ticks(0, scene.last, most=most, finest=1.0 if scene.axis == EXPERIMENT else 0.0)


def y_ticks(scene: Scene, most: int) -> list[Tick]:
    """Return about `most` ticks of the value axis, of which a bent part has two; none without a value."""
    scale = scene.scale
    if not (scene.kept or scene.discarded or scene.quarantined or scene.rejected):
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


def hours_of(rows: Sequence[Row]) -> dict[int, float]:
    """Return when each experiment ended, in hours since the first began; 0 where that is unknown."""
    start = min((at for row in rows if (at := row.started_at or row.ended_at)), default=0.0)
    return {row.number: max(0.0, (row.ended_at or start) - start) / 3600 for row in rows}


def _scale(rows: Sequence[Row], goal: Goal, low: float, high: float) -> Scale:
    """Give a plateau its room: where most values lie in a small part of the height, the rest is bent."""
    sign = 1 if goal is Goal.MINIMIZE else -1
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


def headline_of(report: Report) -> tuple[str, str]:
    """Return the best before and after, or why there is none; then the change, empty where there is none."""
    if report.experiments == 0:
        return "no results yet", ""
    if report.best is None:
        if report.keep:
            return f"what was kept has no {report.metric}", ""
        return ("nothing was kept" if report.discard else f"no {report.metric} yet"), ""
    best = number(report.best, report.like)
    if report.baseline is None:
        return f"{best} at #{report.best_number}", ""
    if not report.gain:
        return (
            f"{best}, the baseline" if report.experiments == 1 else f"{best}; nothing beat the baseline",
            "",
        )
    return f"{number(report.baseline)} → {best}", change(report.baseline, report.best)


def visible_gains(report: Report) -> tuple[Gain, ...]:
    return tuple(gain for gain in report.gains if is_visible(gain.gain, report.like))


def _points(rows: Sequence[Row], status: Status) -> tuple[Point, ...]:
    return tuple(
        (row.number, _bounded(row.value)) for row in rows if row.status is status and row.value is not None
    )


def _is_rejected(row: Row) -> bool:
    return row.invalidated in (Invalidated.REJECTED, Invalidated.NOT_BELIEVED)


def _repeated(rows: Sequence[Row]) -> tuple[Mean, ...]:
    means = []
    for row in rows:
        values = [_bounded(value) for value in row.repeats if value is not None]
        if row.status is Status.KEEP and len(values) > 1:
            value, low, high = map(_bounded, mean_of(values))
            means.append(Mean(row.number, value, low, high, row.number))
    return tuple(means)


def _noise(rows: Sequence[Row]) -> float:
    groups = [[value for value in (row.value, *row.repeats) if value is not None] for row in rows]
    noise = noise_of(group for group in groups if len(group) > 1)
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
    kept = [value for _, value in _points(rows, Status.KEEP)] or [median_low(values)]
    distances = sorted(
        abs(_bounded(row.value) - _bounded(kept[0] if before is None else before))
        for row, before in zip(rows, bests_before(rows, goal), strict=True)
        if row.value is not None and row.status is not Status.KEEP
    )
    usual = distances[(len(distances) - 1) // 4] if distances else 0.0
    span = max(kept) - min(kept)
    if span and len(distances) < _FEW:
        usual = min(usual, span)
    reach = max(span / 2, 1.5 * usual, min(8 * usual, 2 * span or math.inf))
    shown = [value for value in values if min(kept) - reach <= value <= max(kept) + reach]
    low, high = min(shown), max(shown)
    if low == high:
        margin = abs(high) / 100 or 0.5
    else:
        margin = max(0.0, max(_FINEST * step(kept[0]), 1e-9 * abs(high)) - (high - low)) / 2
    return low - margin, high + margin


def _bounded(value: float) -> float:
    return max(-_HUGE, min(_HUGE, value))
