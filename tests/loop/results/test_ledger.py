from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loop.evidence import RepeatFor
from loop.experiment import Actor, Ending, Event, EventKind, Reason, RunState, Stage, Status, Training
from loop.results.ledger import Spent, ledger, read_ledger
from loop.store.events import SILENCE_SECONDS, Session, Sessions, events_of
from loop.store.evidence.repeats import Repeats, RepeatUnderWay
from loop.store.experiments import Row
from loop.store.journal import Journal
from tests.loop.lab import Lab, program
from tests.loop.store.test_journal import make_experiment, make_run
from tests.loop.story import START, Story
from tests.loop.trainings import trained

TRAINING, OVERHEAD, PROPOSING, CRASHED, INTERRUPTED, WAITING, BOT_DOWN, MACHINE_DOWN = Spent


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_run_without_an_experiment_is_proposing(story: Story) -> None:
    assert story.ledger().total == 0
    assert story.ledger().busy_share is None
    story.now += 45
    assert story.spent() == {PROPOSING: 45}
    assert story.ledger().busy_share == 0


def test_a_good_training_is_what_it_counted_and_overhead_for_the_rest(story: Story) -> None:
    story.training(startup=20, counted=300)
    story.pass_(2, PROPOSING)
    story.training(startup=25, counted=300, status=Status.DISCARD)
    assert story.spent() == {TRAINING: 600, OVERHEAD: 45, PROPOSING: 2}
    assert story.ledger().busy_share == 600 / 647


@pytest.mark.parametrize("counted", [None, 500.0])
def test_a_training_that_counted_nothing_or_too_much_is_all_training(
    story: Story, counted: float | None
) -> None:
    story.attempt_begins()
    story.now += 320
    story.outcome(Status.KEEP, counted)
    assert story.spent() == {TRAINING: 320}


def test_the_times_of_the_outcome_count_and_not_when_it_was_read(story: Story) -> None:
    story.attempt_begins()
    story.now += 320
    ended = story.now
    story.now += 7
    story.outcome(Status.KEEP, 300, ended_at=ended)
    assert story.spent() == {OVERHEAD: 20, TRAINING: 300, PROPOSING: 7}


def test_a_crash_is_crashed_work_from_its_start_to_its_end(story: Story) -> None:
    story.attempt_begins()
    story.now += 90
    story.outcome(Status.CRASH)
    assert story.spent() == {CRASHED: 90}


def test_what_was_given_up_is_interrupted_work(story: Story) -> None:
    story.attempt_begins()
    story.now += 100
    story.tell(EventKind.SKIP_REQUESTED)
    story.now += 2
    story.put_back()
    story.tell(EventKind.DECIDED)
    story.now += 5
    assert story.spent() == {INTERRUPTED: 102, PROPOSING: 5}


def test_a_training_that_was_over_when_its_run_was_stopped_is_interrupted_work(story: Story) -> None:
    story.attempt_begins()
    story.now += 100
    story.outcome(Status.SKIP, 80)
    assert story.spent() == {INTERRUPTED: 100}


def test_repeats_are_trainings(story: Story) -> None:
    story.training(startup=20, counted=300)
    for seconds, value in ((300.0, 0.98), (None, None)):  # the second one crashed
        story.tell(EventKind.REPEAT_TRAINING, k=2)
        began = story.now
        story.pass_(20, OVERHEAD if value else CRASHED)
        story.pass_(300, TRAINING if value else CRASHED)
        story.tell(
            EventKind.REPEATED, value=value, started_at=began, ended_at=story.now, training_seconds=seconds
        )
    for kind in (EventKind.REPEAT_PUT_BACK, EventKind.REPEAT_GIVEN_UP):
        story.tell(EventKind.REPEAT_TRAINING, k=2)
        story.pass_(30, INTERRUPTED)
        story.tell(EventKind.REPEAT_GIVEN_UP, k=None)  # one that waited
        story.pass_(30, INTERRUPTED)
        story.tell(kind, k=2)
        story.pass_(5, PROPOSING)
    assert story.spent() == story.expected


def test_a_pause_now_costs_the_attempt_and_the_time_until_a_person_resumes(story: Story) -> None:
    story.attempt_begins()
    story.now += 100
    story.state(RunState.PAUSED)
    story.now += 2
    story.put_back()
    story.now += 1000
    story.state(RunState.RUNNING)
    story.now += 1
    story.training(20, 300)
    assert story.spent() == {INTERRUPTED: 102, WAITING: 1000, PROPOSING: 1, OVERHEAD: 20, TRAINING: 300}


