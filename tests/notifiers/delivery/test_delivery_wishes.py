"""What is told to a channel that has said what it wants."""

from __future__ import annotations

from loop.experiment import EventKind, Run, RunState, Status
from loop.store.events import remind
from notifiers.delivery.preferences import Loudness, Preferences, Verbosity, parse, read_hours
from notifiers.text.notification import Topic
from tests.notifiers.bench import Bench
from tests.notifiers.stories import call, decide, needs_you, turned


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


async def test_keeps_come_at_once_and_the_others_in_a_line_an_hour(bench: Bench, run: Run) -> None:
    bench.preferences = Preferences(Verbosity.HOURLY)
    bench.at("22:00")
    decide(bench.journal, run, 0, Status.KEEP, 1.0)
    assert await bench.told() == ["Experiment #0: try 0"]
    for number in range(1, 12):
        bench.time.now += 300
        status = Status.CRASH if number == 3 else Status.DISCARD
        decide(bench.journal, run, number, status, None if status is Status.CRASH else 1.1)
        assert await bench.told() == []
    decide(bench.journal, run, 12, Status.KEEP, 0.99)
    assert await bench.told() == ["Experiment #12: try 12"]
    bench.restart()
    bench.time.now += 600  # an hour after the first of them
    decide(bench.journal, run, 13, Status.DISCARD, 1.1, before=0.99)
    assert await bench.told() == ["Since 22:05: 11 discarded, 1 crashed · nearest 1.100000 (#1)"]
    assert bench.channel.sent[-1].message.silent
    decide(bench.journal, run, 14, Status.DISCARD, 1.1, before=0.99)
    bench.journal.note(run.id, EventKind.WAKE_UP, since=0.0)
    assert (await bench.told())[0].startswith("Good morning")
    bench.time.now += 7200
    assert await bench.told() == []  # the report told it


async def test_who_wants_the_morning_only_gets_the_report_and_what_needs_a_person(
    bench: Bench, run: Run
) -> None:
    bench.preferences = Preferences(Verbosity.MORNING)
    for number in range(9):
        decide(bench.journal, run, number, Status.KEEP)
    call(bench.journal, run, "help")
    assert await bench.told() == [needs_you("help")]
    bench.journal.note(run.id, EventKind.WAKE_UP, since=0.0)
    (report,) = await bench.told()
    assert report.startswith("Good morning")


async def test_what_was_muted_comes_in_one_message(bench: Bench, run: Run) -> None:
    bench.preferences = Preferences(muted_until=bench.time.now + 7200)
    for number in range(9):
        decide(bench.journal, run, number, Status.DISCARD)
        assert await bench.told() == []
    call(bench.journal, run, "help")
    assert await bench.told() == [needs_you("help")]
    bench.time.now += 7200
    assert await bench.told() == ["In the meantime: 9 experiments, 9 discarded"]


async def test_a_number_that_was_to_be_reached_is_named(bench: Bench, run: Run) -> None:
    bench.preferences = parse("morning when val_bpb < 0.99", Preferences())
    decide(bench.journal, run, 0, Status.KEEP, 1.0)
    decide(bench.journal, run, 1, Status.KEEP, 0.985, before=1.0)
    decide(bench.journal, run, 2, Status.KEEP, 0.98, before=0.985)
    assert await bench.told() == ["Experiment #1: try 1"]
    assert bench.channel.sent[0].message.text.endswith("\nval_bpb < 0.99: you asked to hear of it")


async def test_a_call_that_nobody_answers_is_repeated_once_also_in_quiet_hours(
    bench: Bench, run: Run
) -> None:
    bench.preferences = Preferences(quiet=read_hours("22:00-07:00"))
    bench.at("22:30")
    call(bench.journal, run, "help")
    assert await bench.told() == [needs_you("help")]
    for minutes in (30, 29, 1, 60, 600):
        bench.time.now += 60 * minutes
        remind(bench.journal, run, now=bench.time.now, after=3600)
        heads = await bench.told()
        assert heads == (["Run mar12 still needs you: help"] if minutes == 1 else [])
    assert not bench.channel.sent[-1].message.silent
    call(bench.journal, run, "help")  # anew
    bench.time.now += 3600
    remind(bench.journal, run, now=bench.time.now, after=3600)
    assert await bench.told() == [needs_you("help"), "Run mar12 still needs you: help"]
    bench.journal.set_state(bench.journal.set_state(run, RunState.PAUSED), RunState.RUNNING)
    remind(bench.journal, run, now=bench.time.now + 9999, after=3600)
    assert "still needs you" not in " ".join(await bench.told())
