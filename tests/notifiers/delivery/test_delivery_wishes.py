"""What is told to a channel that has said what it wants."""

from __future__ import annotations

from loop.experiment import Run, RunState, Status
from notifiers.delivery.preferences import Loudness, Preferences, Verbosity
from notifiers.text.notification import Topic
from tests.notifiers.desk import Desk
from tests.notifiers.stories import call, decide


async def test_what_a_channel_does_not_want_is_recorded_as_muted(desk: Desk, run: Run) -> None:
    desk.preferences = Preferences(Verbosity.BEST)
    decide(desk.journal, run, 0, Status.KEEP)
    for number in range(1, 30):
        decide(desk.journal, run, number, Status.DISCARD)
        desk.time.now += 300
    assert await desk.told() == ["Experiment #0: try 0"]
    assert desk.states() == ["sent", "sent", *["muted"] * 29]


async def test_what_is_silent_makes_no_sound_and_stays_in_its_thread(desk: Desk, run: Run) -> None:
    desk.preferences = Preferences(topics={Topic.KEEP: Loudness.SILENT})
    decide(desk.journal, run, 0, Status.KEEP)
    call(desk.journal, run, "help")
    await desk.delivery.catch_up()
    assert [(sent.message.silent, sent.broadcast) for sent in desk.channel.sent] == [
        (True, False),
        (False, True),
    ]


async def test_of_crashes_in_a_row_only_the_first_makes_a_sound(desk: Desk, run: Run) -> None:
    for number, status in enumerate((Status.CRASH, Status.CRASH, Status.DISCARD, Status.CRASH)):
        decide(desk.journal, run, number, status)
    await desk.delivery.catch_up()
    assert [sent.message.silent for sent in desk.channel.sent] == [False, True, True, False]


async def test_every_nth_digest_tells_what_the_n_brought(desk: Desk, run: Run) -> None:
    desk.preferences = Preferences(Verbosity.EVERY, 3)
    for number in range(7):
        decide(desk.journal, run, number, Status.DISCARD)
    assert await desk.told() == ["Experiments #0 – #2: 3 discarded", "Experiments #3 – #5: 3 discarded"]
    desk.restart()
    decide(desk.journal, run, 7, Status.DISCARD)
    assert await desk.told() == []
    decide(desk.journal, run, 8, Status.KEEP)
    assert await desk.told() == ["Experiments #6 – #8: 1 kept, 2 discarded"]


async def test_a_group_that_grows_slowly_is_no_backlog(desk: Desk, run: Run) -> None:
    desk.preferences = Preferences(Verbosity.EVERY, 10)
    for number in range(9):
        decide(desk.journal, run, number, Status.DISCARD)
        assert await desk.told() == []
        desk.time.now += 600
    decide(desk.journal, run, 9, Status.DISCARD)
    assert await desk.told() == ["Experiments #0 – #9: 10 discarded"]


async def test_an_unfinished_group_is_told_before_anything_else_is(desk: Desk, run: Run) -> None:
    desk.preferences = Preferences(Verbosity.EVERY, 10)
    for number in range(2):
        decide(desk.journal, run, number, Status.DISCARD)
    assert await desk.told() == []
    desk.journal.set_state(run, RunState.DONE)
    assert await desk.told() == ["Experiments #0 – #1: 2 discarded", "Run mar12 is done"]


async def test_a_group_that_is_no_longer_wanted_is_told_one_by_one(desk: Desk, run: Run) -> None:
    desk.preferences = Preferences(Verbosity.EVERY, 10)
    for number in range(2):
        decide(desk.journal, run, number, Status.DISCARD)
    await desk.delivery.catch_up()
    desk.preferences = Preferences()
    assert await desk.told() == ["Experiment #0: try 0", "Experiment #1: try 1"]
