from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.evidence import Invalidated
from loop.experiment import Goal, Status
from loop.store.experiments import Row
from notifiers.charts.scene import Scene, make_scene, sparkline, x_ticks
from tests.notifiers.nights import night, row

DISCARD, CRASH = Status.DISCARD, Status.CRASH


def scene(*rows: Row, goal: Goal = Goal.MINIMIZE) -> Scene:
    return make_scene(rows, metric="val_bpb", goal=goal, title="mar12")


def test_experiments_are_sorted_by_what_became_of_them() -> None:
    made = scene(
        row(0, 1.0), row(1, 1.1, DISCARD), row(2, None, CRASH), row(3, None, Status.SKIP), row(4, 0.9)
    )
    assert [*made.kept] == [(0, 1.0), (4, 0.9)]
    assert [*made.discarded] == [(1, 1.1)]
    assert made.crashed == (2.0,)
    assert made.last == 4
    assert [gain.number for gain in made.gains] == [4]


def test_a_result_in_quarantine_is_shown_and_is_no_best() -> None:
    made = scene(row(0, 1.0), row(1, 0.5, Status.QUARANTINE))
    assert [*made.quarantined] == [(1, 0.5)]
    assert [*made.best] == [(0, 1.0), (1, 1.0)]
    assert made.has_points


def test_the_running_best_is_a_staircase_up_to_the_last_experiment() -> None:
    made = scene(row(0, 1.0), row(2, 0.9), row(3, 0.9), row(4, 0.95), row(5, 0.8), row(7, None, CRASH))
    assert [*made.best] == [(0, 1.0), (2, 1.0), (2, 0.9), (5, 0.9), (5, 0.8), (7, 0.8)]
    up = scene(row(1, 1.0), row(2, 1.5), row(3, 1.2, DISCARD), goal=Goal.MAXIMIZE)
    assert [*up.best] == [(1, 1.0), (2, 1.0), (2, 1.5), (3, 1.5)]
    assert scene(row(0, None, CRASH)).best == ()


@pytest.mark.parametrize(
    ("rows", "headline", "change"),
    [
        ([], "no results yet", ""),
        ([row(0, None, Status.SKIP)], "no results yet", ""),
        ([row(0, None, CRASH)], "no val_bpb yet", ""),
        ([row(0, None, CRASH), row(1, 1.0, DISCARD)], "nothing was kept", ""),
        ([row(0, None), row(1, 1.0, DISCARD)], "what was kept has no val_bpb", ""),
        ([row(0, 1.0)], "1.000000, the baseline", ""),
        ([row(0, 1.0), row(1, 1.0, DISCARD)], "1.000000; nothing beat the baseline", ""),
        ([row(0, None, CRASH), row(1, 0.9)], "0.900000 at #1", ""),
        ([row(0, 1.0), row(1, 0.9)], "1.000000 → 0.900000", "-0.100000"),
    ],
)
def test_the_headline(rows: list[Row], headline: str, change: str) -> None:
    made = scene(*rows)
    assert (made.headline, made.change) == (headline, change)


def test_an_outlier_does_not_flatten_the_rest() -> None:
    made = scene(row(0, 0.9979), row(1, 1.01, DISCARD), row(2, 0.99), row(3, 2.24, DISCARD), row(4, 0.98))
    assert made.low == 0.98
    assert made.high == 1.01
    few = scene(row(0, 1.0), row(1, 3.24, DISCARD), row(2, 1.001, DISCARD))
    assert few.high == pytest.approx(1.001)
    alone = scene(row(0, 1.0), row(1, 3.24, DISCARD), row(2, 0.99))
    assert alone.high == 1.0
    wrong = scene(row(0, 1.0), row(1, 0.0, DISCARD), row(2, 1.01, DISCARD), row(3, 0.99))
    assert wrong.low == 0.99


def test_small_gains_in_much_noise_do_not_hide_the_noise() -> None:
    made = scene(row(0, 1.0), *(row(n, 1.0 + n / 100, DISCARD) for n in range(1, 10)), row(10, 0.99999))
    shown = [value for _, value in made.discarded if made.low <= value <= made.high]
    assert len(shown) >= 3
    assert scene(*(row(n, 1.0 + n / 100, DISCARD if n else Status.KEEP) for n in range(5))).high == 1.04


def test_equal_values_have_some_height_around_them() -> None:
    made = scene(row(0, 0.5), row(1, 0.5, DISCARD), row(2, 0.5, DISCARD))
    assert (made.low, made.high) == pytest.approx((0.495, 0.505))
    zero = scene(row(0, 0.0))
    assert (zero.low, zero.high) == (-0.5, 0.5)


STATUSES = st.sampled_from([Status.KEEP, DISCARD])
VALUES = st.floats(allow_nan=False, allow_infinity=False) | st.floats(0.9, 1.1)