def test_a_run_that_pauses_after_its_experiment_trains_until_then(story: Story) -> None:
    story.attempt_begins()
    story.now += 10
    story.state(RunState.PAUSING)
    story.now += 310
    story.outcome(Status.KEEP, 300)
    story.state(RunState.PAUSED)
    story.now += 500
    assert story.spent() == {OVERHEAD: 20, TRAINING: 300, WAITING: 500}


def test_a_run_that_was_done_and_goes_on_had_waited(story: Story) -> None:
    story.training(20, 300)
    story.state(RunState.DONE)
    story.bot_ends()
    story.now += 3600
    story.bot_begins()
    story.state(RunState.RUNNING)
    story.training(20, 300)
    assert story.spent() == {OVERHEAD: 40, TRAINING: 600, WAITING: 3600}


def test_a_paused_run_waits_for_a_person_even_while_bot_or_machine_are_down(story: Story) -> None:
    story.state(RunState.PAUSED)
    story.now += 100
    story.bot_is_away(1000, boot="boot 1")
    story.now += 100
    story.state(RunState.RUNNING)
    story.now += 3
    assert story.spent() == {WAITING: 1200, PROPOSING: 3}


def test_a_halted_loop_waits_for_a_person_until_it_goes_on(story: Story) -> None:
    story.tell(EventKind.NEEDS_ATTENTION, reason="the disk is full", halted=True)
    story.now += 600
    story.tell(EventKind.RUN_RECOVERED, reason="its loop had ended")
    story.now += 1
    story.tell(EventKind.NEEDS_ATTENTION, reason="the disk is full", halted=True)
    story.now += 60
    story.training(20, 300)
    assert story.spent() == {WAITING: 660, PROPOSING: 1, OVERHEAD: 20, TRAINING: 300}


def test_a_rest_after_crashes_is_waiting_until_the_next_training(story: Story) -> None:
    story.now += 4
    story.tell(EventKind.RESTED, reason="rests 10 min after 8 crashes in a row", halted=True)
    story.now += 600
    story.training(20, 300)
    story.now += 2
    assert story.spent() == {PROPOSING: 6, WAITING: 600, OVERHEAD: 20, TRAINING: 300}


def test_a_halted_loop_that_the_next_bot_sets_going_waits_no_longer(story: Story) -> None:
    story.tell(EventKind.NEEDS_ATTENTION, reason="the disk is full", halted=True)
    story.now += 60
    story.tell(EventKind.NEEDS_ATTENTION, reason="the disk is full", halted=True)
    story.now += 60
    story.bot_is_away(10)
    story.training(20, 300)
    story.now += 5
    assert story.spent() == {WAITING: 120, BOT_DOWN: 10, OVERHEAD: 20, TRAINING: 300, PROPOSING: 5}


def test_a_training_goes_on_while_the_loop_is_halted(story: Story) -> None:
    story.attempt_begins()
    story.now += 10
    story.tell(EventKind.NEEDS_ATTENTION, reason="no supervisor can be started", halted=True)
    story.now += 310
    ended = story.now
    story.now += 280
    story.tell(EventKind.RUN_RECOVERED, reason="its loop had ended")
    story.outcome(Status.KEEP, 300, ended_at=ended)
    assert story.spent() == {OVERHEAD: 20, TRAINING: 300, WAITING: 280}


def test_a_call_for_a_person_while_the_loop_goes_on_is_no_waiting(story: Story) -> None:
    story.tell(EventKind.NEEDS_ATTENTION, reason="no idea for the next experiment after 3 tries")
    story.now += 60
    assert story.spent() == {PROPOSING: 60}


def test_a_training_that_outlives_the_bot_is_training_until_its_outcome(story: Story) -> None:
    story.attempt_begins()
    story.now += 50
    story.bot_is_killed()
    story.now += 270
    ended = story.now
    story.now += 1000
    story.bot_begins()
    story.now += 1
    story.outcome(Status.KEEP, 300, ended_at=ended)
    assert story.spent() == {OVERHEAD: 20, TRAINING: 300, BOT_DOWN: 1000, PROPOSING: 1}


def test_events_are_signs_of_life_of_a_bot_that_was_killed(story: Story) -> None:
    story.now += 100
    story.bot_is_killed()
    story.now += 25
    story.training(20, 300)  # and is killed before it is seen again
    story.now += 5
    story.bot_begins()
    assert story.spent() == {PROPOSING: 125, OVERHEAD: 20, TRAINING: 300, BOT_DOWN: 5}


