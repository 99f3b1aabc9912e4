from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from loop.experiment import Event, EventKind, Experiment, RunState, Stage, Status, Training
from loop.results.ledger import Spent, ledger, spans
from loop.store.events import Session
from tests.loop.story import Story

TRAINING, OVERHEAD, PROPOSING, CRASHED, INTERRUPTED, WAITING, BOT_DOWN, MACHINE_DOWN = Spent


def good(story: Story, a: int, b: int) -> None:
    story.training(a, b)


def crash(story: Story, a: int, b: int) -> None:
    story.attempt_begins()
    story.pass_(a + b, CRASHED)
    story.outcome(Status.CRASH)


def propose(story: Story, a: int, b: int) -> None:
    story.pass_(a, PROPOSING)


def skip(story: Story, a: int, b: int) -> None:
    story.attempt_begins()
    story.pass_(a, INTERRUPTED)
    story.tell(EventKind.SKIP_REQUESTED)
    story.pass_(b, INTERRUPTED)
    story.put_back()


def pause(story: Story, a: int, b: int) -> None:
    story.state(RunState.PAUSED)
    story.pass_(a, WAITING)
    story.bot_is_away(b, WAITING)
    story.state(RunState.RUNNING)


def bot_away(story: Story, a: int, b: int) -> None:
    story.bot_is_away(a)
    story.pass_(b, PROPOSING)


def power_cut(story: Story, a: int, b: int) -> None:
    story.attempt_begins()
    story.pass_(a, INTERRUPTED)
    story.bot_is_away(b, MACHINE_DOWN, boot=f"boot {len(story.sessions)}")
    story.put_back(vanished=True)


def outlive(story: Story, a: int, b: int) -> None:
    story.attempt_begins()
    story.pass_(a, OVERHEAD)
    story.bot_is_killed()
    story.pass_(b, TRAINING)
    ended = story.now
    story.pass_(a, BOT_DOWN)
    story.bot_begins()
    story.outcome(Status.DISCARD, b, ended_at=ended)


Step = Callable[[Story, int, int], None]
STEPS: list[Step] = [good, crash, propose, skip, pause, bot_away, power_cut, outlive]
seconds = st.integers(0, 400)


@given(st.lists(st.tuples(st.sampled_from(STEPS), seconds, seconds), max_size=25))
def test_any_night_is_told_as_it_was(steps: list[tuple[Step, int, int]]) -> None:
    story = Story()
    for step, a, b in steps:
        step(story, a, b)
    assert story.spent() == {cause: spent for cause, spent in story.expected.items() if spent}


times = st.integers(-50, 250).map(float)
events = st.builds(
    lambda at, kind, number, state, flag: Event(
        0, at, 1, number, kind, {"state": state, "vanished": flag, "halted": flag}
    ),
    times,
    st.sampled_from(EventKind),
    st.integers(0, 2),
    st.sampled_from(RunState),
    st.booleans(),
)
trained = st.tuples(
    *(
        st.builds(
            Experiment,
            run_id=st.just(1),
            number=st.just(number),
            stage=st.just(Stage.MEASURED),
            description=st.just(""),
            rationale=st.just(""),
            proposer=st.just(""),
            parent=st.just(""),
            status=st.none() | st.sampled_from(Status),
            training=st.builds(
                Training,
                st.just(1),
                started_at=st.none() | times,
                ended_at=st.none() | times,
                numbers=st.fixed_dictionaries({}, optional={"training_seconds": times}),
            ),
        )
        for number in range(3)
    )
)
sessions = st.builds(
    Session, st.just(0), st.sampled_from(["", "a", "b"]), st.just(1), times, times, st.none() | times
)


@given(st.lists(events, max_size=20), trained, st.lists(sessions, max_size=5), st.integers(-10, 200))
def test_whatever_a_journal_holds_each_moment_has_one_cause(
    events: list[Event], trained: tuple[Experiment, ...], sessions: list[Session], end: int
) -> None:
    found = spans(events, {each.number: each for each in trained}, sessions, start=0.0, end=float(end))
    assert all(span.start < span.end for span in found)
    assert all(before.end == after.start for before, after in pairwise(found))
    assert (found[0].start, found[-1].end) == (0, end) if end > 0 else found == []
    told = ledger(events, trained, sessions, start=0.0, end=float(end))
    assert sum(told.seconds.values()) == told.total == max(0, end)
