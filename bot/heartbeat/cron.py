"""When a cron expression comes true, by a clock that is set forward and back twice a year.

APScheduler matches the expressions. What it lacks is here: cron's numbers for the days of the week, its rule
for the two fields of days, and the hour that comes twice, in which its trigger finds one moment for ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from math import inf

_TIME = re.compile(r"(\d{1,2}):(\d\d)")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAY_RANGE = re.compile(r"(\*|[0-7]|[a-z]{3})(?:-([0-7]|[a-z]{3}))?(?:/([1-7]))?")


def read_cron(text: str) -> str:
    """Read `07:00` or a cron expression, and return the latter with the days of the week by their names.

    Cron counts these from Sunday, APScheduler from Monday: names mean the same to both.

    Raises:
        ValueError: with a clause that follows a name: `must be …`.
    """
    found = _TIME.fullmatch(text.strip())
    if found and int(found[1]) < 24 and int(found[2]) < 60:
        return f"{int(found[2])} {int(found[1])} * * *"
    fields = text.lower().split()
    try:
        cron = " ".join((*fields[:4], _days(fields[4]), *fields[5:]))
        comes_true = next_after(cron, 0.0, UTC) < inf
    except (ValueError, IndexError):
        comes_true = False
    if not comes_true:
        raise ValueError("must be a time such as 07:00, or a cron expression such as 30 6 * * 1-5")
    return cron


def next_after(cron: str, moment: float, zone: tzinfo | None) -> float:
    """Return when a cron expression, as `read_cron` gives it, comes true next by the clock of `zone`.

    `moment` and what is returned are seconds since the epoch; infinity where it never comes true. What is due
    at a certain hour comes once a day: in the first of two hours alike, and later by as much as the clock is
    set forward over that hour. What is due every hour goes by the hours that pass.

    Raises:
        ValueError: it is no cron expression.
    """
    return min(_next_after(each, moment, zone) for each in _by_days(cron))


def _next_after(cron: str, moment: float, zone: tzinfo | None) -> float:
    from apscheduler.triggers.cron import CronTrigger

    if cron.split()[1].startswith("*"):
        zone = timezone(datetime.fromtimestamp(moment, zone).astimezone(zone).utcoffset() or timedelta())
    trigger = CronTrigger.from_crontab(cron, timezone=UTC)
    shown = datetime.fromtimestamp(moment, zone).replace(tzinfo=UTC)  # by a clock that is never set
    while True:
        found: datetime | None = trigger.get_next_fire_time(None, shown + timedelta(seconds=1))
        if found is None:
            return inf
        if (due := found.replace(tzinfo=zone).timestamp()) > moment:
            return due
        shown = found  # due in the first of two hours alike, and this is the second


def _by_days(cron: str) -> Iterator[str]:
    """Yield the expression, or one for each of its fields of days: with both of them cron takes either."""
    minute, hour, day, month, weekday, *rest = cron.split()
    if day.startswith("*") or weekday.startswith("*"):
        yield cron
    else:
        yield " ".join((minute, hour, day, month, "*", *rest))
        yield " ".join((minute, hour, "*", month, weekday, *rest))


def _days(field: str) -> str:
    if field == "*":
        return field
    days: set[int] = set()
    for part in field.split(","):
        found = _DAY_RANGE.fullmatch(part)
        if found is None:
            raise ValueError(part)
        first, last, step = found.groups()
        start = 0 if first == "*" else _day(first)
        stop = 6 if first == "*" or (step and not last) else _day(last or first)
        span = (stop - start) % 7 if start != stop or not last else (7 if first != last else 0)
        days |= {(start + offset) % 7 for offset in range(0, span + 1, int(step or 1))}
    return ",".join(_DAYS[day] for day in sorted(days))


def _day(name: str) -> int:
    return int(name) % 7 if name.isdigit() else _DAYS.index(name)
