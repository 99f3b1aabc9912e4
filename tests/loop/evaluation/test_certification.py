from __future__ import annotations

import math
import random
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.evaluation import certification
from loop.evaluation.certification import (
    MOST_PAIRS,
    Kept,
    Side,
    begins_at,
    certified,
    own_gain,
    pairs_that_fit,
    seconds_for,
    survivors,
    turns,
)
from loop.evaluation.noise import Noise
from loop.evidence import Certified
from loop.experiment import Goal

values = st.lists(st.floats(0.5, 1.5), min_size=2, max_size=6)
NOISE = Noise(0.001, 2)


class TestInterval:
    def test_student_of_the_paired_differences(self) -> None:
        found = certified([1.0, 1.1, 1.2], [0.9, 0.98, 1.1], Goal.MINIMIZE)
        assert found is not None
        half = 4.303 * 0.0115470 / math.sqrt(3)
        assert found.repeats == 3
        assert [found.low, found.gain, found.high] == pytest.approx(
            [0.32 / 3 - half, 0.32 / 3, 0.32 / 3 + half]
        )

    def test_what_only_differs_between_pairs_does_not_count(self) -> None:
        found = certified([1.0, 2.0, 5.0], [0.9, 1.9, 4.9], Goal.MINIMIZE)
        assert found is not None
        assert found.high - found.low == pytest.approx(0)

    @pytest.mark.parametrize("of_head", [[], [0.9]])
    def test_one_pair_says_nothing(self, of_head: list[float]) -> None:
        assert certified([1.0, 1.1], of_head, Goal.MINIMIZE) is None
        assert certified(of_head, [1.0, 1.1], Goal.MINIMIZE) is None
        assert own_gain([1.0, 1.1], of_head, Goal.MINIMIZE, NOISE) is None

    def test_a_number_without_its_pair_does_not_count(self) -> None:
        assert certified([1.0, 1.1, 9.0], [0.9, 0.98], Goal.MINIMIZE) == certified(
            [1.0, 1.1], [0.9, 0.98], Goal.MINIMIZE
        )

    @given(values, values, st.none() | st.just(NOISE))
    def test_the_goal_turns_it_round(
        self, before: list[float], after: list[float], noise: Noise | None
    ) -> None:
        for lower, higher in (
            (certified(before, after, Goal.MINIMIZE), certified(before, after, Goal.MAXIMIZE)),
            (own_gain(before, after, Goal.MINIMIZE, noise), own_gain(before, after, Goal.MAXIMIZE, noise)),
        ):
            assert lower is not None
            assert higher is not None
            assert (higher.gain, higher.low, higher.high) == pytest.approx(
                (-lower.gain, -lower.high, -lower.low)
            )
            assert lower.low <= lower.gain <= lower.high

    def test_the_noise_of_the_run_keeps_two_close_trainings_from_promising_too_much(self) -> None:
        alone = own_gain([1.001, 1.001], [1.0, 1.0], Goal.MINIMIZE, None)
        known = own_gain([1.001, 1.001], [1.0, 1.0], Goal.MINIMIZE, NOISE)
        assert alone is not None
        assert known is not None
        assert alone.low > 0 > known.low

    @pytest.mark.parametrize("freedom", [1, 2, 5, 10, 28])
    def test_the_quantiles_are_those_of_student(self, freedom: int) -> None:
        scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
        scale /= math.sqrt(freedom * math.pi)
        end = certification._STUDENT[freedom - 1]
        steps = 20_000
        places = (end * (step + 0.5) / steps for step in range(steps))
        area = sum((1 + place**2 / freedom) ** (-(freedom + 1) / 2) for place in places)
        assert scale * area * end / steps == pytest.approx(0.475, abs=5e-5)

    @pytest.mark.parametrize(("of_without", "of_head"), [(2, 2), (2, 3), (2, 6), (3, 3)])
    @pytest.mark.parametrize("heavy", [False, True])
    def test_an_own_gain_is_covered(self, of_without: int, of_head: int, *, heavy: bool) -> None:
        chance = random.Random(1)

        def errors(count: int) -> list[float]:
            scales = [(50, 6, 1)[(chance.random() > 0.04) + (chance.random() > 0.25)] for _ in range(count)]
            return [chance.gauss(0, scale if heavy else 1) for scale in scales]

        covered = 0
        for _ in range(2000):
            found = own_gain(errors(of_without), errors(of_head), Goal.MINIMIZE, Noise(1.0, 2))
            assert found is not None
            covered += found.low <= 0 <= found.high
        assert covered >= 0.93 * 2000


