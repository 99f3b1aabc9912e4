from __future__ import annotations

from dataclasses import replace

import pytest

from loop.experiment import Cause, Event, EventKind, Experiment, RunState, Status
from notifiers.message import Button
from notifiers.text.notification import (
    Notification,
    Topic,
    buttons_under,
    card_buttons,
    report_buttons,
    summary_buttons,
)
from tests.notifiers.text.test_digest import DISCARDED, EXPERIMENT, RUN


def labels(rows: tuple[tuple[Button, ...], ...]) -> list[list[str]]:
    return [[button.label for button in row] for row in rows]


def about(experiment: Experiment | None, state: RunState, topic: Topic = Topic.KEEP) -> Notification:
    event = Event(1, 0.0, 1, 12, EventKind.DECIDED, {})
    return Notification(event, replace(RUN, state=state), experiment, topic)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (RunState.RUNNING, ["Diff", "Log", "Plot", "Pause", "Skip"]),
        (RunState.PAUSING, ["Diff", "Log", "Plot", "Resume", "Skip"]),
        (RunState.PAUSED, ["Diff", "Log", "Plot", "Resume"]),
        (RunState.DONE, ["Diff", "Log", "Plot", "Resume"]),
        (RunState.STOPPED, ["Diff", "Log", "Plot"]),
    ],
)
def test_the_row_under_a_digest_follows_the_state(state: RunState, expected: list[str]) -> None:
    assert labels(buttons_under(about(DISCARDED, state))) == [expected]


def test_the_buttons_of_a_digest_mean_its_own_experiment() -> None:
    (diff, log, *_), (rerun,) = buttons_under(about(EXPERIMENT, RunState.RUNNING))
    assert (diff.command, log.command, rerun.command) == ("/diff 12", "/log 12", "/rerun 12")


def test_what_was_kept_can_be_trained_again_while_its_run_lives() -> None:
    assert labels(buttons_under(about(EXPERIMENT, RunState.PAUSED)))[1:] == [["Rerun"]]
    assert labels(buttons_under(about(EXPERIMENT, RunState.STOPPED)))[1:] == []
    assert labels(buttons_under(about(DISCARDED, RunState.RUNNING)))[1:] == []


def test_a_result_in_quarantine_can_be_decided_about_from_its_digest_and_from_the_call() -> None:
    doubted = replace(EXPERIMENT, status=Status.QUARANTINE)
    decision, _ = buttons_under(about(doubted, RunState.RUNNING, Topic.QUARANTINE))
    event = Event(1, 0.0, 1, 12, EventKind.NEEDS_ATTENTION, {"cause": Cause.QUARANTINE, "key": "12"})
    (call,) = buttons_under(Notification(event, RUN, None, Topic.ATTENTION))
    assert call[:2] == decision == (Button("Accept", "/accept 12"), Button("Reject", "/reject 12"))


def test_there_is_no_button_for_what_there_is_not() -> None:
    baseline = replace(EXPERIMENT, number=0, training=None)
    assert labels(buttons_under(about(baseline, RunState.STOPPED))) == [["Plot"]]


def test_a_call_for_a_person_offers_to_look_and_to_go_on() -> None:
    assert labels(buttons_under(about(None, RunState.PAUSED, Topic.ATTENTION))) == [["Status", "Resume"]]
    assert labels(buttons_under(about(None, RunState.DONE, Topic.RUN))) == [["Resume"]]
    assert buttons_under(about(None, RunState.RUNNING, Topic.RUN)) == ()


def test_a_report_offers_to_look_closer_and_what_can_be_done_now() -> None:
    looking = ["Details", "Chart", "Diff"]
    running = report_buttons(RunState.RUNNING, changed=(3, 12))
    assert labels(running) == [looking, ["Pause", "Stop", "Bundle"]]
    assert running[0][2].command == "/diff 3 12"
    for state in (RunState.PAUSING, RunState.PAUSED, RunState.DONE):
        assert labels(report_buttons(state, changed=(0, 1))) == [looking, ["Keep going", "Stop", "Bundle"]]
    assert labels(report_buttons(RunState.STOPPED, changed=(0, 1))) == [looking, ["Bundle"]]
    assert labels(report_buttons(RunState.STOPPED, changed=None)) == [["Details", "Chart"]]
    assert labels(report_buttons(RunState.RUNNING, changed=None)) == [["Details", "Chart"], ["Pause", "Stop"]]


def test_a_card_and_a_summary_offer_what_the_state_allows() -> None:
    assert labels(card_buttons(RunState.RUNNING)) == [["Pause", "Skip", "Stop"], ["Refresh", "Plot"]]
    assert labels(card_buttons(RunState.DONE)) == [["Resume", "Stop"], ["Refresh", "Plot"]]
    assert labels(card_buttons(RunState.STOPPED)) == [["Refresh", "Plot"]]
    assert labels(summary_buttons(RunState.RUNNING)) == [["Results", "Plot", "Pause"]]
