"""A scene as a picture, made for the width of a phone. Only the worker imports this."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from loop.experiment import Goal
from loop.results.report import Gain
from loop.text import one_line
from notifiers.charts.labels import Box, Label, Place, place
from notifiers.charts.scene import Point, Scene

if TYPE_CHECKING:
    from matplotlib.backend_bases import RendererBase

WIDTH, HEIGHT = 1280, 1120
"""Of the picture, in pixels: as wide as chats show one. Sizes of type are in points, of 2.8 pixels each."""

INK = "#1f2430"
_DPI = 200

# For characters that the first one lacks; tried in this order, as far as they are installed.
_FONTS = (
    "DejaVu Sans",
    "Noto Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans JP",
    "Source Han Sans",
    "IPAexGothic",
    "WenQuanYi Zen Hei",
    "Hiragino Sans",
    "PingFang SC",
    "Apple SD Gothic Neo",
    "Yu Gothic",
    "Microsoft YaHei",
    "Arial Unicode MS",
)


class Paper:
    """A white sheet of `WIDTH` × `HEIGHT` pixels, from the lower left, as a matplotlib figure."""

    def __init__(self) -> None:
        from matplotlib import font_manager
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI, facecolor="white")
        self.renderer: RendererBase = FigureCanvasAgg(self.figure).get_renderer()  # type: ignore[no-untyped-call]
        installed = {*font_manager.fontManager.get_font_names()}
        self._fonts = [name for name in _FONTS if name in installed]
        self._faces = [font_manager.get_font(font_manager.findfont(name)) for name in self._fonts]

    def write(self, x: float, y: float, text: str, size: float, *, room: float = WIDTH, **style: Any) -> Box:
        """Write a line whose left end is at `x` and whose middle is at `y`; return where it is.

        It is written smaller where it needs more than `room`. `style` is of matplotlib's `Text`.
        """
        from matplotlib.patheffects import withStroke
        from matplotlib.transforms import IdentityTransform

        written = self.figure.text(
            *(x, y, self.legible(text)),
            parse_math=False,  # dollars and underscores of a description are no formula
            fontfamily=self._fonts,
            path_effects=[withStroke(linewidth=3, foreground="white")],  # lines do not go through it
            transform=IdentityTransform(),
            **{"fontsize": size, "color": INK, "va": "center_baseline", **style},
        )
        box = written.get_window_extent(self.renderer)
        if box.width > room:
            written.set_fontsize(size * room / box.width)
            box = written.get_window_extent(self.renderer)
        return Box(box.x0, box.y0, box.x1, box.y1)

    def width(self, text: str, size: float, **style: Any) -> float:
        """Return how wide a line would be."""
        box = self.write(0, 0, text, size, room=float("inf"), **style)
        self.figure.texts[-1].remove()
        return box.right - box.left

    def legible(self, text: str) -> str:
        """Return text with `…` in the place of what no font has characters for; empty if that is all."""
        known = (c if any(face.get_char_index(ord(c)) for face in self._faces) else "…" for c in text)
        line = re.sub(r"…(?:\s*…)+", "…", "".join(known))
        return "" if line == "…" else line

    def rule(self, box: Box, colour: str) -> None:
        """Fill a box, such as a thin line."""
        from matplotlib.patches import Rectangle
        from matplotlib.transforms import IdentityTransform

        corner, width, height = (box.left, box.bottom), box.right - box.left, box.top - box.bottom
        self.figure.add_artist(
            Rectangle(corner, width, height, color=colour, linewidth=0, transform=IdentityTransform())
        )

    def png(self) -> bytes:
        """Return the sheet as it is now."""
        picture = io.BytesIO()
        self.figure.savefig(picture, format="png", metadata={"Software": None})
        return picture.getvalue()


if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Pixels from the lower left corner. What is drawn lies within the four, ticks included on the left only.
_LEFT, _RIGHT, _BOTTOM, _TOP = 40, 1224, 118, 866
_TITLE, _HEADLINE, _LEGEND = 1066, 990, 922

_TITLE_SIZE, _HEADLINE_SIZE, _SMALL = 14, 20, 13  # points
_FAINT_INK, _GRID = "#626c7a", "#e7eaef"
_KEPT, _DISCARDED, _CRASHED = "#0b66c3", "#b4bcc8", "#d1495b"

# Shares of the height.
_FLOOR = 0.03  # where crashes are marked
_ABOVE_FLOOR = 0.10  # the least distance of a value from the lower edge
_BEYOND_WORST, _BEYOND_BEST = 0.06, 0.3  # free space; the labels go beyond the best
_EDGE = 0.015  # how far from the upper edge, or from the floor, outliers are marked

_DESCRIPTIONS = (26, 15)  # characters of a label's second line, where there is room for them
_LINE = 42.0  # pixels
_GAP = 20.0  # pixels between a point and its label


def draw(scene: Scene) -> bytes:
    """Return the chart as a PNG."""
    paper = Paper()
    _write_head(paper, scene)
    if scene.kept or scene.discarded or scene.crashed:
        axes = paper.figure.add_axes((0, 0, 1, 1))
        _prepare(axes, scene)
        _plot(axes, scene)
        _fit(axes, paper)
        _label_gains(axes, paper, scene)
    return paper.png()


def _write_head(paper: Paper, scene: Scene) -> None:
    """Write the title, the headline and what the marks mean."""
    edge = WIDTH - _LEFT
    title = one_line(scene.title, 32)
    x = paper.write(_LEFT, _TITLE, title, _TITLE_SIZE, room=0.6 * edge, fontweight="bold").right + 28
    better = "lower" if scene.goal is Goal.MINIMIZE else "higher"
    meaning = f"{one_line(scene.metric, 24)}, {better} is better"
    paper.write(x, _TITLE, meaning, _SMALL, room=edge - x, color=_FAINT_INK)

    room = 0.7 * edge if scene.change else edge - _LEFT
    x = paper.write(_LEFT, _HEADLINE, one_line(scene.headline, 48), _HEADLINE_SIZE, room=room).right + 28
    moved = one_line(scene.change.replace("-", "−"), 24)
    paper.write(x, _HEADLINE, moved, _HEADLINE_SIZE, room=edge - x, color=_KEPT, fontweight="bold")

    counts = (
        ("●", _KEPT, len(scene.kept), "kept"),
        ("●", _DISCARDED, len(scene.discarded), "discarded"),
        ("✕", _CRASHED, len(scene.crashed), "crashed"),
    )
    x = _LEFT
    for mark, colour, count, word in counts:
        if count:
            x = paper.write(x, _LEGEND, mark, _SMALL, color=colour).right + 10
            x = paper.write(x, _LEGEND, f"{count:,} {word}", _SMALL, color=_FAINT_INK).right + 34


def _prepare(axes: Axes, scene: Scene) -> None:
    """Set the ranges of both axes, and draw no more than a few lines."""
    from matplotlib.ticker import MaxNLocator, ScalarFormatter, StrMethodFormatter

    below, above = _BEYOND_BEST, _BEYOND_WORST
    if scene.goal is Goal.MAXIMIZE:
        below, above = _ABOVE_FLOOR, _BEYOND_BEST
    height = scene.high - scene.low
    axes.set_ylim(scene.low - below * height, scene.high + above * height)
    margin = max(0.6, 0.015 * scene.last)
    axes.set_xlim(-margin, scene.last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    plain = ScalarFormatter(useOffset=False)
    plain.set_scientific(False)
    huge = max(abs(scene.low), abs(scene.high)) >= 1e9
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.3g}") if huge else plain)
    axes.yaxis.set_visible(bool(scene.kept or scene.discarded))
    axes.tick_params(length=0, labelsize=_SMALL, labelcolor=_FAINT_INK, pad=8)
    axes.set_xlabel("experiment", fontsize=_SMALL, color=_FAINT_INK, labelpad=2)
    axes.grid(axis="y", color=_GRID, linewidth=1)
    axes.set_axisbelow(True)
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.spines["bottom"].set_color(_DISCARDED)


def _plot(axes: Axes, scene: Scene) -> None:
    """Draw the points and the running best."""
    from matplotlib.transforms import blended_transform_factory

    size = 7.0 if scene.last < 150 else 4.5 if scene.last < 1500 else 2.5
    cross = 1.8 if scene.last < 150 else 0.8
    at_height = blended_transform_factory(axes.transData, axes.transAxes)
    inliers = [point for point in scene.discarded if scene.low <= point[1] <= scene.high]
    axes.plot(*_columns(inliers), "o", color=_DISCARDED, markersize=size, markeredgewidth=0)
    above = [number for number, value in scene.discarded if value > scene.high]
    below = [number for number, value in scene.discarded if value < scene.low]
    for numbers, mark, height in ((above, "^", 1 - _EDGE), (below, "v", _FLOOR + 2 * _EDGE)):
        axes.plot(
            numbers, [height] * len(numbers), mark, transform=at_height, color=_DISCARDED, markersize=size
        )
    floor = [_FLOOR] * len(scene.crashed)
    axes.plot(
        *(scene.crashed, floor, "x"),
        transform=at_height,
        color=_CRASHED,
        markersize=0.8 * size,
        markeredgewidth=cross,
    )
    axes.plot(*_columns(scene.best), color=_KEPT, linewidth=2.4, solid_joinstyle="miter")
    edge = 1.0 if scene.last < 150 else 0.0
    axes.plot(
        *(*_columns(scene.kept), "o"),
        color=_KEPT,
        markersize=size + 1.5,
        markeredgecolor="white",
        markeredgewidth=edge,
    )


def _columns(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _fit(axes: Axes, paper: Paper) -> None:
    """Give the axes the paper below the head, less what the numbers beside them need."""
    width, height = paper.figure.bbox.size
    left = float(_LEFT)
    for _ in range(2):  # only in its place do we know which numbers there are
        area = (left / width, _BOTTOM / height, (_RIGHT - left) / width, (_TOP - _BOTTOM) / height)
        axes.set_position(area)
        numbers = axes.yaxis.get_tightbbox(paper.renderer)
        left = _LEFT if numbers is None else _LEFT + axes.bbox.x0 - numbers.x0


def _label_gains(axes: Axes, paper: Paper, scene: Scene) -> None:
    """Write beside the largest gains what they were, as far as there is room."""
    frame = axes.bbox
    inside = Box(frame.x0, frame.y0 + 2 * _FLOOR * frame.height, WIDTH - 12, frame.y1)
    dots = _pixels(axes, (*scene.kept, *scene.discarded))
    taken = [Box(x, y, x, y).grown(10, 10) for x, y in dots]
    for (x0, y0), (x1, y1) in pairwise(_pixels(axes, scene.best)):
        taken.append(Box(x0, min(y0, y1), x1, max(y0, y1)).grown(6, 6))
    kept_at = dict(zip((number for number, _ in scene.kept), dots, strict=False))
    texts = [_texts(gain, scene.goal, paper.legible) for gain in scene.gains]
    labels = [
        Label(*kept_at[gain.number], tuple(_size(lines, paper) for lines in forms))
        for gain, forms in zip(scene.gains, texts, strict=True)
    ]
    upwards = scene.goal is Goal.MAXIMIZE
    places = place(labels, upwards=upwards, inside=inside, taken=taken, gap=_GAP)
    for forms, found in zip(texts, places, strict=True):
        if found is not None:
            _write_label(paper, forms[found.text], found)


def _write_label(paper: Paper, lines: Sequence[str], found: Place) -> None:
    if found.leader is not None:
        paper.rule(found.leader, _DISCARDED)
    y = found.box.top - _LINE / 2
    paper.write(found.box.left, y, lines[0], _SMALL, fontweight="bold")
    for line in lines[1:]:
        paper.write(found.box.left, y - _LINE, line, _SMALL, color=_FAINT_INK)


def _pixels(axes: Axes, points: Sequence[Point]) -> list[Point]:
    return [(float(x), float(y)) for x, y in axes.transData.transform(points)] if points else []


def _texts(gain: Gain, goal: Goal, legible: Callable[[str], str]) -> list[tuple[str, ...]]:
    """Return the forms of a label, the longest first: its number and gain, and its description below."""
    digits = 4 if gain.gain >= 0.0005 else 6
    head = f"#{gain.number} {'−' if goal is Goal.MINIMIZE else '+'}{gain.gain:.{digits}f}"
    description = legible(one_line(gain.description, 2 * max(_DESCRIPTIONS)))
    forms = [(head, _beginning(description, length)) for length in _DESCRIPTIONS] if description else []
    return [*dict.fromkeys([*forms, (head,)])]


def _beginning(text: str, length: int) -> str:
    """Return as much of a text, if possible whole words, as `length` characters hold."""
    if len(text) <= length:
        return text
    cut = text[: length - 1]
    words = cut.rpartition(" ")[0]
    return f"{(words if len(words) > length / 2 else cut).rstrip(' ,;:')}…"


def _size(lines: Sequence[str], paper: Paper) -> tuple[float, float]:
    head, *rest = lines
    widths = [paper.width(head, _SMALL, fontweight="bold"), *(paper.width(line, _SMALL) for line in rest)]
    return max(widths), _LINE * len(lines)
