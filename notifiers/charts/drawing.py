"""A scene as a picture, made for the width of a phone. Only the worker imports this."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedFormatter, FixedLocator

from loop.experiment import Goal
from loop.gain import signed
from loop.results.report import Gain
from loop.text import one_line
from notifiers.charts.scene import EXPERIMENT, Point, Scene, Tick, x_ticks, y_ticks
from notifiers.text.report import GAINS
from notifiers.text.words import whole_changes, with_minus

WIDTH, HEIGHT = 1280, 1120
"""Of the picture, in pixels: as wide as chats show one. Sizes of type are in points, of 2.8 pixels each."""

_DPI = 200
_INK, _FAINT, _GRID = "#1f2430", "#626c7a", "#e7eaef"
_KEPT, _DISCARDED, _DOUBTED, _CRASHED = "#0b66c3", "#8791a1", "#8a6a00", "#d1495b"
_NOISE, _REPEATED = "#a9cbee", "#12355b"

# The first is matplotlib's own. The others have the characters that it lacks, where they are installed.
_FONTS = (
    "DejaVu Sans",
    "Noto Sans",
    "Noto Sans CJK JP",
    "Noto Sans JP",
    "WenQuanYi Zen Hei",
    "Hiragino Sans",
    "PingFang SC",
    "Apple SD Gothic Neo",
    "Microsoft YaHei",
    "Arial Unicode MS",
)
_STYLE: Any = {
    "font.size": 13,
    "text.color": _INK,
    "text.parse_math": False,  # dollars and underscores of a description are no formula
    "axes.axisbelow": True,
    "axes.edgecolor": _DISCARDED,
    "axes.formatter.limits": (-6, 9),
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": _FAINT,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": _GRID,
    "legend.fontsize": 12,
    "legend.frameon": False,
    "legend.labelcolor": _FAINT,
    "xtick.labelcolor": _FAINT,
    "xtick.major.size": 0,
    "ytick.labelcolor": _FAINT,
    "ytick.major.size": 0,
}

# Shares of the picture.
_LEFT, _RIGHT, _RIGHT_OF_OTHERS = 0.03, 0.98, 0.65  # of the last column of a text, of the others
_TITLE, _HEADLINE, _LEGEND, _PLOT = 0.945, 0.865, 0.845, 0.785
_LINE = 0.04  # of the list of gains
_TICKS = 6  # of an axis, at most
_COLUMNS = 5  # of the legend
_TRIED = 60  # gains whose numbers are tried beside them: each is laid out six times, and ten to twenty fit
_WIDTH = 44  # characters of a gain's description
# Shares of the height of the axes.
_MARGIN = 0.12  # beyond the best and the worst value
_EDGE, _INNER_EDGE = 0.02, 0.065  # where crashes and outliers are marked


def draw(scene: Scene) -> bytes:
    picture = io.BytesIO()
    with style():
        make_figure(scene).savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def style() -> AbstractContextManager[None]:
    """Return the context in which figures are made and drawn."""
    installed = {*font_manager.get_font_names()}
    return mpl.rc_context({**_STYLE, "font.family": [name for name in _FONTS if name in installed]})


def make_figure(scene: Scene) -> Figure:
    figure = Figure(figsize=(WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)
    title = one_line(scene.title, 32)
    better = "lower" if scene.goal is Goal.MINIMIZE else "higher"
    meaning = f"{one_line(scene.metric, 24)}, {better} is better"
    _write(figure, [_TITLE], ([title], {"weight": "bold"}), ([meaning], {"color": _FAINT}))
    moved = with_minus(scene.change)
    headline = one_line(scene.headline, 200)  # more than fits
    large = {"size": max(8.0, min(20.0, 660 / len(headline + moved)))}
    strong = {**large, "color": _KEPT, "weight": "bold"}
    _write(figure, [_HEADLINE], ([headline], large), ([moved], strong))
    if scene.has_points:
        named = scene.gains[:GAINS]
        _list_gains(figure, named, scene.goal, scene.kept[0][1] if scene.kept else None)
        below = _LINE * (len(named) + 0.5) if named else 0.0
        axes = figure.subplots()
        _plot(axes, scene)
        legend_lines = math.ceil(len(axes.get_legend_handles_labels()[1]) / _COLUMNS)
        height = _PLOT - _LINE * max(0, legend_lines - 1) - below
        figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0.022, below, 0.963, height)))
        spaces = {"handlelength": 1.2, "handletextpad": 0.2, "columnspacing": 0.9}
        figure.legend(loc="upper left", bbox_to_anchor=(0.005, _LEGEND), ncols=_COLUMNS, **spaces)
        figure.draw_without_rendering()  # from here on the layout holds
        _number_keeps(axes, scene)
    return figure


def _write(figure: Figure, rows: Sequence[float], *columns: tuple[Sequence[str], dict[str, Any]]) -> None:
    """Write columns of texts at the heights `rows`, from the left edge; what is too long is shortened."""
    faces = [font_manager.get_font(font_manager.findfont(name)) for name in mpl.rcParams["font.family"]]
    columns = tuple(column for column in columns if any(column[0]))
    x = _LEFT
    for texts, look in columns:
        room = (_RIGHT if texts is columns[-1][0] else _RIGHT_OF_OTHERS) - x
        edge = x
        for y, text in zip(rows, texts, strict=True):
            legible = "".join(c for c in text if any(face.get_char_index(ord(c)) for face in faces)).strip()
            written = figure.text(x, y, legible, **look)
            shown = len(legible)
            while written.get_window_extent().width > room * WIDTH and shown > 1:
                shown = shown * 9 // 10
                written.set_text(one_line(legible, shown))
            edge = max(edge, written.get_window_extent().x1 / WIDTH)
        x = edge + 0.02


def _list_gains(figure: Figure, gains: Sequence[Gain], goal: Goal, like: float | None) -> None:
    rows = [_LINE * (len(gains) - place) - 0.015 for place in range(len(gains))]
    _write(
        figure,
        rows,
        ([f"#{gain.number}" for gain in gains], {"weight": "bold"}),
        ([with_minus(signed(-goal.sign * gain.gain, like)) for gain in gains], {"color": _KEPT}),
        ([whole_changes(gain.description, _WIDTH) for gain in gains], {"color": _FAINT}),
    )


def _plot(axes: Axes, scene: Scene) -> None:
    of_each = (scene.kept, scene.discarded, scene.crashed, scene.quarantined, scene.rejected)
    count = sum(map(len, of_each))
    few = count < 150
    size = 7.0 if few else 4.5 if count < 1500 else 2.5
    shown = [point for point in scene.discarded if scene.low <= point[1] <= scene.high]
    above = [number for number, value in scene.discarded if value > scene.high]
    below = [number for number, value in scene.discarded if value < scene.low]
    crash_edge = 1 - _EDGE if scene.goal is Goal.MINIMIZE else _EDGE  # a crash is no good value

    def mark(points: Sequence[Point], shape: str, colour: str, meaning: str, **style: Any) -> None:
        if points:
            style = {"color": colour, "markersize": size, "markeredgewidth": 0, **style}
            axes.plot(*zip(*points, strict=True), shape, label=meaning, **style)

    if scene.best:
        at, bests = zip(*scene.best, strict=True)
        axes.plot(at, bests, color=_KEPT, linewidth=2.4, solid_joinstyle="miter", zorder=2.5)
        if scene.noise:
            low, high = ([best + sign * scene.noise for best in bests] for sign in (-1, 1))
            axes.fill_between(at, low, high, color=_NOISE, alpha=0.6, linewidth=0, zorder=1, label="noise")
    halo = {"markeredgecolor": "white", "markeredgewidth": 1.0} if few else {}
    mark(scene.kept, "o", _KEPT, f"{len(scene.kept):,} kept", markersize=size + 1.5, zorder=3, **halo)
    mark(shown, "o", _DISCARDED, f"{len(scene.discarded):,} discarded")
    for points, colour, word in (
        (scene.quarantined, _DOUBTED, "in quarantine"),
        (scene.rejected, _CRASHED, "rejected"),
    ):
        within = [(at, min(scene.high, max(scene.low, value))) for at, value in points]
        hollow = {"markerfacecolor": "none", "markeredgecolor": colour, "markeredgewidth": 1.6, "zorder": 3}
        mark(within, "D", colour, f"{len(within):,} {word}", **hollow)
    if scene.repeated:
        errors = [
            [mean.value - mean.low for mean in scene.repeated],
            [mean.high - mean.value for mean in scene.repeated],
        ]
        means = [mean.at for mean in scene.repeated], [mean.value for mean in scene.repeated]
        bars: Any = {"ecolor": _REPEATED, "elinewidth": 1.6, "capsize": 3, "capthick": 1.6, "zorder": 3.5}
        axes.errorbar(*means, yerr=errors, fmt="_", color=_REPEATED, markersize=size, label="repeats", **bars)
    at_edge = {"transform": axes.get_xaxis_transform()}
    for shape, height, places, word in (
        ("^", 1 - _INNER_EDGE, above, "above"),
        ("v", _INNER_EDGE, below, "below"),
    ):
        outliers = [(place, height) for place in places]
        mark(outliers, shape, _DISCARDED, f"{len(outliers):,} {word} the scale", **at_edge)
    crashes = [(number, crash_edge) for number in scene.crashed]
    crossed = {"markersize": 0.8 * size, "markeredgewidth": 1.8 if few else 0.8}
    mark(crashes, "x", _CRASHED, f"{len(crashes):,} crashed", **crossed, **at_edge)

    _scale_values(axes, scene)
    by_number = scene.axis == EXPERIMENT
    beside = max(0.6, 0.015 * scene.last) if by_number else 0.03 * scene.last or 0.5
    axes.set_xlim(-beside, scene.last + beside)
    _set_ticks(axes.xaxis, x_ticks(scene, _TICKS))
    axes.yaxis.set_visible(scene.has_values)
    axes.set_xlabel(scene.axis)


def _scale_values(axes: Axes, scene: Scene) -> None:
    """Scale the value axis; where it is bent, a line says so."""
    scale = scene.scale
    if scale.factor != 1:
        axes.set_yscale("function", functions=(np.vectorize(scale.height), np.vectorize(scale.value)))
    lowest, highest = scale.height(scene.low), scale.height(scene.high)
    margin = _MARGIN * (highest - lowest)
    axes.set_ylim(scale.value(lowest - margin), scale.value(highest + margin))
    _set_ticks(axes.yaxis, y_ticks(scene, _TICKS))
    if scale.factor == 1:
        return
    axes.axhline(scale.bend, color=_FAINT, linewidth=1.0, linestyle=(0, (1, 2)), zorder=0.5)
    axes.annotate(
        f"smaller scale {'above' if scale.above else 'below'}",
        (1, scale.bend),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2 if scale.above else -2),
        textcoords="offset points",
        size=9,
        color=_FAINT,
        ha="right",
        va="bottom" if scale.above else "top",
    )


def _set_ticks(axis: Axis, ticks: Sequence[Tick]) -> None:
    axis.set_major_locator(FixedLocator([at for at, _ in ticks]))
    axis.set_major_formatter(FixedFormatter([label for _, label in ticks]))


def _gap(box: Any, point: Any) -> float:
    """Return how far a point is from a box."""
    x, y = point
    return math.hypot(max(box.x0 - x, 0, x - box.x1), max(box.y0 - y, 0, y - box.y1))


def _number_keeps(axes: Axes, scene: Scene) -> None:
    """Write the numbers of the largest gains beside them, as many as fit, and that of the first always.

    Beyond the running best, to the left, no point can be. A number is nearest to its own point.
    """
    up = 1 if scene.goal is Goal.MAXIMIZE else -1
    points: Any = (
        axes.transData.transform([*scene.kept, *scene.discarded, *scene.quarantined, *scene.rejected])
        if scene.kept
        else []
    )
    kept: Any = axes.transData.transform(scene.kept) if scene.kept else []
    best = axes.lines[0].get_path().transformed(axes.transData) if scene.best else None
    taken: list[Any] = [text.get_window_extent() for text in axes.texts]

    def write(keep: int, at: Point, x: float, y: float) -> Any:
        return axes.annotate(
            f"#{keep}",
            at,
            xytext=(x, y),
            textcoords="offset points",
            size=11,
            weight="bold",
            ha="right" if x < 0 else "left" if x else "center",
            va="bottom" if y > 0 else "top",
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )

    for place, (keep, *at) in enumerate(scene.named[:_TRIED]):
        spots = [(x, y * up) for y in (4, 12) for x in (-4, 4, 0)]
        found = None
        for x, y in [*spots, *((x, -y) for x, y in spots)] if place == 0 else spots:
            label = write(keep, (at[0], at[1]), x, y)
            box = label.get_window_extent()
            inside = axes.bbox.count_contains(box.corners()) == 4
            covered = box.count_contains(points) + bool(best and best.intersects_bbox(box, filled=False))
            own = _gap(box, axes.transData.transform((at[0], at[1])))
            covered += any(_gap(box, other) < own for other in kept)
            label.remove()
            if inside and not box.count_overlaps(taken) and (found is None or covered < found[0]):
                found = (covered, x, y)
        if found and (not found[0] or place == 0):
            label = write(keep, (at[0], at[1]), *found[1:])
            taken.append(label.get_window_extent())
