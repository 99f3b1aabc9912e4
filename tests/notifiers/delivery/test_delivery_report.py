"""How the report of the morning reaches a channel: once, late rather than never, and instead of a backlog."""

from __future__ import annotations

from datetime import time

import pytest

from loop.experiment import Actor, Event, EventKind, Reason, Run, RunState, Status
from notifiers.delivery.delivery import Delivery
from notifiers.delivery.preferences import Loudness, Preferences, QuietHours, Verbosity
from notifiers.message import Attachment, Button, Message, UnreachableError
from notifiers.text.notification import Topic
from tests.notifiers.bench import Bench
from tests.notifiers.stories import call, decide, needs_you, start, turned, woken

ADA = Reason(Actor.PERSON, "ada")

NIGHT = QuietHours(time(22), time(7))
REPORT = Message(
    "mar12: 96 experiments in 8 h",
    buttons=((Button("Chart", "/plot"),),),
    attachments=(Attachment("mar12.png", b"png"),),
)


class Reports:
    """Makes reports, as often as asked."""

    def __init__(self) -> None:
        self.asked: list[Event] = []
        self.made: Message | None = REPORT

    async def __call__(self, event: Event) -> Message | None:
        self.asked.append(event)
        return self.made


@pytest.fixture
def reports(bench: Bench) -> Reports:
    made = Reports()

    def restart() -> None:
        bench.delivery = Delivery(
            bench.channel,
            bench.journal,
            preferences=lambda: bench.preferences,
            report=made,
            clock=bench.time.clock,
            jitter=lambda: 0.0,
        )

    bench.restart = restart  # type: ignore[method-assign]
    restart()
    return made


def wake(bench: Bench, run: Run) -> None:
    bench.journal.note(run.id, EventKind.WAKE_UP, since=0.0)


def decide_some(bench: Bench, run: Run, numbers: range) -> None:
    for number in numbers:
        decide(bench.journal, run, number, Status.KEEP if number % 10 == 7 else Status.DISCARD)


async def test_it_is_told_with_its_chart_and_buttons_aloud_and_to_all(
    bench: Bench, run: Run, reports: Reports
) -> None:
    wake(bench, run)
    assert await bench.told() == [REPORT.text]
    (sent,) = bench.channel.sent
    assert sent.message == REPORT
    assert sent.broadcast
    bench.restart()
    assert await bench.told() == []
    assert len(reports.asked) == 1


async def test_where_it_cannot_be_made_a_line_says_how_to_get_it(
    bench: Bench, run: Run, reports: Reports
) -> None:
    reports.made = None
    wake(bench, run)
    assert await bench.told() == [woken()]


@pytest.mark.parametrize("state", [RunState.DONE, RunState.STOPPED])
async def test_the_end_of_a_run_is_told_with_one(
    bench: Bench, run: Run, reports: Reports, state: RunState
) -> None:
    bench.journal.set_state(run, state, ADA)
    bench.journal.set_state(run, RunState.PAUSED, ADA)
    assert await bench.told() == [
        REPORT.text,
        turned(RunState.PAUSED, ADA),
    ]
    assert [event.data["state"] for event in reports.asked] == [state]


async def test_a_channel_that_was_out_of_reach_gets_it_late_and_says_so(
    bench: Bench, run: Run, reports: Reports
) -> None:
    bench.at("07:00", day=13)
    wake(bench, run)
    bench.channel.fail(*[UnreachableError("no network")] * 40)
    await bench.told()
    (sent,) = bench.channel.sent
    assert sent.at > bench.time.now - 3600
    assert sent.message.text.startswith(f"{REPORT.text}\nThat was 2026-03-13 at 07:00")
    assert sent.message.buttons == REPORT.buttons


async def test_it_takes_the_place_of_what_an_outage_left(bench: Bench, run: Run, reports: Reports) -> None:
    decide_some(bench, run, range(1, 20))
    bench.journal.set_state(run, RunState.DONE, Reason(Actor.LOOP, facts={"made": 19}))
    call(bench.journal, run, "the disk is full")
    bench.at("07:00", day=13)
    wake(bench, run)
    decide(bench.journal, run, 20, Status.KEEP)
    bench.at("07:20", day=13)
    told = await bench.told()
    assert told == [
        REPORT.text,
        needs_you("the disk is full"),
        "Experiment #20: try 20",
    ]
    assert bench.states() == ["sent", *["collapsed"] * 20, "sent", "sent", "sent"]


async def test_it_takes_the_place_of_what_the_quiet_hours_held(
    bench: Bench, run: Run, reports: Reports
) -> None:
    bench.preferences = Preferences(quiet=NIGHT)
    bench.at("23:00")
    decide_some(bench, run, range(1, 20))
    assert await bench.told() == []
    bench.at("07:00", day=13)
    wake(bench, run)
    assert await bench.told() == [REPORT.text]
    assert bench.states() == ["sent", *["collapsed"] * 19, "sent"]


async def test_quiet_hours_that_it_falls_into_do_not_hold_it(
    bench: Bench, run: Run, reports: Reports
) -> None:
    bench.preferences = Preferences(quiet=NIGHT)
    bench.at("23:00")
    decide_some(bench, run, range(1, 20))
    assert await bench.told() == []
    bench.at("06:30", day=13)
    wake(bench, run)
    decide(bench.journal, run, 20, Status.KEEP)
    assert await bench.told() == [REPORT.text]
    assert not bench.channel.sent[0].message.silent
    bench.at("07:00", day=13)
    assert await bench.told() == ["Experiment #20: try 20"]


async def test_the_end_of_a_run_is_held_in_quiet_hours(bench: Bench, run: Run, reports: Reports) -> None:
    bench.preferences = Preferences(quiet=NIGHT)
    bench.at("03:00", day=13)
    decide_some(bench, run, range(1, 20))
    bench.journal.set_state(run, RunState.DONE, Reason(Actor.LOOP, facts={"made": 19}))
    assert await bench.told() == []
    bench.at("07:00", day=13)
    told = await bench.told()
    assert told[0].startswith("In the quiet hours: 19 experiments")
    assert told[-1] == REPORT.text
    assert bench.channel.sent[-1].message.silent  # it was announced already


async def test_the_mornings_of_two_runs(bench: Bench, run: Run, reports: Reports) -> None:
    other = start(bench.journal, "mar13")
    bench.preferences = Preferences(quiet=NIGHT)
    bench.at("23:00")
    decide_some(bench, run, range(1, 10))
    decide_some(bench, other, range(1, 10))
    await bench.told()
    bench.channel.sent.clear()
    bench.at("07:00", day=13)
    wake(bench, run)
    wake(bench, other)
    assert await bench.told() == [REPORT.text] * 2
    assert [event.run_id for event in reports.asked] == [run.id, other.id]


@pytest.mark.parametrize(
    ("preferences", "told", "silent"),
    [
        (Preferences(Verbosity.KEEPS), 1, False),
        (Preferences(Verbosity.SILENT), 1, True),
        (Preferences(topics={Topic.REPORT: Loudness.SILENT}), 1, True),
        (Preferences(topics={Topic.REPORT: Loudness.OFF}), 0, False),
    ],
)
async def test_a_channel_may_want_it_otherwise(
    bench: Bench, run: Run, reports: Reports, preferences: Preferences, told: int, silent: bool
) -> None:
    bench.preferences = preferences
    wake(bench, run)
    assert len(await bench.told()) == told
    assert [sent.message.silent for sent in bench.channel.sent] == [silent] * told
