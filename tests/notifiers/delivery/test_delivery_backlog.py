"""What is told after an outage, and after quiet hours."""

from __future__ import annotations

import asyncio
from datetime import time

import pytest

from loop.experiment import Run, RunState, Status
from notifiers.channel import RateLimitedError, RefusedError, UnreachableError
from notifiers.delivery.preferences import Preferences, QuietHours, Verbosity
from tests.notifiers.desk import Desk
from tests.notifiers.recording import Fault
from tests.notifiers.stories import call, decide

NIGHT = QuietHours(time(22), time(7))


async def test_an_outage_is_told_in_one_message_that_what_matters_follows(desk: Desk, run: Run) -> None:
    for number in range(23):
        status = Status.KEEP if number in (0, 7) else Status.DISCARD
        decide(desk.journal, run, number, status)
        desk.time.now += 300
    call(desk.journal, run, "5 experiments crashed in a row")
    desk.journal.set_state(run, RunState.PAUSED)
    assert await desk.told() == [
        "While offline: 23 experiments, 2 kept, 21 discarded",
        "Experiment #0: try 0",
        "Experiment #7: try 7",
        "Run mar12 needs a person: 5 experiments crashed in a row",
    ]
    assert [sent.message.silent for sent in desk.channel.sent] == [False, True, True, False]
    assert [sent.broadcast for sent in desk.channel.sent] == [True, False, False, True]
    assert set(desk.states()) == {"sent", "collapsed"}
    assert len(desk.states()) == 26


async def test_what_piles_up_while_the_network_is_dead_becomes_one_message(desk: Desk, run: Run) -> None:
    decide(desk.journal, run, 0, Status.KEEP)
    desk.channel.fail(*[UnreachableError("no route to host")] * 7)
    numbers = iter(range(1, 8))
    virtual = desk.time.clock

    async def sleep(seconds: float) -> None:  # the loop does not wait for the chat
        decide(desk.journal, run, next(numbers), Status.DISCARD)
        await virtual.sleep(seconds + 60)

    desk.time.clock = type(virtual)(virtual.now, virtual.monotonic, sleep)
    desk.restart()
    assert await desk.told() == [
        "While offline: 8 experiments, 1 kept, 7 discarded",
        "Experiment #0: try 0",
    ]


async def test_a_few_messages_or_a_fresh_burst_are_told_one_by_one(desk: Desk, run: Run) -> None:
    for number in range(5):
        decide(desk.journal, run, number, Status.DISCARD)
    desk.time.now += 8 * 3600
    assert len(await desk.told()) == 5
    for number in range(5, 15):
        decide(desk.journal, run, number, Status.DISCARD)
    assert len(await desk.told()) == 10


async def test_dying_amid_a_backlog_repeats_only_the_message_in_flight(desk: Desk, run: Run) -> None:
    for number in range(9):
        decide(desk.journal, run, number, Status.KEEP if number in (0, 3, 6) else Status.DISCARD)
    desk.time.now += 3600
    death = Fault(asyncio.CancelledError(), taken=True)
    desk.channel.faults.extend([death, None, death])
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError):
            await desk.delivery.catch_up()
        desk.restart()
    await desk.delivery.catch_up()
    assert desk.channel.heads == [
        *["While offline: 9 experiments, 3 kept, 6 discarded"] * 2,
        *["Experiment #0: try 0"] * 2,
        "Experiment #3: try 3",
        "Experiment #6: try 6",
    ]


async def test_a_backlog_message_that_is_refused_takes_nothing_else_along(desk: Desk, run: Run) -> None:
    for number in range(8):
        decide(desk.journal, run, number, Status.KEEP if number == 3 else Status.DISCARD)
    desk.time.now += 3600
    desk.channel.fail(RefusedError("too long"))
    assert await desk.told() == ["Experiment #3: try 3"]
    assert sorted(desk.states()) == ["refused"] * 7 + ["sent"] * 2


async def test_the_night_is_held_for_the_morning_but_not_a_call_for_a_person(desk: Desk, run: Run) -> None:
    desk.preferences = Preferences(quiet=NIGHT)
    desk.at("22:00")
    for number in range(50):
        decide(desk.journal, run, number, Status.KEEP if number == 30 else Status.DISCARD)
        desk.time.now += 300
        assert await desk.told() == []
    call(desk.journal, run, "the disk is full")
    assert await desk.told() == ["Run mar12 needs a person: the disk is full"]
    assert not desk.channel.sent[-1].message.silent
    desk.restart()
    desk.at("06:59", day=13)
    assert await desk.told() == []
    desk.at("07:00", day=13)
    decide(desk.journal, run, 50, Status.DISCARD)
    assert await desk.told() == [
        "In the quiet hours: 51 experiments, 1 kept, 50 discarded",
        "Experiment #30: try 30",
    ]
    assert len(desk.states()) == 53
    assert set(desk.states()) == {"sent", "collapsed"}


async def test_a_calm_night_is_told_piece_by_piece(desk: Desk, run: Run) -> None:
    desk.preferences = Preferences(quiet=NIGHT)
    desk.at("23:00")
    decide(desk.journal, run, 0, Status.KEEP)
    desk.journal.set_state(run, RunState.DONE)
    assert await desk.told() == []
    desk.at("07:30", day=13)
    assert await desk.told() == ["Experiment #0: try 0", "Run mar12 is done"]
    assert desk.channel.sent[-1].message.text.endswith("\nThat was 2026-03-12 at 23:00")


async def test_the_night_also_holds_what_a_backlog_announced_before_it(desk: Desk, run: Run) -> None:
    desk.preferences = Preferences(quiet=NIGHT)
    desk.at("12:00")
    for number in range(9):
        decide(desk.journal, run, number, Status.KEEP if number == 3 else Status.DISCARD)
    desk.at("21:59")
    desk.channel.faults.extend([None, Fault(RateLimitedError(60))])
    assert await desk.told() == ["While offline: 9 experiments, 1 kept, 8 discarded"]
    desk.at("07:00", day=13)
    assert await desk.told() == ["Experiment #3: try 3"]


async def test_a_night_in_groups_is_one_message_in_the_morning(desk: Desk, run: Run) -> None:
    desk.preferences = Preferences(Verbosity.EVERY, 5, NIGHT)
    desk.at("23:00")
    for number in range(23):
        decide(desk.journal, run, number, Status.DISCARD)
    assert await desk.told() == []
    desk.at("07:30", day=13)
    assert await desk.told() == ["In the quiet hours: 23 experiments, 23 discarded"]


async def test_what_was_muted_in_the_night_stays_away_in_the_morning(desk: Desk, run: Run) -> None:
    desk.preferences = Preferences(quiet=NIGHT)
    desk.at("23:00")
    for number in range(3):
        decide(desk.journal, run, number, Status.KEEP if number == 1 else Status.DISCARD)
    await desk.delivery.catch_up()
    desk.preferences = Preferences(Verbosity.KEEPS, quiet=NIGHT)
    desk.at("07:30", day=13)
    assert await desk.told() == ["Experiment #1: try 1"]
    assert desk.states()[1:] == ["muted", "sent", "muted"]
