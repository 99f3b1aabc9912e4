from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loop.experiment import Experiment, Status
from loop.proposers.protocol import EVERY, SearchMode, idle, last_gain, search_mode
from tests.loop.proposers.contexts import trial

STATUSES = st.lists(st.sampled_from([*Status, None]), max_size=40)


def trials(*statuses: Status | None) -> list[Experiment]:
    return [trial(number, "x", {}, None, status) for number, status in enumerate(statuses)]


def test_urges_take_turns_until_something_is_kept() -> None:
    run = trials(Status.KEEP, *[Status.DISCARD] * (5 + 5 * EVERY))
    seen = [search_mode(run[:length], after=5) for length in range(1, len(run) + 1)]
    assert seen[:5] == [None] * 5
    assert seen[5 : 5 + 5 * EVERY : EVERY] == [*SearchMode, SearchMode.COMBINATION]
    assert seen[5 : 5 + EVERY] == [SearchMode.COMBINATION] * EVERY
    assert search_mode([*run, *trials(Status.KEEP)], after=5) is None


def test_what_has_no_verdict_is_not_held_against_a_run() -> None:
    run = trials(Status.KEEP, Status.DISCARD, Status.SKIP, Status.CRASH, None)
    assert idle(run) == 2
    assert last_gain(run) == 0


@given(STATUSES, STATUSES, st.integers(1, 20))
def test_only_what_came_after_the_last_keep_counts(
    before: list[Status | None], after: list[Status | None], limit: int
) -> None:
    later = [status for status in after if status is not Status.KEEP]
    run = trials(*before, Status.KEEP, *later)
    assert idle(run) == sum(status in (Status.DISCARD, Status.CRASH) for status in later)
    assert last_gain(run) == len(before)
    assert (search_mode(run, after=limit) is not None) == (idle(run) >= limit)
