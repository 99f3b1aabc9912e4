from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.evaluation.noise import Drift, Trained, drift_of, speed


def printed(steps: float, *, params: float = 50.3, batch: float = 0.5) -> Mapping[str, float]:
    """Return a summary of 300 s with so many steps."""
    return {
        "num_steps": steps,
        "training_seconds": 300.0,
        "num_params_M": params,
        "total_tokens_M": round(steps * batch, 2),
    }


def history(*steps: float, first: int = 0) -> list[Trained]:
    """Return trainings of one experiment each, the newest first, given as they came."""
    return [Trained(first + number, printed(count)) for number, count in enumerate(steps)][::-1]


STEADY = history(1000, 1004, 998, 1001, 1000, 997)


@pytest.mark.parametrize(
    ("steps", "expected"), [(1000, None), (980, None), (1200, None), (955, Drift(0.045, 0, again=True))]
)
def test_a_training_is_slow_from_three_percent_on(steps: float, expected: Drift | None) -> None:
    found = drift_of(Trained(9, printed(steps)), STEADY)
    assert (found and (round(found.share, 3), found.streak, found.again)) == (
        expected and (expected.share, expected.streak, expected.again)
    )


def test_a_training_that_counts_flops_is_not_slow() -> None:
    """It makes its steps however long they take: its number says nothing of the machine."""
    assert drift_of(Trained(9, {**printed(500), "training_tflops": 1.21}), STEADY) is None
    assert drift_of(Trained(9, {**printed(500), "training_tflops": 0.0}), STEADY) is not None


def test_a_machine_whose_speed_varies_is_not_called_slow_for_that() -> None:
    noisy = history(1000, 900, 1100, 950, 1050, 1000, 930)
    assert drift_of(Trained(9, printed(900)), noisy) is None
    assert drift_of(Trained(9, printed(500)), noisy) is not None


@pytest.mark.parametrize(
    "other", [printed(700, params=90.1), printed(700, batch=1.0), {"num_steps": 700.0}, {}]
)
def test_only_trainings_of_the_same_size_are_compared(other: Mapping[str, float]) -> None:
    assert drift_of(Trained(9, other), STEADY) is None
    assert drift_of(Trained(9, printed(700)), [Trained(each.number, other) for each in STEADY]) is None


def test_few_trainings_tell_nothing() -> None:
    assert drift_of(Trained(9, printed(500)), STEADY[:4]) is None
    assert drift_of(Trained(9, printed(500)), []) is None


def test_a_step_more_or_less_is_nothing() -> None:
    few = history(20, 20, 20, 20, 20, 20)
    assert drift_of(Trained(9, printed(19)), few) is None
    assert drift_of(Trained(9, printed(17)), few) is not None


def test_experiments_that_were_slow_just_before_are_counted_once_each() -> None:
    twice = [Trained(7, printed(950)), Trained(7, printed(940)), *STEADY]
    found = drift_of(Trained(8, printed(950)), twice)
    assert found is not None
    assert (found.streak, found.again) == (1, True)
    found = drift_of(Trained(9, printed(950)), [Trained(8, printed(950)), *twice])
    assert found is not None
    assert found.streak == 2
    recovered = drift_of(Trained(9, printed(950)), [Trained(8, printed(1000)), *twice])
    assert recovered is not None
    assert recovered.streak == 0


def test_its_own_other_trainings_only_say_that_it_was_trained_again() -> None:
    found = drift_of(Trained(9, printed(950)), [Trained(9, printed(950)), *STEADY])
    assert found is not None
    assert (found.streak, found.again) == (0, False)


def test_a_machine_that_stays_slower_is_what_is_usual_in_the_end() -> None:
    slower = history(*[950.0] * 15, first=10)
    assert drift_of(Trained(99, printed(950)), [*slower, *STEADY]) is None


def test_a_speed_needs_steps_and_seconds() -> None:
    assert speed(printed(600)) == 2.0
    assert (
        speed({"num_steps": 5.0}) is speed({"num_steps": 5.0, "training_seconds": 0.0}) is speed({}) is None
    )


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["num_steps", "training_seconds", "num_params_M", "total_tokens_M"]),
            st.floats(0, 1e6),
        ),
        max_size=12,
    )
)
def test_no_summary_makes_it_fail(summaries: list[dict[str, float]]) -> None:
    before = [Trained(number, numbers) for number, numbers in enumerate(summaries)]
    for trained in before:
        found = drift_of(trained, before)
        assert found is None or found.share > 0.03