def test_the_work_of_the_next_bot_is_no_sign_of_life_of_the_one_before(story: Story) -> None:
    story.now += 100
    story.bot_is_away(40)
    story.state(RunState.RUNNING)
    assert story.spent() == {PROPOSING: 100, BOT_DOWN: 40}


def test_a_bot_that_was_ended_is_down_from_then_on(story: Story) -> None:
    story.now += 100
    story.bot_ends()
    story.now += 3
    assert story.spent() == {PROPOSING: 100, BOT_DOWN: 3}


def test_a_bot_is_taken_for_dead_when_it_was_silent_for_long(story: Story) -> None:
    story.now += 100
    story.bot_is_killed()
    story.now += SILENCE_SECONDS
    assert story.spent() == {PROPOSING: 100 + SILENCE_SECONDS}
    story.now += 1
    assert story.spent() == {PROPOSING: 100, BOT_DOWN: SILENCE_SECONDS + 1}


def test_before_the_first_session_a_bot_is_taken_to_have_been_there() -> None:
    story = Story(watched=False)
    story.training(20, 300)
    story.now += 9
    story.bot_begins()
    story.now += 1
    assert story.spent() == {OVERHEAD: 20, TRAINING: 300, PROPOSING: 10}


def test_an_attempt_that_died_with_its_machine_is_interrupted_while_somebody_watched(story: Story) -> None:
    story.attempt_begins()
    story.now += 100
    story.bot_is_away(5000, boot="boot 1")
    story.now += 2
    story.put_back(vanished=True)
    story.training(20, 300)
    assert story.spent() == {INTERRUPTED: 102, MACHINE_DOWN: 5000, OVERHEAD: 20, TRAINING: 300}


def test_an_attempt_that_vanished_together_with_the_bot_leaves_the_bot_down(story: Story) -> None:
    story.attempt_begins()
    story.now += 100
    story.bot_is_away(50)
    story.put_back(vanished=True)
    assert story.spent() == {INTERRUPTED: 100, BOT_DOWN: 50}


def test_an_attempt_whose_supervisor_was_killed_is_interrupted_work(story: Story) -> None:
    story.attempt_begins()
    story.now += 100
    story.put_back(vanished=True)
    story.now += 1
    story.attempt_begins()
    story.now += 60
    story.put_back(vanished=True)
    story.training(20, 300)
    assert story.spent() == {INTERRUPTED: 160, PROPOSING: 1, OVERHEAD: 20, TRAINING: 300}


def test_an_attempt_that_a_person_ended_had_lived_until_the_order(story: Story) -> None:
    story.attempt_begins()
    story.now += 100
    story.bot_is_away(30, INTERRUPTED)
    story.now += 60
    story.tell(EventKind.SKIP_REQUESTED)
    story.bot_is_away(4000)  # killed before it saw the end
    story.put_back()
    assert story.spent() == {INTERRUPTED: 190, BOT_DOWN: 4000}


def test_of_several_orders_the_first_ended_the_attempt(story: Story) -> None:
    story.attempt_begins()
    story.now += 100
    story.tell(EventKind.SKIP_REQUESTED)
    story.bot_is_away(4000)
    story.tell(EventKind.SKIP_REQUESTED)
    story.now += 1
    story.put_back()
    assert story.spent() == {INTERRUPTED: 101, BOT_DOWN: 4000}


def test_an_attempt_that_a_machine_ended_as_it_shut_down_had_no_order(story: Story) -> None:
    story.attempt_begins()
    story.now += 100
    story.bot_ends()
    story.now += 4000
    story.bot_begins("boot 1")
    story.put_back()
    assert story.spent() == {INTERRUPTED: 100, MACHINE_DOWN: 4000}


def test_a_machine_that_has_no_names_for_its_boots_is_never_down() -> None:
    story = Story(watched=False)
    story.bot_begins("")
    story.bot_is_away(100, boot="")
    assert story.spent() == {BOT_DOWN: 100}


def test_a_training_under_way_is_training_while_a_bot_watches(story: Story) -> None:
    story.attempt_begins()
    story.now += 100
    assert story.spent() == {TRAINING: 100}
    story.bot_is_killed()
    story.now += 1000
    assert story.spent() == {TRAINING: 100, BOT_DOWN: 1000}


def test_a_run_of_several_days(story: Story) -> None:
    for _ in range(3 * 240):
        story.training(30, 300)
        story.pass_(30, PROPOSING)
    story.bot_is_away(7 * 3600)
    assert story.ledger().total == 79 * 3600
    assert story.ledger().busy_share == pytest.approx(60 / 79)
    assert story.ledger().lost == ((BOT_DOWN, 7 * 3600), (PROPOSING, 6 * 3600))