@given(st.lists(st.tuples(STATUSES, VALUES), min_size=1, max_size=30), st.sampled_from(Goal))
def test_whatever_the_values_every_kept_one_is_in_range(
    trials: list[tuple[Status, float]], goal: Goal
) -> None:
    made = scene(*(row(number, value, status) for number, (status, value) in enumerate(trials)), goal=goal)
    assert math.isfinite(made.high - made.low)
    assert made.low < made.high
    assert all(made.low <= value <= made.high for _, value in made.kept)
    inside = [value for _, value in made.discarded if made.low <= value <= made.high]
    assert len(inside) * 4 >= len(made.discarded) or len(made.discarded) < 4


def test_a_night_shows_nearly_all_of_it() -> None:
    made = scene(*night(200))
    outliers = [value for _, value in made.discarded if not made.low <= value <= made.high]
    assert 0 < len(outliers) < 0.2 * len(made.discarded)


def test_what_was_rejected_or_is_doubted_is_marked_and_never_the_best() -> None:
    rejected = replace(row(2, 0.5, DISCARD), invalidated=Invalidated.REJECTED)
    disbelieved = replace(row(3, 0.6, DISCARD), invalidated=Invalidated.NOT_BELIEVED)
    again = replace(row(4, 0.85, DISCARD), invalidated=Invalidated.TRIED_AGAIN)
    made = scene(row(0, 1.0), row(1, 0.9), rejected, disbelieved, again, row(5, 0.7, Status.QUARANTINE))
    assert [*made.rejected] == [(2, 0.5), (3, 0.6)]
    assert [*made.discarded] == [(4, 0.85)]
    assert [*made.quarantined] == [(5, 0.7)]
    assert made.best[-1][1] == 0.9
    assert made.headline == "1.000000 → 0.900000"


def test_repeats_give_the_noise_and_the_means_of_what_was_kept() -> None:
    again = replace(row(0, 1.0), repeats=(1.02, None, 1.04))
    once = replace(row(1, 0.9), repeats=(0.91,))
    discarded = replace(row(2, 1.1, DISCARD), repeats=(1.1, 1.12))
    made = scene(again, once, discarded)
    (mean,) = made.repeated
    assert mean.at == 0
    assert mean.value == pytest.approx(1.03)
    assert (mean.low, mean.high) == pytest.approx((1.03 - 0.12706, 1.03 + 0.12706))
    assert 0.01 < made.noise < 0.06
    assert (scene(row(0, 1.0)).noise, scene(row(0, 1.0)).repeated) == (0.0, ())


def test_the_repeats_of_what_is_not_believed_say_nothing_of_the_noise() -> None:
    again = replace(row(0, 1.0), repeats=(1.0002, 1.0003))
    doubted = replace(row(1, 0.5, Status.QUARANTINE), repeats=(0.98, 0.99, 1.1))
    rejected = replace(row(2, 0.5, DISCARD), invalidated=Invalidated.NOT_BELIEVED, repeats=(0.9, 0.8, 1.0))
    assert scene(again, doubted, rejected).noise == scene(again).noise > 0


def test_a_line_of_blocks_falls_with_the_best_and_gives_a_plateau_its_room() -> None:
    rows = [row(0, 9.0), row(1, 1.0), *(row(n, 1.0 + n / 1000, DISCARD) for n in range(2, 40)), row(40, 0.99)]
    line = sparkline(rows, metric="val_bpb", goal=Goal.MINIMIZE, width=41)
    assert (len(line), line[0], line[-1]) == (41, "█", "▁")
    assert line[1] not in "█▁"
    assert len(sparkline(rows, metric="val_bpb", goal=Goal.MINIMIZE, width=10)) == 10
    assert sparkline(rows[1:], metric="val_bpb", goal=Goal.MAXIMIZE, width=9) == ""
    for flat in ([], rows[:1], [row(0, None, CRASH)]):
        assert sparkline(flat, metric="val_bpb", goal=Goal.MINIMIZE, width=9) == ""


def test_hours_have_ticks_between_them_and_experiments_have_none() -> None:
    rows = [replace(row(n, 1 - n / 10), started_at=1e9, ended_at=1e9 + 600.0 * n) for n in range(4)]
    numbered = make_scene(rows, metric="val_bpb", goal=Goal.MINIMIZE, title="mar12")
    assert [label for _, label in x_ticks(numbered, 6)] == ["0", "1", "2", "3"]
    hours = make_scene(rows, metric="val_bpb", goal=Goal.MINIMIZE, title="mar12", by_time=True)
    assert [label for _, label in x_ticks(hours, 6)] == [
        "0.0",
        "0.1",
        "0.2",
        "0.3",
        "0.4",
        "0.5",
    ]
