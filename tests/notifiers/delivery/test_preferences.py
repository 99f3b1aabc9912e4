from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.experiment import Event, EventKind, Goal, RunState, Status
from loop.store.outbox import write_preferences
from notifiers.delivery.preferences import (
    Decision,
    Loudness,
    Preferences,
    PreferenceStore,
    QuietHours,
    Threshold,
    Verbosity,
    decide,
    describe,
    in_groups,
    parse,
    read_hours,
)
from notifiers.text.notification import Notification, Topic
from tests.notifiers.golden import check
from tests.notifiers.recording import VirtualTime
from tests.notifiers.stories import open_journal
from tests.notifiers.text.test_digest import CRASH, EXPERIMENT, RUN

SEND, SILENT, HOLD, MUTE = Decision.SEND, Decision.SILENT, Decision.HOLD, Decision.MUTE
NOON = datetime(2026, 3, 12, 12, 0, tzinfo=UTC).timestamp()
HOURS = QuietHours(time(22), time(7))


def news(kind: EventKind, topic: Topic, **changes: object) -> Notification:
    experiment = None
    if kind is EventKind.DECIDED:
        values = {name: getattr(EXPERIMENT, name) for name in EXPERIMENT.__slots__} | changes
        experiment = type(EXPERIMENT)(**values)
        changes = {}
    return Notification(Event(1, NOON, 1, None, kind, changes), RUN, experiment, topic)


BEST = news(EventKind.DECIDED, Topic.KEEP)
BASELINE = news(EventKind.DECIDED, Topic.KEEP, number=0, best_before=None)
SIMPLER = news(EventKind.DECIDED, Topic.KEEP, value=EXPERIMENT.best_before)
WORSE = news(EventKind.DECIDED, Topic.DISCARD, status=Status.DISCARD, value=1.2)
CRASHED = Notification(Event(1, NOON, 1, 12, EventKind.DECIDED, {}), RUN, CRASH, Topic.CRASH)
GOES_ON = news(EventKind.RUN_STATE, Topic.RUN, state=RunState.RUNNING.value)
PAUSED = news(EventKind.RUN_STATE, Topic.RUN, state=RunState.PAUSED.value)
ENDED = news(EventKind.RUN_STATE, Topic.RUN, state=RunState.STOPPED.value)
RECOVERED = news(EventKind.RUN_RECOVERED, Topic.RECOVERY)
CALL = news(EventKind.NEEDS_ATTENTION, Topic.ATTENTION)

ALL_NEWS = (BEST, BASELINE, SIMPLER, WORSE, CRASHED, GOES_ON, PAUSED, ENDED, RECOVERED, CALL)


@pytest.mark.parametrize(
    ("preferences", "expected"),
    [
        #                          best  baseline simpler worse crash  on      paused  ended recovered call
        (Preferences(), (SEND, SEND, SEND, SILENT, SEND, SILENT, SEND, SEND, SILENT, SEND)),
        (
            Preferences(Verbosity.KEEPS),
            (SEND, SEND, SEND, MUTE, MUTE, SILENT, SEND, SEND, SILENT, SEND),
        ),
        (
            Preferences(Verbosity.BEST),
            (SEND, SEND, MUTE, MUTE, MUTE, SILENT, SEND, SEND, SILENT, SEND),
        ),
        (
            Preferences(Verbosity.EVERY, every=5),
            (HOLD, HOLD, HOLD, HOLD, HOLD, SILENT, SEND, SEND, SILENT, SEND),
        ),
        (
            Preferences(Verbosity.HOURLY),
            (SEND, SEND, SEND, HOLD, HOLD, SILENT, SEND, SEND, SILENT, SEND),
        ),
        (
            Preferences(Verbosity.MORNING),
            (MUTE, MUTE, MUTE, MUTE, MUTE, MUTE, SEND, SEND, MUTE, SEND),
        ),
        (Preferences(Verbosity.SILENT), (SILENT,) * 9 + (SEND,)),
        (
            Preferences(topics={Topic.CRASH: Loudness.SILENT, Topic.RUN: Loudness.OFF}),
            (SEND, SEND, SEND, SILENT, SILENT, MUTE, MUTE, MUTE, SILENT, SEND),
        ),
        (
            Preferences(Verbosity.BEST, topics={Topic.CRASH: Loudness.ON, Topic.KEEP: Loudness.OFF}),
            (MUTE, MUTE, MUTE, MUTE, SEND, SILENT, SEND, SEND, SILENT, SEND),
        ),
    ],
    ids=["all", "keeps", "best", "every 5", "hourly", "morning", "silent", "topics", "a topic wins"],
)
def test_what_is_done_with_each_kind_of_news_by_day(
    preferences: Preferences, expected: tuple[Decision, ...]
) -> None:
    decisions = [decide(item, preferences, quiet=False) for item in ALL_NEWS]
    assert decisions == list(expected)


