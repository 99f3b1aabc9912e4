from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.ideas import IdeaBox
from loop.journal import Journal
from loop.proposers.ideas_file import IDEA_CHARACTERS, NAME, read_ideas, take_in
from tests.loop.test_journal import make_experiment, make_run

TEXT = """\
# Ideas for tonight

- DEPTH 9
* a cosine schedule, as in the paper
- [ ] wider embeddings
- [x] this was done
[X] and this
1. first things first
2.5 times the learning rate
plain words

---
<!-- not yet: rotary embeddings -->
- DEPTH 9
-
"""


def test_lines_are_ideas_with_or_without_marks() -> None:
    assert read_ideas(TEXT) == (
        "DEPTH 9",
        "a cosine schedule, as in the paper",
        "wider embeddings",
        "first things first",
        "2.5 times the learning rate",
        "plain words",
    )


@given(st.text())
def test_no_text_makes_an_idea_of_nothing(text: str) -> None:
    ideas = read_ideas(text)
    assert all(idea.strip() == idea and 0 < len(idea) <= IDEA_CHARACTERS for idea in ideas)
    assert len(set(ideas)) == len(ideas)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "state.db")
    yield made
    made.close()


def test_each_line_becomes_an_idea_once_in_a_run(journal: Journal, tmp_path: Path) -> None:
    run = replace(make_run(journal), repository=tmp_path)
    box, file = IdeaBox(journal), tmp_path / NAME
    assert take_in(run, box) == ()
    box.add(run.id, "wider", author="ann")
    file.write_text("- wider\n- deeper\n")
    (deeper,) = take_in(run, box)
    assert (deeper.text, deeper.author) == ("deeper", NAME)
    assert take_in(run, box) == ()
    journal.record(replace(make_experiment(run), idea=deeper.id))
    file.write_bytes(b"- deeper\n- \xff faster\n")
    assert [idea.text for idea in take_in(run, box)] == ["\ufffd faster"]
    other = replace(make_run(journal, "other"), repository=tmp_path)
    assert len(take_in(other, box)) == 2


def test_what_is_no_file_has_no_ideas(journal: Journal, tmp_path: Path) -> None:
    run = replace(make_run(journal), repository=tmp_path)
    (tmp_path / NAME).mkdir()
    assert take_in(run, IdeaBox(journal)) == ()
