from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from loop.ideas import IdeaBox
from loop.journal import Journal
from tests.loop.test_journal import make_experiment, make_run


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
