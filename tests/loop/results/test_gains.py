from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import astuple, replace
from pathlib import Path
from statistics import median

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop.evaluation.noise import read_noise
from loop.evidence import Invalidated, RepeatFor
from loop.experiment import Experiment, Family, Goal, Run, Stage, Status
from loop.gain import gain
from loop.results.gains import (
    FamilyRate,
    Lesson,
    bests_before,
    effect,
    hit_rates,
    lessons,
    lessons_of_others,
    most_valuable,
    near_misses,
    noise,
    rates_of,
    reason_of,
)
from loop.store.evidence.repeats import Repeats
from loop.store.experiments import Row, row_of
from loop.store.journal import Journal
from tests.loop.results.test_report import row
from tests.loop.store.test_journal import make_run
from tests.loop.store.test_repeats import begin, ended

VALUES = st.floats(allow_nan=False, allow_infinity=False)


def test_a_gain_is_free_of_dust_and_of_minus_zero() -> None:
    assert gain(0.9979, 0.969686, Goal.MINIMIZE) == 0.028214
    assert gain(0.5, 0.7, Goal.MAXIMIZE) == 0.2
    assert str(gain(0.5, 0.5, Goal.MINIMIZE)) == str(gain(0.0, -0.0, Goal.MAXIMIZE)) == "0.0"


def test_a_gain_has_no_scale_below_which_it_is_none() -> None:
    assert gain(3e-12, 2.5e-12, Goal.MINIMIZE) == 5e-13
    assert gain(0.5, 0.500000000001, Goal.MINIMIZE) == -1e-12


@given(VALUES, VALUES)
def test_what_is_a_gain_for_one_goal_is_a_loss_for_the_other(before: float, after: float) -> None:
    less = gain(before, after, Goal.MINIMIZE)
    assert less == -gain(before, after, Goal.MAXIMIZE)
    assert (less > 0) == (after < before)


def test_the_best_before_each_row_leaves_out_itself_and_what_was_not_kept() -> None:
    rows = [
        row(0, 0.99),
        row(1, 0.5, Status.DISCARD),
        row(2, None, Status.CRASH),
        row(3, 0.98),
        row(4, 0.985),
    ]
    assert list(bests_before(rows, Goal.MINIMIZE)) == [None, 0.99, 0.99, 0.99, 0.98]
    sooner = replace(row(4, 0.985, Status.DISCARD), best_before=0.99)  # another lane kept the third after it
    assert list(bests_before([*rows[:4], sooner], Goal.MINIMIZE)) == [None, 0.99, 0.99, 0.99, 0.99]


KEEP, DISCARD, CRASH, SKIP = Status.KEEP, Status.DISCARD, Status.CRASH, Status.SKIP
BEST = 0.99


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "state.db")
    yield journal
    journal.close()


def trial(number: int, status: Status | None, value: float | None = None, *, run_id: int = 1) -> Experiment:
    """Return an experiment that was judged against `BEST`."""
    return Experiment(
        run_id=run_id,
        number=number,
        stage=Stage.DECIDED if status else Stage.TRAINING,
        description=f"idea {number}",
        rationale="",
        proposer="search",
        parent="",
        value=value,
        best_before=BEST if number else None,
        status=status,
        reason="because",
        family=Family.BATCH if number else None,
    )


def make_trials(journal: Journal, tag: str, *trials: tuple[Status | None, float | None]) -> Run:
    """Add a run with these experiments after a baseline."""
    run = make_run(journal, tag)
    journal.record(
        *(
            trial(number, status, value, run_id=run.id)
            for number, (status, value) in enumerate([(KEEP, BEST), *trials])
        )
    )
    return run


# Effects and their noise


@pytest.mark.parametrize(("goal", "better"), [(Goal.MINIMIZE, 0.003), (Goal.MAXIMIZE, -0.003)])
def test_an_effect_is_positive_where_the_metric_became_better(goal: Goal, better: float) -> None:
    assert effect(trial(1, KEEP, 0.987), goal) == better
    assert effect(trial(1, CRASH), goal) is None
    assert effect(trial(0, KEEP, 0.987), goal) is None


