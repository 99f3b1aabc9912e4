from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import pytest

from loop.experiment import RunState, Stage, Status
from loop.results.report import run_status
from loop.store.journal import Journal
from loop.store.outbox import Outbox
from notifiers.delivery.live_card import INTERVAL, LiveCards
from notifiers.delivery.rate_limit import CHANNEL_WAITS, Clock, Spacing, Window
from notifiers.message import RateLimitedError, RefusedError, UnreachableError
from tests.notifiers.recording import RecordingChannel, VirtualTime
from tests.notifiers.stories import decide, open_journal, start


class Bench:
    """A journal, a channel and the keeper of its cards."""

    def __init__(self, journal: Journal, folder: Path, time: VirtualTime) -> None:
        self.journal, self.folder, self.time = journal, folder, time
        self.channel = RecordingChannel(time)
        self.outbox = Outbox(journal, self.channel.name, now=lambda: time.now)
        self.restart(time.clock)

    def restart(self, clock: Clock) -> None:
        self.spacing = Spacing(Window(1, 1.0), clock=clock)
        self.keeper = LiveCards(
            self.channel,
            self.journal,
            status=lambda run: run_status(self.journal, run, worktree=self.folder),
            spacing=self.spacing,
            zone=UTC,
            clock=clock,
            jitter=lambda: 0.0,
        )

    async def refresh(self, times: int = 1) -> None:
        """Refresh as the keeper's own task does."""
        for _ in range(times):
            self.time.now += INTERVAL
            await self.keeper.refresh()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    time = VirtualTime()
    with open_journal(tmp_path, time) as journal:
        yield Bench(journal, tmp_path, time)


async def test_a_run_gets_one_card_which_is_silent_pinned_and_dated(bench: Bench) -> None:
    start(bench.journal)
    await bench.refresh(5)
    (sent,) = bench.channel.sent
    assert sent.message.text.splitlines()[-1] == "updated 12:00"
    assert sent.message.silent
    assert [button.label for button in sent.message.buttons[0]] == ["Pause", "Skip", "Stop"]
    assert bench.channel.pinned == ["m1"]


async def test_a_card_is_edited_only_when_something_changed(bench: Bench) -> None:
    run = start(bench.journal)
    await bench.refresh(100)
    (sent,) = bench.channel.sent
    assert sent.edits == 0
    decide(bench.journal, run, 0, Status.KEEP)
    await bench.refresh(10)
    assert sent.edits == 1
    assert "1 made" in sent.message.text
    bench.journal.set_state(run, RunState.PAUSED)
    await bench.refresh()
    assert sent.message.buttons[0][0].label == "Resume"


async def test_the_card_is_found_again_after_a_restart(bench: Bench) -> None:
    start(bench.journal)
    await bench.refresh(3)
    bench.restart(bench.time.clock)
    await bench.refresh(3)
    assert len(bench.channel.sent) == 1
    assert bench.channel.sent[0].edits == 1  # nobody knew what it said


async def test_a_deleted_card_is_made_anew(bench: Bench) -> None:
    run = start(bench.journal)
    await bench.refresh(2)
    bench.channel.deleted.add("m1")
    decide(bench.journal, run, 0, Status.KEEP)
    await bench.refresh(3)
    assert bench.outbox.card(run.id) == "m2"
    assert len(bench.channel.sent) == 2
    assert bench.channel.pinned == ["m1", "m2"]


async def test_the_last_thing_a_card_says_is_that_the_run_is_stopped(bench: Bench) -> None:
    run = start(bench.journal)
    await bench.refresh(2)
    bench.journal.set_state(run, RunState.STOPPED)
    bench.restart(bench.time.clock)  # it was stopped while the bot was on its way down
    await bench.refresh()
    assert bench.channel.sent[0].head == "Run mar12: stopped (from the terminal)"
    edits = bench.channel.sent[0].edits
    bench.restart(bench.time.clock)
    await bench.refresh(3)
    assert bench.channel.sent[0].edits == edits


async def test_a_card_of_a_stopped_run_says_last_that_nothing_trains(bench: Bench) -> None:
    run = start(bench.journal)
    baseline = decide(bench.journal, run, 0, Status.KEEP)
    under_way = replace(baseline, number=1, stage=Stage.TRAINING, status=None)
    bench.journal.record(under_way)
    await bench.refresh(2)
    (card,) = bench.channel.sent
    bench.journal.set_state(run, RunState.STOPPED)
    await bench.refresh()  # while the training is being ended
    assert "1 under way" in card.message.text
    bench.journal.record(replace(under_way, stage=Stage.DECIDED, status=Status.SKIP, value=None))
    await bench.refresh()
    assert "2 made: 1 measured, 1 skipped" in card.message.text
    edits = card.edits
    bench.restart(bench.time.clock)
    await bench.refresh(3)
    assert card.edits == edits


async def test_a_pin_does_not_take_the_turn_of_what_a_press_waits_for(bench: Bench) -> None:
    run = start(bench.journal)
    await bench.refresh()
    bench.journal.set_state(run, RunState.PAUSED)
    bench.time.now += INTERVAL
    await bench.keeper.refresh(pins=False)
    assert bench.channel.sent[0].message.buttons[0][0].label == "Resume"
    await bench.refresh()
    assert bench.channel.pinned == ["m1"]


