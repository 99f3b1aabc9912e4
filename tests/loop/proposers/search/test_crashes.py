from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from loop.experiment import Ending, Experiment, Status, Training
from loop.program.constants import find_constants
from loop.proposers.search.history import read_history
from loop.proposers.search.space import Scalar, find_axes, read_program
from tests.loop.proposers.contexts import trial

SOURCE = "DEPTH = 8\nHEAD_DIM = 128\nTOTAL_BATCH_SIZE = 2**18\nLR = 0.04\nUSE_BIAS = True\n"
VALUES: dict[str, Scalar] = {
    "DEPTH": 8,
    "HEAD_DIM": 128,
    "TOTAL_BATCH_SIZE": 2**18,
    "LR": 0.04,
    "USE_BIAS": True,
}
Change = Mapping[str, Scalar]

OUT_OF_MEMORY = "torch.OutOfMemoryError: CUDA out of memory."
ASSERTION = "AssertionError: not divisible"


def crash(error: str = "", /, **changed: Scalar) -> Experiment:
    died = Training(1, ending=Ending.EXITED, exit_code=1, error=error)
    return replace(trial(1, "", VALUES | changed, None, Status.CRASH), training=died)


def ran(**changed: Scalar) -> Experiment:
    return trial(1, "", VALUES | changed, 2.0, Status.DISCARD)


def closed(*tried: Experiment, **changed: Scalar) -> bool:
    """Whether a change of the best program is left alone after these experiments."""
    axes = find_axes(find_constants(SOURCE), ())
    numbered = [replace(each, number=number) for number, each in enumerate(tried, start=1)]
    history = read_history(
        [trial(0, "", VALUES, 1.0, Status.KEEP), *numbered], axes, read_program(SOURCE, {}, ()), None
    )
    return not history.is_open([(axis, changed[axis.key[0]]) for axis in axes if axis.key[0] in changed])


def test_one_part_alone_is_to_blame_and_all_beyond_it() -> None:
    assert closed(crash(DEPTH=9), DEPTH=9)
    assert closed(crash(DEPTH=9), DEPTH=10, LR=0.05)
    assert not closed(crash(DEPTH=9), DEPTH=7)


def test_a_batch_that_was_lowered_is_to_blame_and_not_the_rates_with_it() -> None:
    tried = crash(ASSERTION, TOTAL_BATCH_SIZE=2**17, LR=0.05)
    assert closed(tried, TOTAL_BATCH_SIZE=2**17)
    assert closed(tried, TOTAL_BATCH_SIZE=2**17, LR=0.03)
    assert not closed(tried, TOTAL_BATCH_SIZE=2**19)
    assert not closed(tried, LR=0.05)


def test_a_full_memory_is_because_of_what_was_raised() -> None:
    tried = crash(OUT_OF_MEMORY, DEPTH=9, TOTAL_BATCH_SIZE=2**17, USE_BIAS=False)
    assert closed(tried, DEPTH=9)
    assert not closed(tried, TOTAL_BATCH_SIZE=2**17, USE_BIAS=False)


def test_so_is_a_training_that_was_killed() -> None:
    killed = Training(1, ending=Ending.DEADLINE, error="step 3")
    tried = replace(crash(DEPTH=9, USE_BIAS=False), training=killed)
    assert closed(tried, DEPTH=9)
    assert not closed(tried, USE_BIAS=False)


def test_while_nothing_tells_two_parts_apart_both_together_are_to_blame() -> None:
    tried = crash(DEPTH=9, HEAD_DIM=256, LR=0.05)
    assert closed(tried, DEPTH=9, HEAD_DIM=256)
    assert not closed(tried, DEPTH=9)
    assert not closed(tried, HEAD_DIM=256)


def test_a_training_that_ran_clears_a_part() -> None:
    tried = (crash(DEPTH=9, HEAD_DIM=256), ran(HEAD_DIM=256))
    assert closed(*tried, DEPTH=9)
    assert not closed(*tried, HEAD_DIM=256)


def test_a_second_crash_tells_which_part_both_have() -> None:
    tried = (crash(ASSERTION, DEPTH=9, HEAD_DIM=256), crash(ASSERTION, DEPTH=10, USE_BIAS=False))
    assert closed(*tried, DEPTH=9)
    assert closed(*tried, DEPTH=10, LR=0.05)
    assert not closed(*tried, HEAD_DIM=256)
    assert not closed(*tried, USE_BIAS=False)


def test_rates_are_to_blame_where_nothing_else_is() -> None:
    tried = (crash(LR=0.1, DEPTH=9), ran(DEPTH=9))
    assert closed(*tried, LR=0.1)
    assert closed(*tried, LR=0.12, USE_BIAS=False)
    assert not closed(*tried, LR=0.09)


def test_parts_that_ran_alone_are_to_blame_together() -> None:
    tried = (crash(DEPTH=9, HEAD_DIM=256), ran(DEPTH=9), ran(HEAD_DIM=256))
    assert closed(*tried, DEPTH=9, HEAD_DIM=256)
    assert not closed(*tried, DEPTH=9, LR=0.05)


@pytest.mark.parametrize("changed", [{"DEPTH": 9}, {"USE_BIAS": False, "LR": 0.05}])
def test_what_ran_another_time_is_not_left_alone(changed: dict[str, Scalar]) -> None:
    assert not closed(crash(**changed), ran(**changed), **changed)
