from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bot.heartbeat.decide import (
    BACKOFF,
    STEADY,
    Action,
    CallOver,
    CallPerson,
    EndOrphan,
    EndTraining,
    LookAgain,
    Pause,
    Recovered,
    Restart,
    Unpause,
    clock_lines,
    decide,
    problems,
)
from bot.heartbeat.probe import Absence, Outage, Vitals
from bot.runs import Ended
from loop.engine.ahead.prefetch import ProposerFailure
from loop.experiment import Actor, Cause, Reason, RunState
from loop.machine import ClockChange, GpuState
from loop.process.liveness import Marked
from loop.process.trainer import Process
from notifiers.text.words import cause_text, reason_text
from tests.bot.vital_signs import LOW, SHORT, make_loop, make_run, make_training, make_vitals
from tests.notifiers.golden import check_one

RUN = make_run()


def remedies(vitals: Vitals) -> tuple[Action, ...]:
    return decide(vitals, stall_minutes=5.0)


def test_nothing_is_done_or_said_when_all_is_well() -> None:
    vitals = make_vitals(
        make_loop(trainings=(make_training(4.9),)),
        make_loop(make_run(2, state=RunState.PAUSED)),
        clock=ClockChange(jumped=0.3, slept=2.0),
    )
    assert remedies(vitals) == ()
    assert problems(vitals) == ()


# Loops that end


def test_a_loop_that_ended_is_started_again_at_once() -> None:
    vitals = make_vitals(make_loop(ended=Ended(9_990.0, "disk on fire")))
    assert remedies(vitals) == (
        Restart(RUN, Outage(since=9_990.0, reason="disk on fire", restarts=1, restarted_at=10_000.0)),
        LookAgain(STEADY),
    )


def test_a_loop_that_keeps_ending_is_given_ever_more_time() -> None:
    """Simulate one that ends as soon as it is started, looked at whenever a remedy asks for it."""
    now, outage, waits = 0.0, None, []
    for _ in range(6):
        died = now
        while True:
            actions = remedies(make_vitals(make_loop(ended=Ended(died, "again"), outage=outage), at=now))
            restart = next((action for action in actions if isinstance(action, Restart)), None)
            if restart:
                break
            (again,) = (action for action in actions if isinstance(action, LookAgain))
            now += again.seconds
        waits.append(now - died)
        outage = restart.outage
        assert outage.since == 0.0
    assert waits == [*BACKOFF, BACKOFF[-1], BACKOFF[-1]]
    assert outage is not None
    assert outage.restarts == 6


@pytest.mark.parametrize(
    ("seconds", "actions"),
    [
        (1.0, (LookAgain(STEADY - 1.0),)),
        (STEADY, (Recovered(RUN, "its loop ended with: disk on fire; 12 min lost", 12.0),)),
    ],
)
def test_a_recovery_is_told_once_it_holds(seconds: float, actions: tuple[Action, ...]) -> None:
    outage = Outage(since=0.0, reason="disk on fire", restarts=2, restarted_at=720.0)
    assert remedies(make_vitals(make_loop(outage=outage), at=720.0 + seconds)) == actions


def test_a_person_is_asked_when_a_loop_cannot_be_kept_alive() -> None:
    outage = Outage(since=0.0, reason="disk on fire", restarts=4, restarted_at=9_999.0)
    for loop in (make_loop(outage=outage), make_loop(outage=outage, ended=Ended(9_999.5, "disk on fire"))):
        asked = [action for action in remedies(make_vitals(loop)) if isinstance(action, CallPerson)]
        facts = {"times": 4, "error": "disk on fire"}
        assert asked == [CallPerson(RUN, Cause.LOOP, facts=facts, halted=True)]
        assert asked[0].text == cause_text(Cause.LOOP, facts)
    assert remedies(make_vitals(make_loop(outage=replace(outage, restarts=3)))) == (LookAgain(STEADY - 1.0),)


# Trainings


def test_a_training_that_hangs_is_ended() -> None:
    training = make_training(5.0)
    assert remedies(make_vitals(make_loop(trainings=(training,)))) == (EndTraining(RUN, training.folder),)


def test_a_training_that_hangs_after_its_number_is_ended_soon() -> None:
    assert remedies(make_vitals(make_loop(trainings=(make_training(0.5),)))) == ()
    training = make_training(0.5, measured=True)
    assert remedies(make_vitals(make_loop(trainings=(training,)))) == (EndTraining(RUN, training.folder),)


def test_a_supervisor_that_does_not_work_is_killed() -> None:
    supervisor = Process(7, 1.0)
    training = make_training(30.0, overdue_supervisor=supervisor)
    assert remedies(make_vitals(make_loop(trainings=(training,)))) == (
        EndTraining(RUN, training.folder, supervisor),
    )


def test_what_is_left_of_a_training_is_ended() -> None:
    orphan = Marked(Process(7, 1.0), "4d6e-2a1b")
    assert remedies(make_vitals(orphans=(orphan,))) == (EndOrphan(orphan),)


# Things that only a person can fix


