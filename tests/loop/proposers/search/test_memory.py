from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.proposers.search.memory import MemoryModel, MemoryUse, fit_memory, memory_of

H100 = 81559.0
# depth, width, GiB: what six trainings of karpathy/autoresearch on an H100 took (branch exp/H100/mar8)
TABLE = ((8, 512, 44.0), (10, 512, 53.7), (8, 640, 53.9), (9, 640, 60.2), (10, 640, 66.2), (11, 640, 72.6))


def training(depth: int, width: int, peak: float | None) -> MemoryUse:
    return MemoryUse(depth * width, None if peak is None else 1024 * peak)


MEASURED = [training(*row) for row in TABLE]


@pytest.mark.parametrize("left_out", MEASURED)
def test_the_others_predict_each_within_a_gibibyte(left_out: MemoryUse) -> None:
    others = [each for each in MEASURED if each != left_out]
    assert left_out.peak is not None
    assert fit_memory(others, others[0], H100).peak(left_out.size) == pytest.approx(left_out.peak, abs=1024)


def test_a_few_are_enough_to_leave_alone_what_does_not_fit_and_nothing_that_does() -> None:
    for count in (1, 2, 3, 6):
        for some in combinations(MEASURED, count):
            model = fit_memory(some, some[-1], H100)
            for each in some:
                assert model.fits(each.size)
            assert not model.fits(12 * 768)  # 93 GiB by the line through all
            assert not model.fits(10 * 896)
            assert model.fits(8 * 640)


def test_without_a_device_what_ran_out_of_memory_is_the_limit() -> None:
    baseline = training(8, 512, 44.0)
    full = training(9, 640, None)
    model = fit_memory([baseline, full], baseline, None)
    assert not model.fits(full.size)
    assert not model.fits(10 * 512)  # more than half way
    assert model.fits(9 * 512)
    assert model.fits(baseline.size)


def test_without_any_limit_memory_grows_step_by_step() -> None:
    baseline, larger = training(8, 512, 44.0), training(8, 640, 53.9)
    assert fit_memory([baseline], baseline, None).fits(larger.size)
    assert not fit_memory([baseline], baseline, None).fits(10 * 640)
    assert fit_memory([baseline, larger], baseline, None).fits(10 * 640)


def test_what_ran_out_of_memory_although_larger_ones_ran_says_nothing() -> None:
    trainings = [*MEASURED, training(8, 512, None)]
    assert fit_memory(trainings, MEASURED[0], None).fits(11 * 640)


def test_code_that_takes_more_memory_moves_the_line() -> None:
    greedy = MemoryUse(8 * 512, 60 * 1024.0)
    assert fit_memory([*MEASURED, greedy], greedy, H100).peak(greedy.size) == pytest.approx(60 * 1024)
    assert not fit_memory([*MEASURED, greedy], greedy, H100).fits(11 * 640 * 1.1)


def test_nothing_known_is_no_limit() -> None:
    assert fit_memory([], None, H100) == MemoryModel()
    assert fit_memory([training(8, 512, None)], None, H100).fits(1e12)


@pytest.mark.parametrize(
    ("device", "memory"),
    [
        ("NVIDIA H100 80GB HBM3, 81559 MiB", 81559.0),
        ("NVIDIA A100-SXM4-40GB, 40960 MiB; NVIDIA T4, 15360 MiB", 15360.0),
        ("no GPU: trainings run on the CPU", None),
        ("", None),
    ],
)
def test_the_memory_of_a_device_is_that_of_its_smallest_gpu(device: str, memory: float | None) -> None:
    assert memory_of(device) == memory


sizes = st.floats(1.0, 1e9)
trainings = st.builds(MemoryUse, sizes, st.none() | st.floats(1.0, 1e6))


@given(st.lists(trainings, max_size=6), st.none() | trainings, st.none() | st.floats(1.0, 1e6), sizes)
def test_any_trainings_give_a_line_that_rises(
    known: list[MemoryUse], best: MemoryUse | None, device: float | None, size: float
) -> None:
    model = fit_memory(known, best, device)
    assert 0 <= model.peak(size) <= model.peak(2 * size) < math.inf
    assert model.fits(size) or not model.fits(2 * size)
    ran = [each.size for each in known if each.peak]
    assert all(model.fits(0.999 * each) for each in ran)