class TestOrder:
    @given(st.integers(0, 12), st.integers(1, 9), st.integers())
    def test_head_and_baseline_alternate(self, pairs: int, lanes: int, seed: int) -> None:
        made = turns(pairs, lanes, seed=seed)
        for side in Side:
            assert [turn.pair for turn in made if turn.side is side] == list(range(pairs))
        for lane in range(lanes):
            own = [turn.side for turn in made[lane::lanes]]
            runs = [len(list(run)) for _, run in groupby(own)]
            assert max(runs, default=0) <= 2
            assert abs(own.count(Side.HEAD) - own.count(Side.BASELINE)) <= 1

    @given(st.integers(1, 6), st.integers())
    def test_a_steady_drift_hits_both_equally(self, twice: int, seed: int) -> None:
        made = turns(2 * twice, 1, seed=seed)
        when = {side: sum(at for at, turn in enumerate(made) if turn.side is side) for side in Side}
        assert when[Side.HEAD] == when[Side.BASELINE]

    def test_chance_decides_which_is_first_and_the_seed_repeats_it(self) -> None:
        orders = [turns(6, 1, seed=seed) for seed in range(40)]
        assert orders == [turns(6, 1, seed=seed) for seed in range(40)]
        assert len(set(orders)) == 8
        assert 10 < sum(order[0].side is Side.HEAD for order in orders) < 30


class TestTime:
    def test_as_many_pairs_as_fit_and_never_fewer_than_asked_for(self) -> None:
        assert pairs_that_fit(2400, 300, 1, least=3) == 4
        assert pairs_that_fit(2399, 300, 1, least=3) == 3
        assert pairs_that_fit(0, 300, 1, least=3) == 3
        assert pairs_that_fit(-60, 300, 1, least=3) == 3
        assert pairs_that_fit(9000, 300, 1, least=3) == MOST_PAIRS
        assert pairs_that_fit(9000, 300, 1, least=8) == 8
        assert pairs_that_fit(900, 300, 4, least=3) == 6

    def test_it_begins_early_enough_for_the_least(self) -> None:
        assert begins_at(10_000, 35, 330, 1, least=3) == 10_000 - 35 * 60 - 330
        assert begins_at(10_000, 5, 330, 1, least=3) == 10_000 - 6 * 330 - 330
        assert begins_at(10_000, 5, 330, 4, least=3) == 10_000 - 2 * 330 - 330

    @given(st.integers(1, 8), st.floats(1, 1000), st.integers(1, 8), st.floats(0, 60))
    def test_what_trains_when_it_begins_leaves_time_enough(
        self, least: int, seconds: float, lanes: int, minutes: float
    ) -> None:
        begin = begins_at(0, minutes, seconds, lanes, least=least)
        assert seconds_for(2 * least, seconds, lanes) <= -(begin + seconds) + 1e-6


class TestSurvivors:
    OWN = Certified(0.002, 0.001, 0.003, 3)

    def test_the_recorded_gain_counts_until_the_own_one_is_known(self) -> None:
        keeps = [
            Kept(1, 0.01),
            Kept(2, 0.001),
            Kept(3, 0.01, Certified(0.001, -0.001, 0.003, 3)),
            Kept(4, 0.0001, self.OWN),
        ]
        assert survivors(keeps, NOISE) == (1, 4)
        assert survivors(keeps, None) == (4,)

    def test_nothing_is_known_without_noise_and_repeats(self) -> None:
        assert survivors([Kept(1, 0.01)], None) is None
        assert survivors([], NOISE) == ()