def test_the_largest_loss_comes_first_and_overhead_is_none(story: Story) -> None:
    story.training(100, 300)
    story.pass_(5, PROPOSING)
    story.bot_is_away(30)
    assert story.ledger().lost == ((BOT_DOWN, 30), (PROPOSING, 5))


def test_the_json_has_every_cause(story: Story) -> None:
    story.training(100, 300)
    story.bot_is_away(100)
    read = json.loads(json.dumps(story.ledger().to_json(), allow_nan=False))
    assert read == {
        "started_at": START,
        "ended_at": START + 500,
        "lanes": 1,
        "total_seconds": 500,
        "busy_share": 0.6,
        "seconds": {
            cause.value: {TRAINING: 300, OVERHEAD: 100, BOT_DOWN: 100}.get(cause, 0) for cause in Spent
        },
        "lost": [{"cause": "bot_down", "minutes": 100 / 60}],
    }


# The clock


def test_a_clock_that_is_set_back_makes_no_time_negative(story: Story) -> None:
    story.training(20, 300)
    story.now -= 200
    story.training(20, 300)  # of which 120 s are later than all that was written before
    assert story.spent() == {OVERHEAD: 20, TRAINING: 420}


def test_a_machine_that_wakes_in_another_age_and_then_learns_the_time(story: Story) -> None:
    story.training(20, 300)
    now = story.now
    story.bot_is_killed()
    story.now = 0.0
    story.bot_begins("boot 1")
    story.attempt_begins()
    story.now = now + 400
    story.outcome(Status.KEEP, 300)
    assert story.spent() == {OVERHEAD: 120, TRAINING: 600}


def test_an_outcome_later_than_the_word_of_it_ends_with_that(story: Story) -> None:
    story.attempt_begins()
    story.now += 320
    ended = story.now
    story.now -= 60
    story.outcome(Status.KEEP, 300, ended_at=ended)
    story.training(0, 100)
    assert story.spent() == {TRAINING: 360}


def test_a_bot_that_lived_before_the_one_before_it_leaves_one_gap(story: Story) -> None:
    story.now += 100
    story.bot_is_killed()
    for moved in (-80, 20, 100):
        story.now += moved
        story.bot_begins()
        story.bot_is_killed()
    story.bot_begins()
    story.now += 10
    assert story.spent() == {PROPOSING: 110, BOT_DOWN: 40}


def test_an_end_before_the_start_is_an_empty_ledger(story: Story) -> None:
    story.training()
    empty = ledger(story.events, story.experiments.values(), story.sessions, start=START, end=START - 5)
    assert (empty.total, empty.busy_share, empty.lost) == (0, None, ())


# A real journal


async def test_an_engine_leaves_what_a_ledger_needs(tmp_path: Path) -> None:
    lab = Lab(tmp_path, program("wait()\nsummary(1.0)"))
    sessions = Sessions(lab.journal)
    session = sessions.begin(boot="one")
    engine = lab.engine(program("sys.exit(3)"))
    conducting = asyncio.create_task(engine.conduct(experiments=1))
    await lab.until_training(0)
    await engine.pause(now=True)
    await lab.until(lambda: EventKind.INTERRUPTED in lab.kinds())
    await engine.resume()
    lab.open_gate()
    await conducting
    sessions.end(session)
    found = read_ledger(lab.journal, lab.now(), now=time.time() + 3600)
    lab.close()
    assert {cause for cause, spent in found.seconds.items() if spent} == {
        TRAINING,
        CRASHED,
        INTERRUPTED,
        WAITING,
        PROPOSING,
    }
    assert found.total < 3600  # it was over when it was done


class Clock:
    now = START

    def __call__(self) -> float:
        return self.now


def test_a_ledger_is_of_one_run_and_ends_where_that_was_stopped(tmp_path: Path) -> None:
    clock = Clock()
    journal = Journal(tmp_path / "state.db", clock=clock)
    Sessions(journal).begin(boot="one")
    run, other = make_run(journal), make_run(journal, "mar13")
    experiment = replace(make_experiment(run), training=Training(1, started_at=START, supervisor_pid=7))
    journal.record(replace(experiment, stage=Stage.TRAINING))
    clock.now += 330
    ended = trained(experiment, ending=Ending.EXITED, ended_at=clock.now, numbers={"training_seconds": 300.0})
    measured = replace(ended, stage=Stage.MEASURED)
    journal.record(measured, replace(measured, stage=Stage.DECIDED, status=Status.KEEP))
    journal.record(replace(make_experiment(other), stage=Stage.TRAINING))
    clock.now += 10
    journal.set_state(run, RunState.STOPPED)
    clock.now += 20
    first = read_ledger(journal, run, now=clock.now)
    second = read_ledger(journal, other, now=clock.now)
    journal.close()
    assert {cause: spent for cause, spent in first.seconds.items() if spent} == {
        TRAINING: 300,
        OVERHEAD: 30,
        PROPOSING: 10,
    }
    assert {cause: spent for cause, spent in second.seconds.items() if spent} == {
        PROPOSING: 330,
        TRAINING: 30,
    }


