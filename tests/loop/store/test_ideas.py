from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from loop.experiment import EventKind, Status
from loop.store.experiments import IdeaBox
from loop.store.journal import Journal
from tests.loop.store.test_journal import make_experiment, make_run


def test_an_idea_waits_until_an_experiment_is_made_of_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state.db")
    run, other = make_run(journal), make_run(journal, "other")
    box = IdeaBox(journal)
    first = box.add(run.id, "DEPTH 9", author="ann", channel="telegram:7", message_id="12")
    second = box.add(run.id, "wider", author="bob")
    box.add(other.id, "elsewhere", author="bob")
    assert box.waiting(run.id) == (first, second)
    journal.record(replace(make_experiment(run), idea=first.id))
    assert box.waiting(run.id) == (second,)
    assert box.get(first.id).message_id == "12"
    journal.close()


def test_an_idea_that_is_given_up_waits_no_longer_and_people_are_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state.db")
    run = make_run(journal)
    box = IdeaBox(journal)
    idea = box.add(run.id, "do the impossible", author="ann")
    box.give_up(idea, "nobody can")
    assert box.waiting(run.id) == ()
    assert box.get(idea.id).given_up == "nobody can"
    assert box.texts(run.id) == {"do the impossible"}
    event = journal.events_after(0)[-1]
    assert (event.kind, event.data["reason"]) == (
        EventKind.NOTED,
        "idea #1 of ann is given up: nobody can",
    )
    journal.close()


def test_what_became_of_ideas_is_told_by_their_last_experiment(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state.db")
    run, other = make_run(journal), make_run(journal, "other")
    box = IdeaBox(journal)
    first, second, waiting, elsewhere = (
        box.add(run_id, text, author="ann")
        for run_id, text in ((run.id, "DEPTH 9"), (run.id, "wider"), (run.id, "later"), (other.id, "no"))
    )
    for made_for, idea, numbers in ((run, first, (1, 3)), (run, second, (2,)), (other, elsewhere, (1,))):
        for number in numbers:
            journal.record(replace(make_experiment(made_for, number, Status.CRASH), idea=idea.id))
    journal.record(make_experiment(run, 4))
    assert [(idea, e.number) for idea, e in box.made(run.id, last=5)] == [(first, 3), (second, 2)]
    assert [idea for idea, _ in box.made(run.id, last=1)] == [first]
    assert box.waiting(run.id) == (waiting,)
    journal.close()
