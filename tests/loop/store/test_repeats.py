from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.evidence import Repeat, RepeatFor
from loop.experiment import Asker, Ending, EventKind, Purpose, Run, Status, Training
from loop.store.evidence.repeats import Repeats, RepeatUnderWay, trainings_under_way
from loop.store.journal import Journal
from tests.loop.store.test_journal import make_experiment, make_run


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "state.db")) as journal:
        yield journal


@pytest.fixture
def run(journal: Journal) -> Run:
    run = make_run(journal)
    journal.record(make_experiment(run, 0, Status.KEEP))
    journal.record(make_experiment(run, 1, Status.DISCARD))
    return run


@pytest.fixture
def repeats(journal: Journal) -> Repeats:
    return Repeats(journal)


def begin(repeats: Repeats, repeat: Repeat, *, lane: int = 0, seed: int | None = None) -> RepeatUnderWay:
    k = repeats.next_k(repeat.run_id, repeat.number)
    begun = RepeatUnderWay(
        replace(repeat, k=k, seed=seed), Training(k, Purpose.REPEAT, "", 7, 8.0, 9.0), lane
    )
    repeats.begin(begun)
    return begun


def ended(begun: RepeatUnderWay, value: float | None, ending: Ending = Ending.EXITED) -> RepeatUnderWay:
    numbers = {} if value is None else {"val_bpb": value}
    return replace(begun, training=replace(begun.training, ending=ending, numbers=numbers))


def kinds(journal: Journal) -> list[EventKind]:
    return [event.kind for event in journal.events_after(0)][3:]


def test_a_repeat_waits_trains_and_counts_and_its_experiment_stays_as_it_was(
    journal: Journal, run: Run, repeats: Repeats
) -> None:
    before = journal.experiments(run.id)
    first, second = repeats.ask(run.id, 1, RepeatFor.PERSON, Asker("ann", "chat"), times=2)
    assert repeats.waiting(run.id) == repeats.of(run.id, 1) == [first, second]
    assert (first.asked_by, first.answered_in, repeats.place(second)) == ("ann", "chat", (2, 2))
    begun = begin(repeats, first, seed=43)
    assert (begun.repeat.k, repeats.waiting(run.id)) == (2, [second])
    assert repeats.under_way(run.id) == [begun]
    assert trainings_under_way(journal, run.id) == [(1, begun.training, begun.lane)]
    repeats.measured(ended(begun, 1.5), value=1.5)
    assert not repeats.under_way(run.id)
    assert not trainings_under_way(journal, run.id)
    assert repeats.values(run.id, "val_bpb") == {1: (1.25, 1.5)}
    assert journal.experiments(run.id) == before
    assert kinds(journal) == [EventKind.REPEAT_ASKED, EventKind.REPEAT_TRAINING, EventKind.REPEATED]
    told = journal.events_after(0)[-1].data
    assert told == {"why": "person", "k": 2, "seed": 43, "lane": 0, "value": 1.5}


def test_one_that_is_put_back_is_the_next_again_and_trains_under_a_new_number(
    journal: Journal, run: Run, repeats: Repeats
) -> None:
    first, second = repeats.ask(run.id, 1, RepeatFor.PERSON, times=2)
    for times in (1, 2):
        begun = begin(repeats, first)
        repeats.put_back(ended(begun, None, Ending.VANISHED), "gone", vanished=True)
        assert repeats.in_vain(first) == times
        assert repeats.waiting(run.id) == [first, second]
    begun = begin(repeats, first)
    assert begun.training.k == 4
    repeats.measured(ended(begun, 1.5))
    assert repeats.in_vain(second) == 0
    assert repeats.values(run.id, "val_bpb") == {1: (1.25, 1.5)}


def test_a_crashed_repeat_is_one_without_a_number_and_one_given_up_is_none(
    run: Run, repeats: Repeats
) -> None:
    crashed, skipped, late, dropped = repeats.ask(run.id, 1, RepeatFor.PERSON, times=4)
    repeats.measured(ended(begin(repeats, crashed), None))
    marked = repeats.skip(begin(repeats, skipped), "skipped")
    assert repeats.under_way(run.id) == [marked]
    repeats.give_up(marked.repeat, "skipped", ended=ended(marked, None, Ending.INTERRUPTED))
    marked = repeats.skip(begin(repeats, late), "skipped")
    repeats.measured(ended(marked, 1.75))  # its number had come first
    repeats.give_up(dropped, "the run was stopped")
    assert repeats.numbers(run.id, "val_bpb") == {1: (None, 1.75)}
    assert repeats.values(run.id, "val_bpb") == {1: (1.25, 1.75)}
    assert not repeats.waiting(run.id)
    assert not repeats.under_way(run.id)
    assert [each.given_up for each in repeats.of(run.id, 1)] == ["", "skipped", "", "the run was stopped"]


def test_a_repeat_is_asked_for_with_what_calls_for_it_or_not_at_all(
    journal: Journal, run: Run, repeats: Repeats
) -> None:
    doubted = make_experiment(run, 2, Status.QUARANTINE)
    journal.record(doubted)
    with suppress(ZeroDivisionError), journal.transaction() as append:
        repeats.ask(run.id, 2, RepeatFor.DOUBT, append=append)
        raise ZeroDivisionError
    assert repeats.waiting(run.id) == []
    with journal.transaction() as append:
        (asked,) = repeats.ask(run.id, 2, RepeatFor.DOUBT, append=append)
    assert repeats.wanted_for(run.id, RepeatFor.DOUBT) == [asked]


def test_no_lane_has_two_trainings(journal: Journal, run: Run, repeats: Repeats) -> None:
    first, second = repeats.ask(run.id, 1, RepeatFor.PERSON, times=2)
    begin(repeats, first)
    with pytest.raises(sqlite3.IntegrityError):
        begin(repeats, second)
    assert repeats.waiting(run.id) == [second]
    begin(repeats, second, lane=1)
    assert len(trainings_under_way(journal, run.id)) == 2


def test_repeats_belong_to_their_run(journal: Journal, run: Run, repeats: Repeats) -> None:
    other = make_run(journal, "other")
    journal.record(make_experiment(other, 0, Status.KEEP))
    begun = begin(repeats, *repeats.ask(other.id, 0, RepeatFor.NOISE))
    assert not repeats.under_way(run.id)
    assert not repeats.wanted_for(run.id, RepeatFor.NOISE)
    repeats.measured(ended(begun, 1.5))
    assert repeats.numbers(run.id, "val_bpb") == {}


@given(st.lists(st.tuples(st.sampled_from(RepeatFor), st.integers(1, 3)), max_size=8))
@settings(max_examples=30, deadline=None)
def test_repeats_wait_in_the_order_of_what_they_are_for_then_as_they_came(
    asked: list[tuple[RepeatFor, int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder, closing(Journal(Path(folder) / "state.db")) as journal:
        journal.execute("PRAGMA synchronous = OFF")  # quicker: no power is cut here
        run = make_run(journal)
        journal.record(make_experiment(run, 0, Status.KEEP))
        repeats = Repeats(journal)
        made = [repeat for why, times in asked for repeat in repeats.ask(run.id, 0, why, times=times)]
        expected = sorted(made, key=lambda repeat: ([*RepeatFor].index(repeat.why), repeat.id))
        trained: list[Repeat] = []
        while waiting := repeats.waiting(run.id):
            assert waiting == expected[len(trained) :]
            repeats.measured(ended(begin(repeats, waiting[0]), 1.0))
            trained.append(waiting[0])
        assert trained == expected