def test_a_run_rests_while_its_disk_is_low_and_goes_on_by_itself() -> None:
    low = make_vitals(disks=(LOW,))
    (pause,) = remedies(low)
    assert pause == Pause(
        RUN, Reason(Actor.HEARTBEAT, cause=Cause.DISK, facts={"folder": "/state", "free": 0.3e9})
    )
    (problem,) = problems(low)
    check_one("heartbeat", "the disk is full", f"{reason_text(pause.reason)}\n{problem}")
    for state in (RunState.PAUSING, RunState.PAUSED):
        paused = make_loop(make_run(state=state, reason=pause.reason))
        assert remedies(replace(low, loops=(paused,))) == ()
        assert remedies(make_vitals(paused)) == (Unpause(paused.run),)


@pytest.mark.parametrize("by", [Actor.PERSON, Actor.BUDGET, Actor.STARTUP])
@pytest.mark.parametrize("state", [RunState.PAUSED, RunState.PAUSING, RunState.DONE])
def test_what_others_ordered_is_left_as_it_is(state: RunState, by: Actor) -> None:
    loop = make_loop(make_run(state=state, reason=Reason(by)))
    assert remedies(make_vitals(loop)) == ()
    assert remedies(make_vitals(loop, disks=(LOW,))) == ()
    assert remedies(make_vitals(loop, gpus=GpuState((), ()))) == ()


def test_a_loop_is_not_started_into_the_trouble_that_ended_it() -> None:
    vitals = make_vitals(make_loop(ended=Ended(9_000.0, "no space left")), disks=(LOW,))
    assert [type(action) for action in remedies(vitals)] == [Pause, Restart, LookAgain]


def test_a_person_hears_of_a_disk_before_it_is_low() -> None:
    vitals = make_vitals(disks=(SHORT,))
    (ask,) = remedies(vitals)
    assert ask == CallPerson(RUN, Cause.DISK_SHORT, "/state", {"folder": "/state", "free": 4e9})
    assert problems(vitals) == (ask.text,)
    check_one("heartbeat", "the disk is short", ask.text)


def test_an_outage_of_the_proposer_is_a_matter_for_a_person() -> None:
    assert remedies(make_vitals(make_loop(failure=ProposerFailure(10_000.0 - 3599.0, "why")))) == ()
    vitals = make_vitals(make_loop(failure=ProposerFailure(10_000.0 - 3660.0, "why")))
    (ask,) = remedies(vitals)
    assert ask == CallPerson(RUN, Cause.NO_PROPOSAL, facts={"seconds": 3660.0, "error": "why"})
    check_one("heartbeat", "no proposal", ask.text)


def test_a_person_is_called_once_for_each_thing_and_told_when_it_is_over() -> None:
    other = replace(SHORT, folder=Path("/other"))
    loop = make_loop(called=frozenset({(Cause.DISK_SHORT, "/state"), (Cause.NO_PROPOSAL, "")}))
    assert remedies(make_vitals(loop, disks=(replace(SHORT, free=3e9), other))) == (
        CallPerson(RUN, Cause.DISK_SHORT, "/other", {"folder": "/other", "free": 4e9}),
        CallOver(RUN, Cause.NO_PROPOSAL, ""),
    )


def test_troubles_of_several_runs_are_told_once() -> None:
    loops = (make_loop(), make_loop(make_run(2)))
    assert problems(make_vitals(*loops, disks=(LOW,))) == problems(make_vitals(loops[0], disks=(LOW,)))


# Lost time


def test_a_sleep_is_logged_and_reported_if_a_run_lost_time() -> None:
    slept = ClockChange(slept=7200.0)
    (line,), (recovered,) = clock_lines(slept), remedies(make_vitals(clock=slept))
    assert isinstance(recovered, Recovered)
    assert (recovered.run, recovered.minutes) == (RUN, 120.0)
    check_one("heartbeat", "the machine slept", f"{line}\n{recovered.reason}")
    paused = make_loop(make_run(state=RunState.PAUSED))
    assert remedies(make_vitals(paused, clock=slept)) == ()


@pytest.mark.parametrize(("jumped", "text"), [(3600.0, "+3600"), (-31.0, "-31")])
def test_a_clock_that_was_set_is_logged_only(jumped: float, text: str) -> None:
    change = ClockChange(jumped=jumped)
    assert list(clock_lines(change)) == [f"the clock was set by {text} s"]
    assert remedies(make_vitals(clock=change)) == ()


def test_a_clock_that_is_kept_right_is_not_worth_a_line() -> None:
    assert list(clock_lines(ClockChange(jumped=-29.0, slept=59.0))) == []


def test_an_absence_is_told_when_the_run_goes_on() -> None:
    absence = Absence(600.0, "the machine was down")
    told = (Recovered(RUN, "the machine was down; 10 min lost", 10.0),)
    assert remedies(make_vitals(make_loop(absence=absence))) == told
    assert remedies(make_vitals(make_loop(absence=replace(absence, seconds=59.0)))) == ()
    assert remedies(make_vitals(make_loop(absence=replace(absence, seconds=-3600.0)))) == ()
    paused = make_run(state=RunState.PAUSED)
    assert remedies(make_vitals(make_loop(paused, absence=absence))) == ()
