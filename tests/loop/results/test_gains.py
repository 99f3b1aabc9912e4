from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loop.experiment import Goal, Status
from loop.results.gains import bests_before, gain
from tests.loop.results.test_report import row

VALUES = st.floats(allow_nan=False, allow_infinity=False)


def test_a_gain_is_free_of_dust_and_of_minus_zero() -> None:
    assert gain(0.9979, 0.969686, Goal.MINIMIZE) == 0.028214
    assert gain(0.5, 0.7, Goal.MAXIMIZE) == 0.2
    assert str(gain(0.5, 0.5, Goal.MINIMIZE)) == str(gain(0.0, -0.0, Goal.MAXIMIZE)) == "0.0"


def test_a_gain_has_no_scale_below_which_it_is_none() -> None:
    assert gain(3e-12, 2.5e-12, Goal.MINIMIZE) == 5e-13
    assert gain(0.5, 0.500000000001, Goal.MINIMIZE) == -1e-12


@given(VALUES, VALUES)
def test_what_is_a_gain_for_one_goal_is_a_loss_for_the_other(before: float, after: float) -> None:
    less = gain(before, after, Goal.MINIMIZE)
    assert less == -gain(before, after, Goal.MAXIMIZE)
    assert (less > 0) == (after < before)


def test_the_best_before_each_row_leaves_out_itself_and_what_was_not_kept() -> None:
    rows = [
        row(0, 0.99),
        row(1, 0.5, Status.DISCARD),
        row(2, None, Status.CRASH),
        row(3, 0.98),
        row(4, 0.985),
    ]
    assert list(bests_before(rows, Goal.MINIMIZE)) == [None, 0.99, 0.99, 0.99, 0.98]
    assert list(bests_before(rows[2:], Goal.MINIMIZE, 0.99)) == [0.99, 0.99, 0.98]
