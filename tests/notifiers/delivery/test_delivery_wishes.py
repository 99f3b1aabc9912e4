"""What is told to a channel that has said what it wants."""

from __future__ import annotations

from loop.experiment import Run, RunState, Status
from notifiers.delivery.preferences import Loudness, Preferences, Verbosity
from notifiers.text.notification import Topic
from tests.notifiers.bench import Bench
from tests.notifiers.stories import call, decide, turned


async def test_what_a_channel_does_not_want_is_recorded_as_muted(bench: Bench, run: Run) -> None:
    bench.preferences = Preferences(Verbosity.BEST)
    decide(bench.journal, run, 0, Status.KEEP)
    for number in range(1, 30):
        decide(bench.journal, run, number, Status.DISCARD)
        bench.time.now += 300
    assert await bench.told() == ["Experiment #0: try 0"]
    assert bench.states() == ["sent", "sent", *["muted"] * 29]


async def test_what_is_silent_makes_no_sound_and_stays_in_its_thread(bench: Bench, run: Run) -> None:
    bench.preferences = Preferences(topics={Topic.KEEP: Loudness.SILENT})
    decide(bench.journal, run, 0, Status.KEEP)
    call(bench.journal, run, "help")
    await bench.delivery.catch_up()
    assert [(sent.message.silent, sent.broadcast) for sent in bench.channel.sent] == [
        (True, False),
        (False, True),
    ]


async def test_of_crashes_in_a_row_only_the_first_makes_a_sound(bench: Bench, run: Run) -> None:
    for number, status in enumerate((Status.CRASH, Status.CRASH, Status.DISCARD, Status.CRASH)):
        decide(bench.journal, run, number, status)
    await bench.delivery.catch_up()
    assert [sent.message.silent for sent in bench.channel.sent] == [False, True, True, False]


async def test_every_nth_digest_tells_what_the_n_brought(bench: Bench, run: Run) -> None:
    bench.preferences = Preferences(Verbosity.EVERY, 3)
    for number in range(7):
        decide(bench.journal, run, number, Status.DISCARD)
    assert await bench.told() == ["Experiments #0 – #2: 3 discarded", "Experiments #3 – #5: 3 discarded"]
    bench.restart()
    decide(bench.journal, run, 7, Status.DISCARD)
    assert await bench.told() == []
    decide(bench.journal, run, 8, Status.KEEP)
    assert await bench.told() == ["Experiments #6 – #8: 1 kept, 2 discarded"]


async def test_a_group_that_grows_slowly_is_no_backlog(bench: Bench, run: Run) -> None:
    bench.preferences = Preferences(Verbosity.EVERY, 10)
    for number in range(9):
        decide(bench.journal, run, number, Status.DISCARD)
        assert await bench.told() == []
        bench.time.now += 600
    decide(bench.journal, run, 9, Status.DISCARD)
    assert await bench.told() == ["Experiments #0 – #9: 10 discarded"]


async def test_an_unfinished_group_is_told_before_anything_else_is(bench: Bench, run: Run) -> None:
    bench.preferences = Preferences(Verbosity.EVERY, 10)
    for number in range(2):
        decide(bench.journal, run, number, Status.DISCARD)
    assert await bench.told() == []
    bench.journal.set_state(run, RunState.DONE)
    assert await bench.told() == ["Experiments #0 – #1: 2 discarded", turned(RunState.DONE)]


async def test_a_group_that_is_no_longer_wanted_is_told_one_by_one(bench: Bench, run: Run) -> None:
    bench.preferences = Preferences(Verbosity.EVERY, 10)
    for number in range(2):
        decide(bench.journal, run, number, Status.DISCARD)
    await bench.delivery.catch_up()
    bench.preferences = Preferences()
    assert await bench.told() == ["Experiment #0: try 0", "Experiment #1: try 1"]
