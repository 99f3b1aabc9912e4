from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loop.evaluation.certainty import first_to_leave_out, removable
from loop.evaluation.certification import Kept
from loop.evidence import Certified

KEEPS = (Kept(1, 0.01), Kept(4, 0.001), Kept(7, 0.003), Kept(9, 0.001))


def own(gain: float, *, half: float = 0.002) -> Certified:
    return Certified(gain, gain - half, gain + half, 2)


def test_the_smallest_gains_are_left_out_first_and_as_many_as_fit() -> None:
    assert first_to_leave_out(KEEPS, 1850, 300, 1, repeats=2) == (4, 9, 7)
    assert first_to_leave_out(KEEPS, 1799, 300, 1, repeats=2) == (4, 9)
    assert first_to_leave_out(KEEPS, 599, 300, 1, repeats=2) == ()
    assert first_to_leave_out(KEEPS, 1250, 300, 2, repeats=2) == (4, 9, 7, 1)


def test_what_was_left_out_before_is_not_again() -> None:
    keeps = (Kept(1, 0.01), Kept(4, 0.001, own(0.0)))
    assert first_to_leave_out(keeps, 9000, 300, 1, repeats=2) == (1,)


def test_what_brings_nothing_is_proposed_together() -> None:
    found = {1: own(0.01), 4: own(0.0001), 7: own(-0.0005), 9: own(0.001)}
    assert removable(found, 0.0002) == (7, 4)


def test_a_gain_that_is_certain_stays_however_small() -> None:
    assert removable({1: own(0.0001, half=0.00005)}, 0.0002) == ()


def test_many_small_gains_are_not_given_up_together() -> None:
    assert removable({number: own(0.0001) for number in range(1, 6)}, 0.00025) == (1, 2)


def test_what_harms_is_proposed_although_nothing_counts_as_equal() -> None:
    assert removable({1: own(-0.01, half=0.001), 2: own(0.0)}, 0.0) == (1, 2)


@given(st.dictionaries(st.integers(1, 50), st.floats(-0.01, 0.01).map(own), max_size=8), st.floats(0, 0.01))
def test_the_removal_costs_no_more_than_what_counts_as_equal(
    found: dict[int, Certified], equal_within: float
) -> None:
    chosen = removable(found, equal_within)
    assert sum(found[number].gain for number in chosen) <= equal_within + 1e-9
    assert all(found[number].low <= 0 for number in chosen)
