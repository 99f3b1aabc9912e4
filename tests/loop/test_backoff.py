from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loop.errors import backoff

WAITS = (2.0, 4.0, 300.0)


def test_the_waits_are_taken_in_turn_and_the_last_for_ever() -> None:
    assert [backoff(WAITS, failures) for failures in (0, 1, 2, 3, 4, 99)] == [2, 2, 4, 300, 300, 300]


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_jitter_takes_off_a_half_at_most(failures: int, jitter: float) -> None:
    whole = backoff(WAITS, failures)
    assert whole / 2 <= backoff(WAITS, failures, jitter=jitter) <= whole