DOUBTED = news(EventKind.DECIDED, Topic.QUARANTINE, status=Status.QUARANTINE)


@pytest.mark.parametrize("verbosity", list(Verbosity))
def test_a_result_in_quarantine_is_told_at_once_and_with_a_sound_by_day(verbosity: Verbosity) -> None:
    assert decide(DOUBTED, Preferences(verbosity, 5), quiet=False) is SEND
    assert decide(DOUBTED, Preferences(verbosity, 5, HOURS), quiet=True) is HOLD
    silent = Preferences(verbosity, 5, topics={Topic.QUARANTINE: Loudness.SILENT})
    assert decide(DOUBTED, silent, quiet=False) is SILENT


def test_what_a_channel_ordered_before_there_was_a_quarantine_still_holds(tmp_path: Path) -> None:
    with open_journal(tmp_path, VirtualTime()) as journal:
        topics = {"keep": "on", "crash": "silent", "attention": "off"}
        value = json.dumps({"verbosity": "best", "every": 1, "quiet": "", "topics": topics})
        with journal.transaction():
            write_preferences(journal, "telegram:1", value)
        found = PreferenceStore(journal, default=Preferences()).get("telegram:1")
    assert found.topics == {
        Topic.KEEP: Loudness.ON,
        Topic.CRASH: Loudness.SILENT,
        Topic.ATTENTION: Loudness.OFF,
    }
    assert decide(DOUBTED, found, quiet=False) is SEND


def test_a_person_can_turn_off_even_the_calls_for_a_person() -> None:
    off = Preferences(topics={Topic.ATTENTION: Loudness.OFF})
    assert decide(CALL, off, quiet=False) is MUTE


@pytest.mark.parametrize("verbosity", list(Verbosity))
def test_in_quiet_hours_only_what_needs_a_person_comes_through_and_with_a_sound(verbosity: Verbosity) -> None:
    preferences = Preferences(verbosity, 5, HOURS)
    decisions = {decide(item, preferences, quiet=True) for item in ALL_NEWS if item is not CALL}
    assert decisions <= {HOLD, MUTE}
    assert decide(BEST, preferences, quiet=True) is (MUTE if verbosity is Verbosity.MORNING else HOLD)
    assert decide(CALL, preferences, quiet=True) is SEND


@pytest.mark.parametrize(
    ("item", "everybody"),
    [
        (BEST, True),
        (SIMPLER, False),
        (WORSE, False),
        (CRASHED, False),
        (PAUSED, False),
        (ENDED, True),
        (CALL, True),
    ],
)
def test_what_is_for_the_whole_channel(item: Notification, everybody: bool) -> None:
    assert item.is_for_all is everybody


@pytest.mark.parametrize(
    ("clock", "quiet"),
    [("21:59", False), ("22:00", True), ("00:00", True), ("06:59", True), ("07:00", False)],
)
def test_quiet_hours_over_midnight(clock: str, quiet: bool) -> None:
    now = datetime.fromisoformat(f"2026-03-12T{clock}:00+00:00").timestamp()
    assert HOURS.covers(now, UTC) is quiet
    assert QuietHours(time(7), time(22)).covers(now, UTC) is not quiet
    assert not Preferences().is_quiet(now, UTC)


