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
    named_buttons,
    report_buttons,
    summary_buttons,
)
from tests.notifiers.text.test_digest import BASELINE, CRASH, DISCARDED, EXPERIMENT, RUN


def labels(rows: tuple[tuple[Button, ...], ...]) -> list[list[str]]:
    return [[button.label for button in row] for row in rows]


def about(experiment: Experiment | None, state: RunState, topic: Topic = Topic.KEEP) -> Notification:
    event = Event(1, 0.0, 1, 12, EventKind.DECIDED, {})
    return Notification(event, replace(RUN, state=state), experiment, topic)


STEERING = ["More like this", "Never again"]


@pytest.mark.parametrize(
    ("experiment", "expected"),
    [
        (EXPERIMENT, [["Diff", "Log", "Again ×3", "Reject"], STEERING]),
        (DISCARDED, [["Diff", "Log", "Again ×3"], STEERING]),
        (CRASH, [["Diff", "Log"], STEERING[1:]]),
        (replace(CRASH, status=Status.SKIP), [["Diff", "Log"], STEERING]),
        (BASELINE, [["Log", "Again ×3"]]),
    ],
)
def test_a_digest_offers_to_look_and_to_say_what_follows(
    experiment: Experiment, expected: list[list[str]]
) -> None:
    for state in set(RunState) - {RunState.STOPPED}:
        assert labels(buttons_under(about(experiment, state))) == expected
    look = [label for label in expected[0] if label in ("Diff", "Log")]
    assert labels(buttons_under(about(experiment, RunState.STOPPED))) == [look]


def test_the_buttons_of_a_digest_mean_its_own_experiment() -> None:
    rows = buttons_under(about(EXPERIMENT, RunState.RUNNING))
    commands = [button.command for row in rows for button in row]
    assert commands == ["/diff 12", "/log 12", "/rerun 12 3", "/reject 12", "/more 12", "/never 12"]


def test_where_several_are_shown_buttons_name_theirs() -> None:
    assert labels(named_buttons(EXPERIMENT, RunState.RUNNING)) == [
        ["Diff #12", "Log #12", "Again ×3 #12", "Reject #12"],
        ["More like #12", "Never again #12"],
    ]


def test_a_repeat_offers_what_its_number_is_for() -> None:
    event = Event(1, 0.0, 1, 12, EventKind.REPEATED, {})
    repeated = Notification(event, RUN, None, Topic.RUN)
    assert labels(buttons_under(repeated)) == [["Diff", "Again ×3", "Reject"]]


def test_a_result_in_quarantine_can_be_decided_about_from_its_digest_and_from_the_call() -> None:
    doubted = replace(EXPERIMENT, status=Status.QUARANTINE)
    decision, *_ = buttons_under(about(doubted, RunState.RUNNING, Topic.QUARANTINE))
    event = Event(1, 0.0, 1, 12, EventKind.NEEDS_ATTENTION, {"cause": Cause.QUARANTINE, "key": "12"})
    (call,) = buttons_under(Notification(event, RUN, None, Topic.ATTENTION))
    assert call[:2] == decision == (Button("Accept", "/accept 12"), Button("Reject", "/reject 12"))


def test_there_is_no_button_for_what_there_is_not() -> None:
    baseline = replace(EXPERIMENT, number=0, training=None)
    assert buttons_under(about(baseline, RunState.STOPPED)) == ()


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