@pytest.mark.parametrize(
    ("status", "value", "best", "reason"),
    [
        (KEEP, 0.9, None, "the first number"),
        (KEEP, 0.9, 1.0, "improved"),
        (DISCARD, 1.1, 1.0, "worse"),
        (DISCARD, 1.0, 1.0, "no gain"),
        (SKIP, None, 1.0, "skipped by command"),
        (CRASH, None, 1.0, ""),
    ],
)
def test_the_reason_of_a_verdict_is_what_was_recorded_or_what_the_numbers_say(
    status: Status, value: float | None, best: float | None, reason: str
) -> None:
    judged = replace(trial(1, status, value), best_before=best, reason="")
    assert reason_of(judged, Goal.MINIMIZE) == reason
    assert reason_of(replace(judged, reason="because"), Goal.MINIMIZE) == "because"


def test_what_is_not_believed_has_no_effect() -> None:
    assert effect(trial(1, Status.QUARANTINE, 0.9), Goal.MINIMIZE) is None
    for why in Invalidated:
        rejected = replace(trial(1, DISCARD, 0.9), invalidated=why)
        assert effect(rejected, Goal.MINIMIZE) is None
        assert effect(row_of(rejected), Goal.MINIMIZE) is None


def discards(effects: Sequence[float]) -> list[Experiment]:
    return [trial(number, DISCARD, BEST - change) for number, change in enumerate(effects, 1)]


def test_noise_is_unknown_with_few_results() -> None:
    some = discards([-0.001 * number for number in range(9)])
    others = [trial(20, KEEP, 0.98), trial(21, CRASH), trial(22, SKIP), trial(23, DISCARD, None)]
    assert noise([*some, *others], Goal.MINIMIZE) is None
    assert noise(discards([-0.001 * number for number in range(10)]), Goal.MINIMIZE) is not None


changes = st.lists(st.integers(-1000, 0).map(lambda step: step / 10_000), min_size=10, max_size=30)


