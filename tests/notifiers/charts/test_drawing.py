"""Whether a picture looks well is for the eye; here, that each kind of run gives one, without a warning."""

from __future__ import annotations

import struct

import pytest

from loop.experiment import Goal, Status
from loop.store.experiments import Row
from notifiers.charts.drawing import HEIGHT, WIDTH, Paper, draw
from notifiers.charts.scene import make_scene
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
    "a night": night(83),
    "a thousand": night(1000, keeps=0.03),
    "ten thousand": night(10_000, keeps=0.01),
}


@pytest.mark.parametrize("goal", Goal)
@pytest.mark.parametrize("rows", NIGHTS.values(), ids=NIGHTS)
def test_every_kind_of_run_gives_a_picture(rows: list[Row], goal: Goal) -> None:
    png = draw(make_scene(rows, metric="val_bpb", goal=goal, title="mar12"))
    assert struct.unpack(">II", png[16:24]) == (WIDTH, HEIGHT)
    assert len(png) < 500_000


@pytest.mark.parametrize("text", [*ODD, "t" * 9999])
def test_no_title_and_no_metric_breaks_it(text: str) -> None:
    assert draw(make_scene(night(9), metric=text, goal=Goal.MINIMIZE, title=text))


def test_a_line_is_written_smaller_where_it_needs_more_than_its_room() -> None:
    paper = Paper()
    box = paper.write(40, 500, "0.997900 → 0.986041", 20, room=100)
    assert box.left == pytest.approx(40, abs=3)
    assert box.right == pytest.approx(140, abs=10)


def test_what_no_font_can_show_is_left_out() -> None:
    paper = Paper()
    assert paper.legible("lower \U000f0000\U000f0001 → LR") == "lower … → LR"
    assert paper.legible("\U000f0000 \U000f0001") == ""
