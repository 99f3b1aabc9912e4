from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from loop.experiment import Experiment, Status
from loop.proposers.researcher import REPAIRS, crash_to_repair
from tests.loop.proposers.contexts import trial


def crash(number: int, repairs: int | None = None) -> Experiment:
    return replace(trial(number, "x", {}, None, Status.CRASH), repairs=repairs)


def under_way(number: int, repairs: int | None = None) -> Experiment:
    return replace(trial(number, "x", {}, None, None), repairs=repairs)


def good(number: int) -> Experiment:
    return trial(number, "x", {}, 1.0, Status.DISCARD)


def test_a_crash_is_mended_while_the_next_experiment_trains_or_after_it() -> None:
    assert crash_to_repair([good(0), crash(1)]) == crash(1)
    assert crash_to_repair([good(0), crash(1), under_way(2)]) == crash(1)
    assert crash_to_repair([good(0), crash(1), good(2)]) == crash(1)
    assert crash_to_repair([good(0), crash(1), crash(2)]) == crash(1)
    assert crash_to_repair([good(0), crash(1), crash(2)], dropped={1}) == crash(2)


def test_nothing_else_is_mended() -> None:
    assert crash_to_repair([]) is None
    assert crash_to_repair([under_way(0)]) is None
    assert crash_to_repair([good(0), crash(1), good(2), good(3), under_way(4)]) is None
    assert crash_to_repair([good(0), crash(1), under_way(2, repairs=1)]) is None


def test_an_idea_is_dropped_after_two_mendings() -> None:
    story = [good(0), crash(1), good(2), crash(3, repairs=1)]
    assert crash_to_repair(story) == crash(3, repairs=1)
    assert crash_to_repair([*story, crash(4, repairs=3)]) is None
    assert crash_to_repair([*story, crash(4, repairs=3), good(5)]) is None


@given(st.lists(st.tuples(st.sampled_from(Status), st.booleans()), max_size=40))
def test_however_a_run_goes_each_crash_is_mended_once_and_no_idea_often(
    outcomes: list[tuple[Status, bool]],
) -> None:
    """The next experiment is proposed while one trains, or when it has ended early."""
    story: list[Experiment] = [under_way(0)]
    for number, (status, early) in enumerate(outcomes, start=1):
        decided = replace(story[-1], status=status)
        crashed = crash_to_repair([*story[:-1], decided] if early else story)
        story[-1:] = [decided, under_way(number, repairs=crashed.number if crashed else None)]
    repaired = [e.repairs for e in story if e.repairs is not None]
    assert len(repaired) == len(set(repaired))
    for experiment in story:
        depth = 0
        while experiment.repairs is not None:
            experiment, depth = story[experiment.repairs], depth + 1  # noqa: PLW2901
            assert experiment.status is Status.CRASH
        assert depth <= REPAIRS
    depths = [e for e in story[:-2] if e.status is Status.CRASH and e.repairs is None]
    assert {e.number for e in depths} <= set(repaired)  # no first crash is missed