@settings(deadline=None, max_examples=50)
@given(changes, st.randoms(use_true_random=False), st.integers(1, 50), st.integers(-100, 0))
def test_noise_is_a_spread(effects: list[float], chance: random.Random, factor: int, shift: int) -> None:
    spread = noise(discards(effects), Goal.MINIMIZE)
    assert spread is not None
    assert spread >= 0
    moved = [factor * change + shift / 100 for change in chance.sample(effects, len(effects))]
    assert noise(discards(moved), Goal.MINIMIZE) == pytest.approx(factor * spread, abs=1e-6)
    mirrored = [replace(e, value=2 * BEST - (e.value or 0.0)) for e in discards(effects)]
    assert noise(mirrored, Goal.MAXIMIZE) == pytest.approx(spread, abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(changes, st.lists(st.floats(-1e6, -1), max_size=4))
def test_a_few_disasters_do_not_make_a_noise(effects: list[float], disasters: list[float]) -> None:
    spread = noise(discards([*effects, *disasters]), Goal.MINIMIZE)
    assert spread is not None
    assert spread <= 1.4826 * 0.1  # no more than all of the others differ by


def climb(chance: random.Random, count: int, *, sigma: float, harm: float) -> list[Experiment]:
    """Return a run whose changes do nothing, or harm by `harm` on average; each is measured with `sigma`."""
    best, made = BEST + chance.gauss(0, sigma), []
    for number in range(1, count):
        damage = chance.expovariate(1 / harm) if harm else 0.0
        value = BEST + damage + chance.gauss(0, sigma)
        status = KEEP if value < best else DISCARD
        made.append(replace(trial(number, status, value), best_before=best))
        best = min(best, value)
    return made


@pytest.mark.parametrize(("count", "least", "most"), [(30, 0.75, 1.2), (100, 0.9, 1.15)])
def test_where_nothing_helps_or_harms_the_noise_is_that_of_a_measurement(
    count: int, least: float, most: float
) -> None:
    spreads = [
        noise(climb(random.Random(seed), count, sigma=0.0004, harm=0.0), Goal.MINIMIZE) for seed in range(60)
    ]
    middle = median(spread for spread in spreads if spread is not None)
    assert least <= middle / 0.0004 <= most


def test_where_changes_harm_the_noise_is_an_upper_bound() -> None:
    for seed in range(30):
        spread = noise(climb(random.Random(seed), 100, sigma=0.0004, harm=0.002), Goal.MINIMIZE)
        assert spread is not None
        assert spread > 0.0004


def test_near_misses_are_the_discarded_that_came_nearest() -> None:
    made = [
        trial(1, DISCARD, 0.9905),
        trial(2, KEEP, 0.98),
        trial(3, DISCARD, 0.9901),
        trial(4, CRASH),
        trial(5, DISCARD, 0.9901),
        trial(6, DISCARD, 1.5),
        trial(7, None),
        *(replace(trial(8, DISCARD, 0.9), invalidated=why) for why in Invalidated),
        trial(9, Status.QUARANTINE, 0.9),
    ]
    assert [e.number for e in near_misses(made, Goal.MINIMIZE)] == [3, 5, 1, 6]
    assert [e.number for e in near_misses(made, Goal.MAXIMIZE, most=1)] == [6]


# Lessons in the journal


def test_a_lesson_has_what_was_tried_its_effect_and_why_it_was_judged_so(journal: Journal) -> None:
    failures = [(DISCARD, BEST + number / 10_000) for number in range(10)]
    run = make_trials(journal, "mar12", (KEEP, 0.987), (CRASH, None), (SKIP, None), *failures, (None, None))
    learned = lessons(journal, run, most=100)
    spread = noise(journal.experiments(run.id), run.goal)
    assert spread is not None
    assert [lesson.number for lesson in learned] == [1, 2, *range(4, 14)]
    assert learned[0] == Lesson("mar12", 1, "idea 1", Family.BATCH, KEEP, 0.003, spread, "because")
    assert learned[1] == Lesson("mar12", 2, "idea 2", Family.BATCH, CRASH, None, spread, "because")


def test_where_the_noise_of_a_run_was_measured_it_is_that_of_its_effects(journal: Journal) -> None:
    run = make_trials(journal, "mar12", *[(DISCARD, BEST + number / 100) for number in range(20)])
    assert (lessons(journal, run, most=1)[0].noise or 0.0) > 0.01  # the harm that changes did
    repeats = Repeats(journal)
    for number, repeat in enumerate(repeats.ask(run.id, 0, RepeatFor.NOISE, times=2), 1):
        repeats.measured(ended(begin(repeats, repeat), BEST + 0.001 * number))
    measured = read_noise(journal, run)
    assert measured is not None
    expected = pytest.approx(measured.sigma * 2**0.5)
    assert lessons(journal, run, most=1)[0].noise == expected
    assert noise(journal.experiments(run.id), run.goal, measured) == expected


def test_where_there_are_too_many_the_largest_gains_and_the_last_failures_are_told(journal: Journal) -> None:
    run = make_trials(
        journal,
        "mar12",
        (KEEP, 0.989),
        (DISCARD, 1.0),
        (KEEP, 0.98),
        (DISCARD, 1.0),
        (CRASH, None),
        (KEEP, 0.97),
    )
    assert [lesson.number for lesson in lessons(journal, run, most=4)] == [3, 4, 5, 6]
    assert [lesson.number for lesson in lessons(journal, run, most=1)] == [6]
    assert lessons(journal, run, most=0) == []


def test_other_runs_of_the_same_kind_are_remembered_the_oldest_first(journal: Journal) -> None:
    first = make_trials(journal, "first", (KEEP, 0.98))
    barren = make_trials(journal, "barren")
    present = make_trials(journal, "present", (KEEP, 0.97))
    later = make_trials(journal, "later", (DISCARD, 1.0))
    make_trials(journal, "under-way", (None, None))
    for column, other in (("repository", "/other"), ("metric", "accuracy"), ("goal", "maximize")):
        strange = make_trials(journal, column, (KEEP, 0.98))
        with journal.transaction():
            journal.execute(f"UPDATE runs SET {column} = ? WHERE id = ?", other, strange.id)
    told = [(lesson.tag, lesson.number) for lesson in lessons_of_others(journal, present, most=5)]
    assert told == [("first", 1), ("later", 1)]
    assert [lesson.tag for lesson in lessons_of_others(journal, barren, most=5)] == [
        "first",
        "present",
        "later",
    ]
    assert [lesson.tag for lesson in lessons_of_others(journal, first, most=5)] == ["present", "later"]
    assert later.id > present.id


def test_only_the_newest_runs_are_read(journal: Journal) -> None:
    runs = [make_trials(journal, f"run{number}", (KEEP, 0.98), (KEEP, 0.97)) for number in range(13)]
    told = lessons_of_others(journal, runs[-1], most=1)
    assert [(lesson.tag, lesson.number) for lesson in told] == [
        (f"run{number}", 2) for number in range(2, 12)
    ]


def test_hit_rates_are_those_of_all_runs_together(journal: Journal) -> None:
    make_trials(journal, "first", (KEEP, 0.98), (DISCARD, 1.0))
    run = make_trials(journal, "second", (KEEP, 0.95), (SKIP, None), (CRASH, None))
    rates = hit_rates(journal, run)
    assert rates == (FamilyRate(Family.BATCH, tried=4, kept=2, best_gain=0.04),)
    assert hit_rates(journal, replace(run, id=99, repository=Path("/other"))) == ()


judged = st.tuples(
    st.none() | st.sampled_from(Family), st.sampled_from(Status), st.none() | st.floats(0.5, 1.5)
)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(judged, max_size=12), st.sampled_from(Goal))
def test_hit_rates_of_one_run_are_those_of_its_report(
    tmp_path_factory: pytest.TempPathFactory,
    found: list[tuple[Family | None, Status, float | None]],
    goal: Goal,
) -> None:
    rows = [Row(n, "", value, 0.0, status, "", family=f) for n, (f, status, value) in enumerate(found)]
    bests = bests_before(rows, goal)
    with closing(Journal(tmp_path_factory.mktemp("memory") / "state.db")) as journal:
        run = replace(make_run(journal), goal=goal)
        journal.record(
            *(
                replace(trial(row.number, row.status, row.value), best_before=best, family=row.family)
                for row, best in zip(rows, bests, strict=True)
            )
        )
        assert sorted(map(astuple, hit_rates(journal, run)), key=str) == sorted(
            map(astuple, rates_of(rows, goal)), key=str
        )