@pytest.mark.parametrize("known", [None, ()])
def test_an_experiment_that_was_begun_since_the_others_were_read_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: tuple[Row, ...] | None
) -> None:
    clock = Clock()
    journal = Journal(tmp_path / "state.db", clock=clock)
    run = make_run(journal)

    def read(*wanted: Any) -> list[Event]:
        begun = replace(make_experiment(run), training=Training(1, started_at=START, supervisor_pid=7))
        journal.record(replace(begun, stage=Stage.TRAINING))
        clock.now += 5
        journal.record(
            replace(trained(begun, ending=Ending.EXITED, ended_at=clock.now), stage=Stage.MEASURED)
        )
        return events_of(*wanted)

    monkeypatch.setattr("loop.results.ledger.events_of", read)
    assert read_ledger(journal, run, now=START + 5, experiments=known).seconds[TRAINING] == 5
    journal.close()


def test_a_run_that_was_done_and_goes_on_lasts_until_now(tmp_path: Path) -> None:
    clock = Clock()
    journal = Journal(tmp_path / "state.db", clock=clock)
    run = make_run(journal)
    journal.set_state(run, RunState.DONE, Reason(Actor.LOOP, facts={"made": 4}))
    clock.now += 100
    assert read_ledger(journal, run, now=clock.now).total == 0
    journal.set_state(run, RunState.RUNNING)
    clock.now += 5
    assert read_ledger(journal, run, now=clock.now).seconds[WAITING] == 100
    assert read_ledger(journal, run, now=clock.now).total == 105
    journal.close()


# Lanes


def test_each_lane_has_its_own_time() -> None:
    def event(at: float, kind: EventKind, number: int, **data: object) -> Event:
        return Event(int(at), at, 1, number, kind, data)

    def row(number: int, ended: float) -> Row:
        return Row(
            number, "c", 1.0, 0.0, Status.KEEP, "", started_at=0.0, ended_at=ended, training_seconds=ended
        )

    events = [
        event(0.0, EventKind.TRAINING, 0, lane=0),
        event(0.0, EventKind.TRAINING, 1, lane=1),
        event(100.0, EventKind.MEASURED, 0),
        event(300.0, EventKind.MEASURED, 1),
    ]
    session = Session(1, "boot", 42, 0.0, 300.0)
    found = ledger(events, [row(0, 100.0), row(1, 300.0)], [session], start=0.0, end=300.0)
    assert (found.lanes, found.total) == (2, 600.0)
    assert {cause: spent for cause, spent in found.seconds.items() if spent} == {
        Spent.TRAINING: 400.0,
        Spent.PROPOSING: 200.0,
    }


def test_two_repeats_of_one_experiment_that_train_at_once_are_each_of_their_lane(tmp_path: Path) -> None:
    clock = Clock()
    journal = Journal(tmp_path / "state.db", clock=clock)
    run = make_run(journal)
    decided = replace(make_experiment(run), stage=Stage.DECIDED, status=Status.KEEP)
    journal.record(decided)
    repeats = Repeats(journal)
    asked = repeats.ask(run.id, 0, RepeatFor.NOISE, times=2)
    first, second = (
        RepeatUnderWay(replace(repeat, k=k), Training(k, started_at=clock.now), lane)
        for lane, (k, repeat) in enumerate(enumerate(asked, 2))
    )
    for begun in (first, second):
        repeats.begin(begun, lane=begun.lane)
    clock.now += 100
    repeats.measured(second, value=1.0, training_seconds=100.0)
    clock.now += 200
    repeats.put_back(first, "lost")
    found = read_ledger(journal, run, now=clock.now)
    journal.close()
    assert (found.lanes, found.total) == (2, 600)
    assert {cause: spent for cause, spent in found.seconds.items() if spent} == {
        TRAINING: 100,
        INTERRUPTED: 300,
        PROPOSING: 200,
    }
