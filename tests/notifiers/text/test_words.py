from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from notifiers.text.words import (
    duration,
    money,
    period,
    plural,
)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (38, "38 s"),
        (59.6, "1 min"),
        (326, "5 min 26 s"),
        (570, "9 min 30 s"),
        (599.4, "9 min 59 s"),
        (599.6, "10 min"),
        (754, "13 min"),
        (3569, "59 min"),
        (3599.7, "1 h"),
        (15120, "4 h 12 min"),
        (86399, "1 d"),
        (86400 + 3 * 3600, "1 d 3 h"),
        (40 * 86400, "40 d"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_money_is_told_in_cents_and_large_sums_in_dollars() -> None:
    sums = (0.0, 0.004, 0.0199, 1.836, 99.994, 100.4, 12345.6)
    told = ["$0.00", "under $0.01", "$0.02", "$1.84", "$99.99", "$100", "$12,346"]
    assert [money(dollars) for dollars in sums] == told


def test_counts_have_their_plural() -> None:
    assert plural(1, "experiment") == "1 experiment"
    assert plural(0, "experiment") == "0 experiments"
    assert plural(10000, "result") == "10,000 results"


def test_a_period_is_told_in_the_zone_and_with_dates_only_where_they_matter() -> None:
    start = datetime(2026, 11, 23, 21, 58, tzinfo=UTC).timestamp()
    assert period(start, start + 8 * 3600, ZoneInfo("Europe/Berlin")) == "22:58 → 06:58"
    assert period(start, start + 24 * 3600, UTC) == "2026-11-23 21:58 → 2026-11-24 21:58"


def test_a_period_has_its_dates_where_the_clocks_were_put_forward_over_a_day() -> None:
    start = datetime(
        2026, 3, 28, 20, 0, tzinfo=UTC
    ).timestamp()  # 21:00 in Berlin, where a night lacks an hour
    assert (
        period(start, start + 23.5 * 3600, ZoneInfo("Europe/Berlin")) == "2026-03-28 21:00 → 2026-03-29 21:30"
    )