async def test_runs_that_ended_before_the_channel_was_there_get_no_card(bench: Bench) -> None:
    for tag, state in (("mar10", RunState.STOPPED), ("mar11", RunState.DONE)):
        bench.journal.set_state(start(bench.journal, tag), state)
    await bench.refresh(3)
    assert bench.channel.sent == []


async def test_several_cards_share_the_turns(bench: Bench) -> None:
    runs = [start(bench.journal, tag) for tag in ("one", "two", "three")]
    await bench.refresh(6)
    for number in range(3):
        for run in runs:
            decide(bench.journal, run, number, Status.DISCARD)
        await bench.refresh()  # one turn for three cards
    assert [sent.edits for sent in bench.channel.sent] == [1, 1, 1]


@pytest.mark.parametrize("error", [UnreachableError("no route to host"), RateLimitedError(25)])
async def test_what_cannot_be_shown_now_is_shown_later_as_it_is_then(
    bench: Bench, error: UnreachableError | RateLimitedError
) -> None:
    run = start(bench.journal)
    await bench.refresh(2)
    for number in range(3):
        decide(bench.journal, run, number, Status.DISCARD)
        bench.channel.fail(error)
        try:
            await bench.refresh()
        except UnreachableError:
            assert isinstance(error, UnreachableError)
    bench.channel.faults.clear()
    await bench.refresh(5)
    assert bench.channel.sent[0].edits == 1
    assert "3 made" in bench.channel.sent[0].message.text


async def test_an_edit_leaves_the_turn_to_a_digest_that_waits(bench: Bench) -> None:
    start(bench.journal)
    bench.spacing.pause(INTERVAL)
    waiting = asyncio.create_task(bench.spacing.turn())
    await asyncio.sleep(0)
    await bench.keeper.refresh()
    assert bench.channel.sent == []
    await waiting


async def test_a_platform_that_takes_no_card_is_asked_again_after_a_while_and_for_a_thread(
    bench: Bench,
) -> None:
    run = start(bench.journal)
    bench.channel.fail(*[RefusedError("is_archived")] * 2)
    await bench.refresh(3)
    assert bench.channel.sent == []
    assert len(bench.channel.faults) == 1
    assert await bench.keeper.thread(run) == ""
    assert await bench.keeper.thread(run) == "m1"
    decide(bench.journal, run, 0, Status.KEEP)
    bench.channel.fail(RefusedError("is_archived"))
    await bench.refresh(3)
    (card,) = bench.channel.sent
    assert card.edits == 0
    bench.time.now += CHANNEL_WAITS[-1]
    await bench.refresh()
    assert card.edits == 1


async def test_who_needs_the_thread_first_makes_the_card(bench: Bench) -> None:
    run = start(bench.journal)
    assert await bench.keeper.thread(run) == "m1"
    assert await bench.keeper.thread(run) == "m1"
    await bench.refresh()
    assert len(bench.channel.sent) == 1
    assert bench.channel.pinned == ["m1"]


async def test_the_keeper_looks_every_ten_seconds_and_less_often_at_a_dead_platform(
    bench: Bench,
) -> None:
    slept: list[float] = []
    enough = asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        bench.time.now += seconds
        if len(slept) == 9:
            enough.set()
            await asyncio.Event().wait()

    start(bench.journal)
    bench.restart(Clock(bench.time.clock.now, bench.time.clock.monotonic, sleep))
    bench.channel.fail(*[UnreachableError("no route to host")] * 6)
    keeping = asyncio.create_task(bench.keeper.run())
    await enough.wait()
    keeping.cancel()
    await asyncio.wait({keeping})
    assert slept == [10, 10, 10, 16, 32, 64, 10, 10, 10]


async def test_a_new_run_has_its_card_at_once(bench: Bench) -> None:
    looked = asyncio.Event()

    async def sleep(_: float) -> None:
        looked.set()
        await asyncio.Event().wait()

    bench.restart(replace(bench.time.clock, sleep=sleep))
    serving = asyncio.create_task(bench.keeper.run())
    async with asyncio.timeout(60):
        await looked.wait()
        await asyncio.to_thread(start, bench.journal)
        await bench.channel.told.wait()
    serving.cancel()
    await asyncio.wait({serving})


async def test_a_change_of_state_is_shown_at_once(bench: Bench) -> None:
    run = start(bench.journal)

    async def sleep(_: float) -> None:
        await asyncio.Event().wait()

    bench.restart(replace(bench.time.clock, sleep=sleep))
    serving = asyncio.create_task(bench.keeper.run())
    async with asyncio.timeout(60):
        await bench.channel.told.wait()
        bench.time.now += 1.0  # what one channel may have
        while not bench.channel.pinned:
            await asyncio.sleep(0.01)
            await bench.keeper.refresh()
            bench.time.now += 1.0
        await asyncio.to_thread(bench.journal.set_state, run, RunState.PAUSED)
        while "paused" not in bench.channel.sent[0].message.text:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    serving.cancel()
    await asyncio.wait({serving})
