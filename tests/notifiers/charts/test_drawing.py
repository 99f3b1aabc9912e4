"""Whether a picture looks well is for the eye; here, that each kind of run gives one, without a warning."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import BboxBase

from loop.evidence import Invalidated
from loop.experiment import Goal, Status
from loop.store.experiments import Row
from notifiers.charts import drawing
from notifiers.charts.drawing import HEIGHT, WIDTH, draw, make_figure, style
from notifiers.charts.scene import Scene, make_scene
from notifiers.text.report import GAINS
from tests import demo
from tests.notifiers.nights import night, row

ODD = [
    "$\\frac{",
    "a_b $x_i^2$ _",
    "学習率 を 下げる 🚀",
    "\u202eright to left",
    "e\u0301\u200d\ufe0f",
    "x\ny\x07",
    "",
    " ",
]
NIGHTS: dict[str, list[Row]] = {
    "nothing at all": [],
    "only skipped": [row(0, None, Status.SKIP)],
    "only the baseline": [row(0, 0.9979)],
    "all crashed": [row(number, None, Status.CRASH) for number in range(7)],
    "nothing kept": [row(0, 1.0, Status.DISCARD), row(1, 1.1, Status.DISCARD)],
    "one keep": [row(0, 0.9979), row(1, 3.24, Status.DISCARD), row(2, 0.99)],
    "equal values": [row(0, 1.0), row(1, 1.0, Status.DISCARD), row(2, 1.0)],
    "huge values": [row(0, 1e308), row(1, -1e308), row(2, 5e-324, Status.DISCARD)],
    "tiny values": [row(0, 1e-300), row(1, 0.0), row(2, 5e-324, Status.DISCARD)],
    "nearly equal values": [row(0, 1.0), row(1, 1.0 - 1e-15), row(2, 1.0 - 1e-16, Status.DISCARD)],
    "odd descriptions": [row(n, 1 - n / 10, description=text) for n, text in enumerate(ODD)],
    "numbers that begin late": [row(9_000_000, 1.0), row(9_000_001, 0.9)],
    "a huge first gain": [row(0, 2.138), *(replace(each, number=each.number + 1) for each in night(60))],
    "a night": night(83),
    "a thousand": night(1000, keeps=0.03),
    "ten thousand": night(10_000, keeps=0.01),
}


@pytest.mark.parametrize("text", [*ODD, "t" * 9999])
def test_no_title_and_no_metric_breaks_it(text: str) -> None:
    rows = [row(0, None, Status.CRASH)]  # the headline names the metric
    assert draw(make_scene(rows, metric=text, goal=Goal.MINIMIZE, title=text))


def figure_of(
    rows: list[Row], *, title: str = "mar12", metric: str = "val_bpb", goal: Goal = Goal.MINIMIZE
) -> Figure:
    with style():
        return make_figure(make_scene(rows, metric=metric, goal=goal, title=title))


def boxes(texts: Iterable[Text]) -> list[BboxBase]:
    return [text.get_window_extent() for text in texts if text.get_text()]


def check_texts(figure: Figure) -> None:
    """Every text is on the picture, and no number covers another one."""
    numbers = boxes(figure.axes[0].texts) if figure.axes else []
    for box in (*boxes(figure.texts), *numbers):
        assert figure.bbox.count_contains(box.corners()) == 4
    for place, box in enumerate(numbers):
        assert box.count_overlaps(numbers[:place]) == 0


@pytest.mark.parametrize("rows", NIGHTS.values(), ids=NIGHTS)
def test_every_kind_of_run_gives_a_picture(rows: list[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []

    def make(scene: Scene) -> Figure:
        figures.append(make_figure(scene))
        return figures[-1]

    monkeypatch.setattr(drawing, "make_figure", make)
    png = draw(make_scene(rows, metric="val_bpb", goal=Goal.MINIMIZE, title="mar12"))
    assert struct.unpack(">II", png[16:24]) == (WIDTH, HEIGHT)
    assert len(png) < 500_000
    check_texts(*figures)


@pytest.mark.parametrize("rows", NIGHTS.values(), ids=NIGHTS)
def test_every_kind_of_run_has_its_texts_also_where_higher_is_better(rows: list[Row]) -> None:
    check_texts(figure_of(rows, goal=Goal.MAXIMIZE))


def test_what_is_too_long_is_shortened() -> None:
    long = "W" * 99
    figure = figure_of([row(0, 1.0), row(1, 0.9, description=long)], title=long, metric=long)
    assert max(box.x1 for box in boxes(figure.texts)) <= WIDTH


def test_every_keep_has_its_number_where_there_is_room_and_the_largest_gains_are_listed() -> None:
    rows = [row(number, 1 - number / 10, description=f"idea {number}") for number in range(9)]
    figure = figure_of(rows)
    assert {text.get_text() for text in figure.axes[0].texts} == {f"#{number}" for number in range(1, 9)}
    assert len([text for text in figure.texts if text.get_text().startswith("idea")]) == GAINS


def test_a_number_stands_nearest_to_its_own_point() -> None:
    steps = enumerate(islice(demo.steps(), 93))
    rows, best = [], math.inf
    for number, step in steps:
        better = step.value is not None and step.value < best
        status = Status.KEEP if better else Status.CRASH if step.value is None else Status.DISCARD
        best = step.value if better and step.value is not None else best
        rows.append(row(number, step.value, status))
    figure = figure_of(rows)
    axes = figure.axes[0]
    kept = {
        each.number: axes.transData.transform((each.number, each.value))
        for each in rows
        if each.value and each.status is Status.KEEP
    }
    numbers = [text for text in axes.texts if text.get_text().startswith("#")]
    assert len(numbers) > 10
    for text in numbers:
        box = text.get_window_extent()
        nearest = min(kept, key=lambda number: drawing._gap(box, kept[number]))
        assert text.get_text() == f"#{nearest}"


def test_the_legend_explains_what_is_off_the_scale() -> None:
    rows = [row(0, 1.0), row(1, 1.01, Status.DISCARD), row(2, 0.99), row(3, 90.0, Status.DISCARD)]
    (legend,) = figure_of(rows).legends
    assert [text.get_text() for text in legend.get_texts()] == ["2 kept", "2 discarded", "1 above the scale"]


def test_noise_repeats_and_what_is_not_believed_are_drawn_and_explained() -> None:
    rejected = replace(row(2, 0.5, Status.DISCARD), invalidated=Invalidated.REJECTED)
    doubted = row(3, 0.98, Status.QUARANTINE)
    figure = figure_of([replace(row(0, 1.0), repeats=(1.01, 1.02)), row(1, 0.99), rejected, doubted])
    (legend,) = figure.legends
    words = [text.get_text() for text in legend.get_texts()]
    assert sorted(words) == ["1 in quarantine", "1 rejected", "2 kept", "noise", "repeats"]


@pytest.mark.parametrize("goal", Goal)
def test_a_plateau_after_a_huge_gain_has_most_of_the_height_and_the_gain_its_number(goal: Goal) -> None:
    sign = 1 if goal is Goal.MINIMIZE else -1
    values = [2.138, 1.05, *(1.06 + n / 1000 for n in range(20)), 1.04]
    rows = [row(n, 3 + sign * v, Status.DISCARD if 1 < n < 22 else Status.KEEP) for n, v in enumerate(values)]
    figure = figure_of(rows, goal=goal)
    axes = figure.axes[0]
    low, high = axes.transData.transform([(0, 3 + sign * value) for value in (1.04, 1.078)])[:, 1]
    assert abs(high - low) > 0.5 * axes.bbox.height
    texts = [text.get_text() for text in axes.texts]
    assert texts[:2] == ["smaller scale above" if sign > 0 else "smaller scale below", "#1"]
    crashed = figure_of([*rows, row(23, None, Status.CRASH)], goal=goal).axes[0].lines[-2]
    at = np.asarray(crashed.get_ydata(), dtype=float)[0]
    assert round(at) == (1 if sign > 0 else 0)  # where the worst values are


def test_the_first_gain_has_its_number_even_where_there_is_no_room() -> None:
    crowd = [row(2 + n, 0.9 + (n % 40) / 200, Status.DISCARD) for n in range(2000)]
    figure = figure_of([row(0, 1.1), row(1, 0.9), *crowd])
    assert "#1" in {text.get_text() for text in figure.axes[0].texts}


def test_the_axis_may_be_the_time() -> None:
    times = [1e9 + 1800 * n for n in range(5)]
    rows = [replace(row(n, 1 - n / 10), started_at=times[n], ended_at=times[n + 1]) for n in range(4)]
    scene = make_scene(rows, metric="val_bpb", goal=Goal.MINIMIZE, title="mar12", by_time=True)
    assert [at for at, _ in scene.kept] == [0.5, 1.0, 1.5, 2.0]
    with style():
        figure = make_figure(scene)
    check_texts(figure)
    assert figure.axes[0].get_xlabel() == "hours since the start"


def test_a_result_that_is_in_quarantine_has_an_axis_also_where_it_is_alone() -> None:
    assert figure_of([row(0, 1.0, Status.QUARANTINE)]).axes[0].yaxis.get_visible()
    assert not figure_of([row(0, None, Status.CRASH)]).axes[0].yaxis.get_visible()


def test_what_no_font_can_show_is_left_out() -> None:
    assert figure_of([], title="lower \U000f0000\U000f0001→ LR").texts[0].get_text() == "lower → LR"