# What is worth knowing


def lesson(number: int, status: Status, gain: float | None, noise: float | None = None) -> Lesson:
    return Lesson("mar12", number, f"idea {number}", None, status, gain, noise, "because")


def test_sure_gains_come_first_and_then_what_came_near() -> None:
    found = [
        lesson(1, CRASH, None),
        lesson(2, DISCARD, -0.0001),
        lesson(3, KEEP, 0.012, 0.01),
        lesson(4, KEEP, 0.008, 0.0005),
        lesson(5, KEEP, 0.001, 0.0015),
        lesson(6, KEEP, 0.05),
        lesson(7, KEEP, 0.06),
        lesson(8, DISCARD, 0.0002),
        lesson(9, KEEP, None),
    ]
    assert [one.number for one in most_valuable(found, 9)] == [4, 3, 7, 6, 5, 8, 2]
    assert [one.number for one in most_valuable(found, 2)] == [4, 3]


lessons_found = st.lists(
    st.builds(
        lesson,
        st.integers(1, 99),
        st.sampled_from([KEEP, DISCARD, CRASH]),
        st.none() | st.floats(-1, 1),
        st.none() | st.floats(0, 1),
    )
)


@settings(deadline=None, max_examples=50)
@given(lessons_found, st.integers(0, 10))
def test_what_is_most_valuable_was_found_and_measured(found: list[Lesson], most: int) -> None:
    chosen = most_valuable(found, most)
    measured = [one for one in found if one.effect is not None]
    assert len(chosen) == min(most, len(measured))
    assert all(one in measured for one in chosen)
    statuses = [one.status is not KEEP for one in chosen]
    assert statuses == sorted(statuses)
