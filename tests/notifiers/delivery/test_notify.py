from __future__ import annotations

from datetime import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifiers.delivery.preferences import (
    Loudness,
    Preferences,
    PreferenceStore,
    QuietHours,
    Verbosity,
    describe,
    parse,
    read_hours,
)
from notifiers.text.notification import Topic
from tests.notifiers.recording import VirtualTime
from tests.notifiers.stories import open_journal

NIGHT = QuietHours(time(22), time(7))


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("all", Preferences()),
        ("keeps", Preferences(Verbosity.KEEPS)),
        ("BEST", Preferences(Verbosity.BEST)),
        ("silent", Preferences(Verbosity.SILENT)),
        ("every 5", Preferences(Verbosity.EVERY, 5)),
        ("every 1", Preferences()),
        ("quiet 22:00-07:00", Preferences(quiet=NIGHT)),
        ("22:00-07:00", Preferences(quiet=NIGHT)),
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
            Preferences(Verbosity.KEEPS, 1, NIGHT, {Topic.CRASH: Loudness.OFF}),
        ),
    ],
)
def test_what_can_be_ordered(text: str, changed: Preferences) -> None:
    assert parse(text, Preferences()) == changed


def test_an_order_changes_nothing_else() -> None:
    before = Preferences(Verbosity.EVERY, 5, NIGHT, {Topic.RUN: Loudness.OFF})
    assert parse("crash silent", before).every == 5
    assert parse("best", before) == Preferences(Verbosity.BEST, 1, NIGHT, {Topic.RUN: Loudness.OFF})
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
    assert describe(preferences).splitlines()[:4] == [
        describe(Preferences(Verbosity.EVERY, 5)).splitlines()[0],
        "Quiet hours: 22:00-07:00 Europe/Berlin",
        "crash: silent",
        "run: off",
    ]
    assert "Quiet hours: none" in describe(Preferences())


def test_preferences_outlive_the_process_and_are_each_channels_own(tmp_path: Path) -> None:
    usual = Preferences(Verbosity.EVERY, 3)
    with open_journal(tmp_path, VirtualTime()) as journal:
        store = PreferenceStore(journal, default=usual)
        assert store.get("telegram:1") == usual
        changed = store.change("telegram:1", "keeps quiet 22:00-07:00 Europe/Berlin crash off")
        with pytest.raises(ValueError, match="did you mean best"):
            store.change("telegram:1", "silent bset")
    with open_journal(tmp_path, VirtualTime()) as journal:
        store = PreferenceStore(journal, default=usual)
        assert store.get("telegram:1") == changed
        assert store.get("slack:C1") == usual
