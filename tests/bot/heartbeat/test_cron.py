from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.heartbeat.cron import next_after, read_cron

BERLIN = ZoneInfo("Europe/Berlin")
FRIDAY = datetime(2026, 3, 13, 7, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "cron"),
    [
        ("07:00", "0 7 * * *"),
        (" 6:05 ", "5 6 * * *"),
        ("30 6 * * 1-5", "30 6 * * mon,tue,wed,thu,fri"),
        ("0 9 * * SAT,0", "0 9 * * sun,sat"),
        ("0 9 * * 7", "0 9 * * sun"),
        ("0 9 * * fri-mon", "0 9 * * sun,mon,fri,sat"),
        ("0 9 * * 0-7", "0 9 * * sun,mon,tue,wed,thu,fri,sat"),
        ("0 9 * * */3", "0 9 * * sun,wed,sat"),
        ("*/30 6-8 1 jan,feb *", "*/30 6-8 1 jan,feb *"),
    ],
)
def test_a_time_or_a_cron_expression(text: str, cron: str) -> None:
    assert read_cron(text) == cron
    assert read_cron(cron) == cron


@pytest.mark.parametrize(
    "text",
    ["7", "24:00", "07:60", "0 7 * *", "0 7 * * * *", "0 7 * * 8", "0 7 * * moo", "0 7 31 2 *", "a b c d e"],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be a time such as 07:00, or a cron expression such as"):
        read_cron(text)


@pytest.mark.parametrize(
    ("cron", "moment", "then"),
    [
        ("0 7 * * *", "2026-03-13T06:59:59", "2026-03-13T07:00"),
        ("0 7 * * *", "2026-03-13T07:00:00", "2026-03-14T07:00"),
        ("30 6 * * mon,tue,wed,thu,fri", "2026-03-13T07:00:00", "2026-03-16T06:30"),
        ("0 7 * * *", "2026-03-28T12:00:00", "2026-03-29T07:00"),  # the night is an hour shorter
    ],
)
def test_when_it_comes_true_next_by_the_clock_on_the_wall(cron: str, moment: str, then: str) -> None:
    start = datetime.fromisoformat(moment).replace(tzinfo=BERLIN)
    found = datetime.fromtimestamp(next_after(cron, start.timestamp(), BERLIN), BERLIN)
    assert f"{found:%Y-%m-%dT%H:%M}" == then


def test_the_zone_decides_when_it_is_seven() -> None:
    assert next_after("0 7 * * *", FRIDAY.timestamp() - 3600, UTC) == FRIDAY.timestamp()
    assert next_after("0 7 * * *", FRIDAY.timestamp() - 3601, BERLIN) == FRIDAY.timestamp() - 3600


def times(cron: str, zone: ZoneInfo, start: str, end: str) -> list[str]:
    """When it comes true from `start` to `end`, by the clock of `zone` with its offset from UTC."""
    now, last = (datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() for text in (start, end))
    found = []
    while (now := next_after(cron, now, zone)) <= last:
        found.append(f"{datetime.fromtimestamp(now, zone):%d %H:%M %z}")
    return found


@pytest.mark.parametrize(
    ("zone", "text", "start", "end", "due"),
    [
        ("Europe/Berlin", "02:30", "2026-10-24T22", "2026-10-26T01", ["25 02:30 +0200"]),
        ("America/New_York", "01:30", "2026-10-31T22", "2026-11-02T01", ["01 01:30 -0400"]),
        ("Europe/Berlin", "02:30", "2027-03-27T22", "2027-03-29T01", ["28 03:30 +0200"]),
        (
            "Europe/Berlin",
            "30 * * * *",
            "2026-10-25T01",
            "2026-10-25T04",
            ["25 01:30 +0200", "25 02:30 +0200", "25 02:30 +0100", "25 03:30 +0100"],
        ),
        (
            "Europe/Berlin",
            "*/30 * * * *",
            "2027-03-28T01",
            "2027-03-28T03:10",
            ["28 01:30 +0100", "28 03:00 +0200"],
        ),
        (
            "Australia/Lord_Howe",  # half an hour
            "45 1 * * *",
            "2026-04-04T22",
            "2026-04-06T01",
            ["05 01:45 +1100"],
        ),
    ],
)
def test_once_a_night_also_when_the_clock_is_set(
    zone: str, text: str, start: str, end: str, due: list[str]
) -> None:
    assert times(read_cron(text), ZoneInfo(zone), start, end) == due


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("0 7 13 * 5", ["06", "13", "20", "27"]),  # Fridays, one of which is the 13th
        ("0 7 1,2 * 0-6/6", ["01", "02", "07", "08", "14", "15", "21", "22", "28", "29"]),
        ("0 7 */10 * 5", []),  # where one has a star, both must hold
        ("0 7 13 * *", ["13"]),
    ],
)
def test_with_both_kinds_of_days_either_is_enough(text: str, due: list[str]) -> None:
    found = times(read_cron(text), ZoneInfo("UTC"), "2026-11-01", "2026-12-01")
    assert [day[:2] for day in found] == due


@given(st.integers(0, 59), st.integers(0, 23), st.sampled_from(["2026-03-20", "2026-10-20"]))
@settings(max_examples=30)
def test_a_time_of_day_comes_once_on_every_day(minute: int, hour: int, start: str) -> None:
    now = datetime.fromisoformat(start).replace(tzinfo=BERLIN).timestamp()
    days: list[date] = []
    while len(days) < 15:  # in which the clock is set
        now = next_after(f"{minute} {hour} * * *", now, BERLIN)
        days.append(datetime.fromtimestamp(now, BERLIN).date())
    assert [after - before for before, after in pairwise(days)] == [timedelta(days=1)] * 14
