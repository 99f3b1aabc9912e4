from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.evidence import Finding, Invalidated, Rule, Severity
from loop.experiment import Experiment, Stage, Status
from loop.proposers.prompt.history import BLOCK, SEPARATOR, blocks, recent, row, tokens
from loop.proposers.protocol import Context
from tests.loop.proposers.histories import past, told
from tests.loop.trainings import trained

MUCH = 10**6
K, D, C, S = Status.KEEP, Status.DISCARD, Status.CRASH, Status.SKIP

verdicts = st.lists(st.sampled_from([K, D, D, D, C, S]), min_size=1, max_size=90)


def numbers(text: str) -> set[int]:
    """The experiments that have a row in the text."""
    return {int(line[1:].split()[0]) for line in text.splitlines() if line.startswith("#")}


def rows(context: Context, room: int) -> list[int]:
    told = [number for block in blocks(context, room) for number in numbers(block)]
    return sorted([*told, *(e.number for e in recent(context))])


@given(verdicts, st.integers(0, 6000))
def test_blocks_stay_within_their_room(statuses: list[Status], room: int) -> None:
    assert tokens(SEPARATOR.join(blocks(told(past(statuses)), room))) <= room


@given(verdicts)
def test_with_room_everything_is_told_once(statuses: list[Status]) -> None:
    context = told(past(statuses))
    assert rows(context, MUCH) == list(range(len(statuses)))


@given(st.lists(st.sampled_from([K, D, D, C]), min_size=45, max_size=110), st.integers(200, 3000))
@settings(max_examples=10)
def test_what_was_told_begins_in_the_same_way_until_a_block_is_full(
    statuses: list[Status], room: int
) -> None:
    experiments = past(statuses)
    before: tuple[str, ...] = ()
    shifted = 0
    for count in range(1, len(experiments) + 1):
        now = blocks(told(experiments[:count]), room)
        if now[: len(before)] != before:
            assert count % BLOCK == 0
            shifted += 1
        before = now
    assert shifted <= len(experiments) // BLOCK


def test_dropping_the_oldest_is_seldom() -> None:
    experiments = past([K, D, D, C] * 250)
    shifts, before = 0, blocks(told(experiments[:BLOCK]), 4000)
    for count in range(BLOCK, len(experiments) + 1, BLOCK):
        now = blocks(told(experiments[:count]), 4000)
        shifts += now[: len(before)] != before
        before = now
    assert 0 < shifts < 30  # of 50 blocks; each drops half of what outgrew its room


def test_details_go_first_then_what_was_not_kept_then_the_oldest() -> None:
    context = told(past([K, D, D, D] * 25))
    much, less, least = (blocks(context, room) for room in (MUCH, 2400, 700))
    assert "+line 4, other" in much[0]
    assert "because of 4" in much[0]
    assert "+line 4, other" not in less[0]
    assert "+line 96, other" in less[-1]
    assert (
        numbers(less[0]) == numbers(much[0]) - {n for n in range(20) if n % 4} or len(numbers(less[0])) == 20
    )
    assert min(numbers("\n".join(least))) > 0


def test_more_keeps_than_the_reader_has_diffs_of_change_nothing_each_time() -> None:
    experiments = past([K] * 300)
    changes = 0
    before = blocks(told(experiments[:100]), MUCH)
    for count in range(104, 301, 4):
        now = blocks(told(experiments[:count]), MUCH)
        changes += now[: len(before)] != before
        before = now
    assert 0 < changes <= 10
    assert "+line 299, other" in before[-1]
    assert "+line 0, other" not in before[0]


def test_a_run_longer_than_the_reader_shows_keeps_its_beginning_for_a_while() -> None:
    experiments = past([K, *[D] * 19] * 65)
    starts = [min(numbers(blocks(told(experiments[:count]), MUCH)[0])) for count in range(950, 1300, 29)]
    assert set(starts) == {0, 100, 200, 300}
    assert starts == sorted(starts)


def test_what_is_not_decided_is_recent() -> None:
    running = replace(past([D] * 41)[-1], stage=Stage.TRAINING, status=None, value=None)
    context = told([*past([D] * 40), running])
    assert [e.number for e in recent(context)] == [40]
    assert row(context, running) == "#40 under way optimizer: idea 40"


