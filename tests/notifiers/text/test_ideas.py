from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop.experiment import Experiment, Family, Goal, Stage, Status
from loop.results.gains import FamilyRate, Lesson
from loop.store.experiments import Idea
from notifiers.channels.slack_blocks import render
from notifiers.channels.telegram import lay_out
from notifiers.text.status import ideas_message
from tests.notifiers.golden import check

KEEP, DISCARD, CRASH = Status.KEEP, Status.DISCARD, Status.CRASH


def idea(number: int, text: str, author: str = "ann") -> Idea:
    return Idea(number, 1, text, author, "", "")


def trial(
    number: int,
    status: Status | None,
    value: float | None = None,
    description: str = "EMBEDDING_LR 0.6 → 0.8",
) -> Experiment:
    return Experiment(
        run_id=1,
        number=number,
        stage=Stage.DECIDED if status else Stage.TRAINING,
        description=description,
        rationale="",
        proposer="search",
        parent="",
        value=value,
        best_before=0.99,
        status=status,
    )


def lesson(
    number: int,
    status: Status,
    gain: float | None,
    noise: float | None,
    description: str = "halve batch size",
    reason: str = "",
) -> Lesson:
    return Lesson("mar12", number, description, None, status, gain, noise, reason)


def told(
    *,
    waiting: Sequence[Idea] = (),
    present: Sequence[Experiment] = (),
    made: Sequence[tuple[Idea, Experiment]] = (),
    families: Sequence[FamilyRate] = (),
    lessons: Sequence[Lesson] = (),
    goal: Goal = Goal.MINIMIZE,
    most: int = 4,
) -> str:
    message = ideas_message(
        waiting=waiting,
        present=present,
        made=made,
        families=families,
        lessons=lessons,
        goal=goal,
        most=most,
    )
    assert (message.block, message.buttons) == ("", ())
    return message.text


def test_it_reads_as_it_did() -> None:
    everything = told(
        waiting=[idea(5, "WIDTH 256"), idea(6, "read\nthe second paper", "bob")],
        present=[trial(12, None)],
        made=[
            (idea(4, "EMBEDDING_LR 0.8"), trial(12, None)),
            (idea(3, "DEPTH 9", "bob"), trial(11, DISCARD, 0.9921)),
        ],
        families=[
            FamilyRate(Family.OPTIMIZER, 12, 3, 0.004268),
            FamilyRate(Family.PRECISION, 1, 0, None),
        ],
        lessons=[
            lesson(4, KEEP, 0.00312, 0.00081, "EMBEDDING_LR 0.6 → 0.8"),
            lesson(2, DISCARD, -0.000124, 0.00081),
        ],
    )
    no_persons = told(present=[trial(3, None)], made=[(idea(1, "DEPTH 9"), trial(2, CRASH))])
    waiting = [idea(number, "WIDTH 256", "") for number in range(1, 8)]
    check(
        "ideas",
        {
            "all of it": everything,
            "nothing at all": told(),
            "an experiment that is no person's idea": no_persons,
            "more than is asked for is counted": told(waiting=waiting, most=2),
            "a lesson without a number": told(lessons=[lesson(1, CRASH, None, 0.0008, "", "because")]),
        },
    )


def test_of_each_kind_as_many_are_shown_as_are_asked_for() -> None:
    rates = [FamilyRate(family, 1, 0, None) for family in Family]
    assert told(families=rates, most=2).count("0 of 1 kept") == 2


@pytest.mark.parametrize(
    ("gain", "noise", "goal", "shown"),
    [
        (0.0031, None, Goal.MINIMIZE, "-0.003100"),
        (0.0031, None, Goal.MAXIMIZE, "+0.003100"),
        (0.0031, 0.0, Goal.MINIMIZE, "-0.003100"),
        (0.0031, 1e-9, Goal.MINIMIZE, "-0.003100"),
        (0.0031, 0.00096, Goal.MINIMIZE, "-0.0031 ± 0.0010"),
        (0.0031, 0.0015, Goal.MINIMIZE, "-0.0031 ± 0.0015"),
        (0.0031, 0.0000042, Goal.MINIMIZE, "-0.003100 ± 0.000004"),
        (-0.00001, 0.0008, Goal.MAXIMIZE, "+0.0000 ± 0.0008"),
        (31.4, 12.3, Goal.MINIMIZE, "-31 ± 12"),
        (31.4, 4.2, Goal.MINIMIZE, "-31 ± 4"),
    ],
)
def test_an_effect_has_the_digits_that_the_noise_leaves_sure(
    gain: float, noise: float | None, goal: Goal, shown: str
) -> None:
    text = told(lessons=[lesson(1, KEEP, gain, noise)], goal=goal)
    assert f"\nhalve batch size: {shown}, keep" in text


def test_a_reason_that_was_recorded_is_told() -> None:
    text = told(
        lessons=[lesson(1, KEEP, 0.01, None), replace(lesson(3, DISCARD, 0.01, None), reason="because")]
    )
    *_, kept, refused = text.splitlines()
    assert kept.endswith(", keep (mar12 #1)")
    assert refused.endswith("discard, because (mar12 #3)")


anything = st.text(max_size=400)
gains = st.none() | st.floats(-1e3, 1e3)
noises = st.none() | st.floats(0, 1e3)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.builds(idea, st.integers(1, 10**6), anything, anything), max_size=8),
    st.lists(
        st.builds(lesson, st.integers(1, 10**4), st.sampled_from([KEEP, CRASH]), gains, noises, anything),
        max_size=8,
    ),
    st.lists(st.tuples(st.sampled_from(Status), gains, anything), max_size=8),
    st.sampled_from(Goal),
)
def test_whatever_was_said_it_is_one_message_of_short_lines(
    ideas: list[Idea], lessons: list[Lesson], tried: list[tuple[Status, float | None, str]], goal: Goal
) -> None:
    made = [
        (idea(number, text), trial(number, status, value, text))
        for number, (status, value, text) in enumerate(tried, 1)
    ]
    present = [trial(99, None, None, tried[0][2])] if tried else []
    rates = [FamilyRate(family, 10_000, 5_000, 1e3) for family in Family]
    text = told(waiting=ideas, present=present, made=made, families=rates, lessons=lessons, goal=goal)
    lines = text.split("\n")
    assert len(lines) <= 28
    assert max(map(len, lines)) <= 160
    assert "\n\n\n" not in text
    assert "-0.000000" not in text
    message = ideas_message(
        waiting=ideas, present=present, made=made, families=rates, lessons=lessons, goal=goal, most=4
    )
    (part,) = lay_out(message)
    assert part.file is None
    assert render(message).file == ""
