from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.proposers.people import IDEA_CHARACTERS, NAME, add_from_file, read_ideas
from loop.store.experiments import IdeaBox
from loop.store.journal import Journal
from tests.loop.store.test_journal import make_experiment, make_run

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


def test_an_idea_begins_and_ends_with_a_word() -> None:
    assert read_ideas("[]\r 0") == ("0",)
    assert read_ideas(f"- {'wide ' * IDEA_CHARACTERS}")[0].endswith("wide")


def test_an_item_of_a_list_goes_on_in_its_indented_lines() -> None:
    text = """\
- a cosine schedule,
  as in the paper

  of 2017
  - but shorter
- [x] wider,
  twice
plain
  lines
# Later
  stay alone
1. first
\tthings
  # not yet
"""
    assert read_ideas(text) == (
        "a cosine schedule, as in the paper of 2017",
        "but shorter",
        "plain",
        "lines",
        "stay alone",
        "first things",
    )


def test_comments_and_code_hold_no_ideas() -> None:
    text = """\
<!-- not yet:
- rotary embeddings
```
-->
- DEPTH 9 <!-- or
10 --> at most
```python
x = 1  # <!--
~~~
```
- as in
  ~~~~
  ~~~
  loss = 0
  ~~~~~
  this one
- ```
  y = 2
  ```
``` is a fence ``` to some
<!-- the rest
- wider
"""
    expected = ("DEPTH 9  at most", "as in this one", "``` is a fence ``` to some")
    assert read_ideas(text) == expected
    assert read_ideas(text.replace("\n", "\r\n")) == expected
    assert read_ideas("deeper\n~~~\nwider\n") == ("deeper",)


words = st.lists(st.from_regex(r"[a-z0-9]{1,5}", fullmatch=True), min_size=1, max_size=4).map(" ".join)
marks = st.sampled_from(["- ", "* ", "1. ", "2) ", "- [ ] "])
hidden = st.lists(st.sampled_from(["- no", "  no", "# no", "no", "", "~~", "<!-"]), max_size=4).map("\n".join)
items = st.tuples(marks, st.lists(words, min_size=1, max_size=3))
blocks = st.one_of(
    items.map(lambda item: (item[0] + "\n   ".join(item[1]), " ".join(item[1]))),
    words.map(lambda line: (line, line)),
    hidden.map(lambda text: (f"<!--{text}\n-->", None)),
    st.tuples(hidden, st.sampled_from(["```", "~~~", "````"])).map(
        lambda c: (f"{c[1]}py\n{c[0]}\n{c[1]}", None)
    ),
    st.tuples(hidden, words).map(lambda c: (f"- [x] {c[1]}\n  {c[1]}", None)),
)


@given(st.lists(blocks, max_size=6))
def test_what_is_shown_is_an_idea_and_what_is_hidden_is_none(parts: list[tuple[str, str | None]]) -> None:
    ideas = (idea for _, idea in parts if idea is not None)
    assert read_ideas("\n".join(text for text, _ in parts)) == tuple(dict.fromkeys(ideas))


@given(st.one_of(st.text(), st.text("-# \n\t`~<!>[x]a1.\r")))
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
    assert add_from_file(run, box) == ()
    box.add(run.id, "wider", author="ann")
    file.write_text("- wider\n- deeper\n")
    (deeper,) = add_from_file(run, box)
    assert (deeper.text, deeper.author) == ("deeper", NAME)
    assert add_from_file(run, box) == ()
    journal.record(replace(make_experiment(run), idea=deeper.id))
    file.write_bytes(b"- deeper\n- \xff faster\n")
    assert [idea.text for idea in add_from_file(run, box)] == ["\ufffd faster"]
    other = replace(make_run(journal, "other"), repository=tmp_path)
    assert len(add_from_file(other, box)) == 2


def test_what_is_no_file_has_no_ideas(journal: Journal, tmp_path: Path) -> None:
    run = replace(make_run(journal), repository=tmp_path)
    (tmp_path / NAME).mkdir()
    assert add_from_file(run, IdeaBox(journal)) == ()