def test_nothing_is_told_of_a_run_that_begins() -> None:
    assert blocks(told([]), MUCH) == ()
    assert recent(told([])) == []


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1, "#1 keep 0.998000 (+0.001000) optimizer: idea 1"),
        (2, "#2 discard 0.998200 (-0.000200) schedule: idea 2"),
        (3, "#3 crash architecture: idea 3 | ideaError 3"),
        (4, "#4 skip optimizer: idea 4"),
    ],
)
def test_a_row_says_it_in_one_line(number: int, expected: str) -> None:
    experiments: Sequence[Experiment] = past([K, K, D, C, S])
    assert row(told(experiments), experiments[number]) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": Status.QUARANTINE}, "quarantine 0.998200 schedule: idea 2 | not believed yet: doubt"),
        (
            {"invalidated": Invalidated.NOT_BELIEVED},
            "discard 0.998200 schedule: idea 2 | not believed: doubt",
        ),
        (
            {"invalidated": Invalidated.REJECTED, "reason": "rejected by ada"},
            "discard 0.998200 schedule: idea 2 | rejected by a person: doubt",
        ),
        (
            {"invalidated": Invalidated.TRIED_AGAIN, "doubts": ()},
            "discard 0.998200 schedule: idea 2 | it was not built on the best of now: to be tried again",
        ),
    ],
)
def test_a_row_says_why_a_number_counts_for_nothing(changes: dict[str, Any], expected: str) -> None:
    experiments = past([K, K, D])
    doubted = replace(experiments[2], **{"doubts": ("doubt",)} | changes)
    assert row(told(experiments), doubted) == f"#2 {expected}"


def flagged(experiment: Experiment, *messages: str, **changes: Any) -> Experiment:
    found = tuple(Finding(Rule.FILES, 7, message, Severity.FLAG) for message in messages)
    return replace(experiment, findings=found, **changes)


OPENED = "open() reads a file of the data."
SET = "os.environ is changed."


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([OPENED], "flagged: open() reads a file of the data"),
        ([OPENED, OPENED], "flagged: open() reads a file of the data"),
        ([OPENED, SET, "x"], "flagged: open() reads a file of the data and 2 more"),
        (["word " * 100], f"flagged: {'word ' * 23}word…"),
        (["two\nlines\x1b[2J"], "flagged: two lines"),
    ],
)
def test_a_row_says_what_the_guard_flagged(found: list[str], expected: str) -> None:
    experiment = flagged(past([K, K])[1], *found)
    assert (
        row(told([experiment]), experiment) == f"#1 keep 0.998000 (+0.001000) optimizer: idea 1 | {expected}"
    )


def test_findings_come_after_the_error_and_the_doubts() -> None:
    _, crashed, doubted = (flagged(experiment, SET) for experiment in past([K, C, D]))
    doubted = replace(doubted, status=Status.QUARANTINE, doubts=("doubt",))
    context = told([crashed, doubted])
    assert row(context, crashed).endswith(" | ideaError 1 | flagged: os.environ is changed")
    assert row(context, doubted).endswith(" | not believed yet: doubt | flagged: os.environ is changed")


def test_what_the_parent_had_already_is_told_of_the_parent_alone() -> None:
    _, parent, child, grandchild = past([K, K, D, D])
    parent = flagged(parent, SET, commit="c1")
    child = flagged(child, OPENED, SET, parent="c1", commit="c2")
    grandchild = flagged(grandchild, SET, parent="c1", commit="c3")
    context = told([parent, child, grandchild])
    assert row(context, parent).endswith(" | flagged: os.environ is changed")
    assert row(context, child).endswith(" | flagged: open() reads a file of the data")
    assert "flagged" not in row(context, grandchild)


@given(st.text(), st.text())
def test_a_row_is_one_line_whatever_was_written(description: str, error: str) -> None:
    experiment = trained(replace(past([K, C])[1], description=description), error=error)
    experiment = flagged(experiment, description, error)
    assert "\n" not in row(told([experiment]), experiment)
