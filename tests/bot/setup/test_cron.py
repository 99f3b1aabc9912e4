from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from bot.setup.setting_types import next_after, read_cron

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
