"""What is told after an outage, and after quiet hours."""

from __future__ import annotations

import asyncio
from datetime import time

import pytest

from loop.experiment import Run, RunState, Status
from notifiers.delivery.preferences import Preferences, QuietHours, Verbosity
from notifiers.message import RateLimitedError, RefusedError, UnreachableError
from tests.notifiers.bench import Bench
from tests.notifiers.recording import Fault
from tests.notifiers.stories import call, decide, needs_you, turned

NIGHT = QuietHours(time(22), time(7))


async def test_an_outage_is_told_in_one_message_that_what_matters_follows(bench: Bench, run: Run) -> None:
    for number in range(23):
        status = Status.KEEP if number in (0, 7) else Status.DISCARD
        decide(bench.journal, run, number, status)
        bench.time.now += 300
    call(bench.journal, run, "5 experiments crashed in a row")
    bench.journal.set_state(run, RunState.PAUSED)
    assert await bench.told() == [
        "While offline: 23 experiments, 2 kept, 21 discarded",
        "Experiment #0: try 0",
        "Experiment #7: try 7",
        needs_you("5 experiments crashed in a row"),
    ]
    assert [sent.message.silent for sent in bench.channel.sent] == [False, True, True, False]
    assert [sent.broadcast for sent in bench.channel.sent] == [True, False, False, True]
    assert set(bench.states()) == {"sent", "collapsed"}
    assert len(bench.states()) == 26


async def test_what_piles_up_while_the_network_is_dead_becomes_one_message(bench: Bench, run: Run) -> None:
    decide(bench.journal, run, 0, Status.KEEP)
    bench.channel.fail(*[UnreachableError("no route to host")] * 7)
    numbers = iter(range(1, 8))
    virtual = bench.time.clock

    async def sleep(seconds: float) -> None:  # the loop does not wait for the chat
        decide(bench.journal, run, next(numbers), Status.DISCARD)
        await virtual.sleep(seconds + 60)

    bench.time.clock = type(virtual)(virtual.now, virtual.monotonic, sleep)
    bench.restart()
    assert await bench.told() == [
        "While offline: 8 experiments, 1 kept, 7 discarded",
        "Experiment #0: try 0",
    ]


async def test_a_few_messages_or_a_fresh_burst_are_told_one_by_one(bench: Bench, run: Run) -> None:
    for number in range(5):
        decide(bench.journal, run, number, Status.DISCARD)
    bench.time.now += 8 * 3600
    assert len(await bench.told()) == 5
    for number in range(5, 15):
        decide(bench.journal, run, number, Status.DISCARD)
    assert len(await bench.told()) == 10


async def test_dying_amid_a_backlog_repeats_only_the_message_in_flight(bench: Bench, run: Run) -> None:
    for number in range(9):
        decide(bench.journal, run, number, Status.KEEP if number in (0, 3, 6) else Status.DISCARD)
    bench.time.now += 3600
    death = Fault(asyncio.CancelledError(), taken=True)
    bench.channel.faults.extend([death, None, death])
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError):
            await bench.delivery.catch_up()
        bench.restart()
    await bench.delivery.catch_up()
    assert bench.channel.heads == [
        *["While offline: 9 experiments, 3 kept, 6 discarded"] * 2,
        *["Experiment #0: try 0"] * 2,
        "Experiment #3: try 3",
        "Experiment #6: try 6",
    ]


async def test_a_backlog_message_that_is_refused_takes_nothing_else_along(bench: Bench, run: Run) -> None:
    for number in range(8):
        decide(bench.journal, run, number, Status.KEEP if number == 3 else Status.DISCARD)
    bench.time.now += 3600
    bench.channel.fail(RefusedError("too long"))
    less = "The message about mar12 was refused here: too long"
    assert await bench.told() == [less, "Experiment #3: try 3"]
    assert sorted(bench.states()) == ["refused"] * 7 + ["sent"] * 2


async def test_the_night_is_held_for_the_morning_but_not_a_call_for_a_person(bench: Bench, run: Run) -> None:
    bench.preferences = Preferences(quiet=NIGHT)
    bench.at("22:00")
    for number in range(50):
        decide(bench.journal, run, number, Status.KEEP if number == 30 else Status.DISCARD)
        bench.time.now += 300
        assert await bench.told() == []
    call(bench.journal, run, "the disk is full")
    assert await bench.told() == [needs_you("the disk is full")]
    assert not bench.channel.sent[-1].message.silent
    bench.restart()
    bench.at("06:59", day=13)
    assert await bench.told() == []
    bench.at("07:00", day=13)
    decide(bench.journal, run, 50, Status.DISCARD)
    assert await bench.told() == [
        "In the quiet hours: 51 experiments, 1 kept, 50 discarded",
        "Experiment #30: try 30",
    ]
    assert len(bench.states()) == 53
    assert set(bench.states()) == {"sent", "collapsed"}


async def test_a_calm_night_is_told_piece_by_piece(bench: Bench, run: Run) -> None:
    bench.preferences = Preferences(quiet=NIGHT)
    bench.at("23:00")
    decide(bench.journal, run, 0, Status.KEEP)
    bench.journal.set_state(run, RunState.DONE)
    assert await bench.told() == []
    bench.at("07:30", day=13)
    assert await bench.told() == ["Experiment #0: try 0", turned(RunState.DONE)]
    assert bench.channel.sent[-1].message.text.endswith("\nThat was 2026-03-12 at 23:00")


async def test_the_night_also_holds_what_a_backlog_announced_before_it(bench: Bench, run: Run) -> None:
    bench.preferences = Preferences(quiet=NIGHT)
    bench.at("12:00")
    for number in range(9):
        decide(bench.journal, run, number, Status.KEEP if number == 3 else Status.DISCARD)
    bench.at("21:59")
    bench.channel.faults.extend([None, Fault(RateLimitedError(60))])
    assert await bench.told() == ["While offline: 9 experiments, 1 kept, 8 discarded"]
    bench.at("07:00", day=13)
    assert await bench.told() == ["Experiment #3: try 3"]


async def test_a_night_in_groups_is_one_message_in_the_morning(bench: Bench, run: Run) -> None:
    bench.preferences = Preferences(Verbosity.EVERY, 5, NIGHT)
    bench.at("23:00")
    for number in range(23):
        decide(bench.journal, run, number, Status.DISCARD)
    assert await bench.told() == []
    bench.at("07:30", day=13)
    assert await bench.told() == ["In the quiet hours: 23 experiments, 23 discarded"]


async def test_what_was_muted_in_the_night_stays_away_in_the_morning(bench: Bench, run: Run) -> None:
    bench.preferences = Preferences(quiet=NIGHT)
    bench.at("23:00")
    for number in range(3):
        decide(bench.journal, run, number, Status.KEEP if number == 1 else Status.DISCARD)
    await bench.delivery.catch_up()
    bench.preferences = Preferences(Verbosity.KEEPS, quiet=NIGHT)
    bench.at("07:30", day=13)
    assert await bench.told() == ["Experiment #1: try 1"]
    assert bench.states()[1:] == ["muted", "sent", "muted"]
