from __future__ import annotations

import math
import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.evaluation.noise import Noise, in_sigmas, noise_of

numbers = st.lists(st.floats(-1, 1), max_size=5)


@pytest.mark.parametrize(
    "groups", [[], [[]], [[1.0]], [[1.0, 1.1]], [[1.0], [2.0], [3.0]], [[1.0, 1.1, math.nan], [2.0]]]
)
def test_one_repeat_is_not_enough(groups: list[list[float]]) -> None:
    assert noise_of(groups) is None


def test_three_trainings_of_the_baseline_are_enough() -> None:
    noise = noise_of([[1.0, 1.001, 1.004]])
    assert noise is not None
    assert noise.repeats == 2
    assert noise.sigma == pytest.approx(0.003 / 0.9539)


def test_what_comes_out_the_same_has_no_noise() -> None:
    assert noise_of([[1.0, 1.0, 1.0]]) == Noise(0.0, 2)


@given(st.lists(numbers, max_size=4), st.floats(-5, 5))
def test_only_differences_within_a_program_count(groups: list[list[float]], shift: float) -> None:
    moved = noise_of([[value + shift for value in group] for group in groups])
    found = noise_of(groups)
    assert (moved is None) is (found is None) is (sum(max(0, len(group) - 1) for group in groups) < 2)
    if moved and found:
        assert moved.sigma == pytest.approx(found.sigma, abs=1e-9)


@given(st.lists(numbers, max_size=4), st.randoms(use_true_random=False))
def test_the_order_does_not_count(groups: list[list[float]], chance: random.Random) -> None:
    other = [chance.sample(group, len(group)) for group in groups]
    chance.shuffle(other)
    assert noise_of(other) == noise_of(groups)


def test_a_program_with_many_repeats_does_not_outvote_the_others() -> None:
    one = [0.0, 0.1] * 3
    others = [[0.0, 0.01]] * 7
    found = noise_of([one, *others])
    assert found is not None
    assert found.sigma == pytest.approx(0.01 / 0.9539)


@pytest.mark.parametrize("outliers", [0.0, 0.05])
def test_the_standard_deviation_comes_out_whatever_a_few_trainings_do(outliers: float) -> None:
    chance = random.Random(5)
    found = []
    for _ in range(400):
        groups = [
            [chance.gauss(0, 0.05 if chance.random() < outliers else 0.001) for _ in range(size)]
            for size in (5, 3, 3, 2, 2)
        ]
        noise = noise_of(groups)
        assert noise is not None
        found.append(noise.sigma)
    assert 0.0009 < median(found) < 0.0013
    assert sorted(found)[-20] < 0.003


def test_a_gain_is_measured_in_what_chance_makes_of_two_trainings() -> None:
    assert in_sigmas(0.002 * math.sqrt(2), Noise(0.001, 2)) == pytest.approx(2)
    assert in_sigmas(-0.001 * math.sqrt(2), Noise(0.001, 2)) == pytest.approx(-1)


def test_without_noise_any_gain_is_beyond_it() -> None:
    assert in_sigmas(1e-6, Noise(0.0, 2)) == math.inf
    assert in_sigmas(-1e-6, Noise(0.0, 2)) == -math.inf
    assert in_sigmas(0.0, Noise(0.0, 2)) == 0