def test_quiet_hours_follow_their_own_time_zone_and_its_summer_time() -> None:
    berlin = QuietHours(time(22), time(7), ZoneInfo("Europe/Berlin"))
    winter, summer = (datetime(2026, month, 12, 20, 30, tzinfo=UTC).timestamp() for month in (1, 7))
    assert not berlin.covers(winter, UTC)
    assert berlin.covers(summer, UTC)
    assert HOURS.covers(summer, ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize("text", ["22:00-07:00", "22:00 - 7:00", "22:00–07:00 ", "22:00-07:00 Europe/Berlin"])
def test_quiet_hours_are_read(text: str) -> None:
    hours = read_hours(text)
    assert (hours.start, hours.end) == (time(22), time(7))
    assert read_hours(str(hours)) == hours


@pytest.mark.parametrize(
    "text", ["", "22-7", "22:00", "25:00-07:00", "22:00-07:60", "22:00-22:00", "22:00-07:00 Europe/Nowhere"]
)
def test_what_is_no_quiet_hours_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        read_hours(text)


@given(st.text())
def test_any_text_is_quiet_hours_or_refused(text: str) -> None:
    try:
        hours = read_hours(text)
    except ValueError as problem:
        assert str(problem).startswith("must ")  # noqa: PT017
    else:
        assert read_hours(str(hours)) == hours


def test_groups_of_one_are_no_groups() -> None:
    assert in_groups(Preferences(), 1).verbosity is Verbosity.ALL
    assert in_groups(Preferences(quiet=HOURS), 5) == Preferences(Verbosity.EVERY, 5, HOURS)


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("all", Preferences()),
        ("keeps", Preferences(Verbosity.KEEPS)),
        ("BEST", Preferences(Verbosity.BEST)),
        ("silent", Preferences(Verbosity.SILENT)),
        ("every 5", Preferences(Verbosity.EVERY, 5)),
        ("every 1", Preferences()),
        ("quiet 22:00-07:00", Preferences(quiet=HOURS)),
        ("22:00-07:00", Preferences(quiet=HOURS)),
        ("quiet 22:00-07:00 Europe/Berlin", Preferences(quiet=read_hours("22:00-07:00 Europe/Berlin"))),
        ("quiet 22:00-07:00 UTC", Preferences(quiet=read_hours("22:00-07:00 UTC"))),
        ("crash silent", Preferences(topics={Topic.CRASH: Loudness.SILENT})),
        ("crashes off", Preferences(topics={Topic.CRASH: Loudness.OFF})),
        ("best crash off", Preferences(Verbosity.BEST, topics={Topic.CRASH: Loudness.OFF})),
        ("keeps silent", Preferences(topics={Topic.KEEP: Loudness.SILENT})),
        ("all silent", Preferences(Verbosity.SILENT)),
        ("discard on", Preferences(topics={Topic.DISCARD: Loudness.ON})),
        (
            "keeps quiet 22:00-07:00 crash off",
            Preferences(Verbosity.KEEPS, 1, HOURS, {Topic.CRASH: Loudness.OFF}),
        ),
    ],
)
def test_what_can_be_ordered(text: str, changed: Preferences) -> None:
    assert parse(text, Preferences()) == changed


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("mute 2h", Preferences(muted_until=NOON + 7200)),
        ("mute 30m", Preferences(muted_until=NOON + 1800)),
        ("mute 1d keeps", Preferences(Verbosity.KEEPS, muted_until=NOON + 86400)),
        ("when accuracy > 0.97", Preferences(threshold=Threshold("accuracy", Goal.MAXIMIZE, 0.97))),
        (
            "when accuracy<1e-2 best",
            Preferences(Verbosity.BEST, threshold=Threshold("accuracy", Goal.MINIMIZE, 0.01)),
        ),
    ],
)
def test_a_while_of_silence_and_a_number_to_reach(text: str, changed: Preferences) -> None:
    assert parse(text, Preferences(), now=NOON, metric="accuracy") == changed
    assert (
        parse("mute off when off", replace(changed, verbosity=Verbosity.ALL), metric="accuracy")
        == Preferences()
    )


def test_muted_is_as_quiet_as_quiet_hours_until_its_end() -> None:
    muted = Preferences(muted_until=NOON + 60)
    assert muted.is_quiet(NOON, UTC)
    assert not muted.is_quiet(NOON + 60, UTC)
    assert "Muted until 03-12 12:01" in describe(muted, now=NOON)
    assert "Muted" not in describe(muted, now=NOON + 60)


def test_a_number_is_reached_once_and_is_told_at_any_time() -> None:
    reached = Preferences(Verbosity.MORNING, threshold=Threshold("val_bpb", Goal.MINIMIZE, 0.99))
    assert decide(BEST, reached, quiet=True) is SEND
    for item in (WORSE, news(EventKind.DECIDED, Topic.KEEP, best_before=0.989, value=0.98)):
        assert decide(item, reached, quiet=False) is MUTE
    assert "val_bpb < 0.99 at any time" in describe(reached)


def test_an_order_changes_nothing_else() -> None:
    before = Preferences(Verbosity.EVERY, 5, HOURS, {Topic.RUN: Loudness.OFF})
    assert parse("crash silent", before).every == 5
    assert parse("best", before) == Preferences(Verbosity.BEST, 1, HOURS, {Topic.RUN: Loudness.OFF})
    assert parse("quiet off", before).quiet is None
    assert parse("", before) == before


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("keps", "did you mean keeps?"),
        ("crahs silent", "did you mean crash?"),
        ("every", "/notify every 5"),
        ("every 0", "from 1 to 100"),
        ("every 101", "from 1 to 100"),
        ("every ٣", "from 1 to 100"),
        ("quiet", "/notify quiet 22:00-07:00"),
        ("quiet 7", "must be two times"),
        ("quiet 22:00-07:00 Europe/Nowhere", "time zone such as Europe/Berlin"),
        ("crash", "/notify crash silent"),
        ("crash loud", "/notify crash silent"),
        ("xyzzy", "/notify every 5"),
        ("mute", "/notify mute 2h"),
        ("mute 0h", "/notify mute 2h"),
        ("mute tomorrow", "/notify mute 2h"),
        ("when", "/notify when val_bpb < 0.97"),
        ("when loss < 3", "/notify when val_bpb < 0.97"),
        ("when val_bpb = 3", "/notify when val_bpb < 0.97"),
        ("when val_bpb < nan", "/notify when val_bpb < 0.97"),
    ],
)
def test_what_is_not_understood_is_refused_with_an_example(text: str, hint: str) -> None:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        parse(text, Preferences())
    assert hint in str(refusal.value)


@given(st.lists(st.sampled_from(["all", "every", "5", "quiet", "off", "crash", "22:00-07:00", "x", "é"])))
def test_any_words_are_obeyed_or_refused_in_one_sentence(words: list[str]) -> None:
    try:
        preferences = parse(" ".join(words), Preferences())
    except ValueError as refusal:
        assert str(refusal).endswith((".", "?"))  # noqa: PT017
    else:
        assert describe(preferences).startswith("You get: ")


def test_the_answer_says_all_that_holds() -> None:
    preferences = parse("every 5 22:00-07:00 Europe/Berlin crash silent run off", Preferences())
    assert describe(preferences).splitlines()[:5] == [
        *describe(Preferences(Verbosity.EVERY, 5)).splitlines()[:2],
        "Quiet hours: 22:00-07:00 Europe/Berlin",
        "crash: silent",
        "run: off",
    ]
    assert "Quiet hours: none" in describe(Preferences())


def test_what_a_chat_gets_is_said_in_full() -> None:
    orders = {
        "as it is at first": "all",
        "keeps and a line an hour": "hourly",
        "only the morning, and a number": "morning when val_bpb < 0.97",
        "groups, quiet hours, a topic and a while of silence": "every 5 22:00-07:00 crash silent mute 2h",
    }
    found = {title: parse(order, Preferences(), now=NOON) for title, order in orders.items()}
    told = {title: describe(wanted, now=NOON) for title, wanted in found.items()}
    check("notify", told)


def test_preferences_outlive_the_process_and_are_each_channels_own(tmp_path: Path) -> None:
    usual = Preferences(Verbosity.EVERY, 3)
    with open_journal(tmp_path, VirtualTime()) as journal:
        store = PreferenceStore(journal, default=usual)
        assert store.get("telegram:1") == usual
        orders = "keeps quiet 22:00-07:00 Europe/Berlin crash off mute 2h when val_bpb < 0.97"
        changed = store.change("telegram:1", orders)
        with pytest.raises(ValueError, match="did you mean best"):
            store.change("telegram:1", "silent bset")
    with open_journal(tmp_path, VirtualTime()) as journal:
        store = PreferenceStore(journal, default=usual)
        assert store.get("telegram:1") == changed
        assert store.get("slack:C1") == usual
