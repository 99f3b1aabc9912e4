"""Cron expressions: when people want to be woken up."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from math import inf

from apscheduler.triggers.cron import CronTrigger

_TIME = re.compile(r"(\d{1,2}):(\d\d)")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAY_RANGE = re.compile(r"(\*|[0-7]|[a-z]{3})(?:-([0-7]|[a-z]{3}))?(?:/([1-7]))?")


def read_cron(text: str) -> str:
    """Read `07:00` or a cron expression, and return the latter with the days of the week by their names.

    Cron counts these from Sunday, APScheduler from Monday: names mean the same to both.

    Raises:
        ValueError: with a clause that goes on from a name: `must be …`.
    """
    fields = text.lower().split()
    if found := _TIME.fullmatch(text.strip()):
        fields = [str(int(found[2])), str(int(found[1])), "*", "*", "*"]
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

    `moment` and what is returned are seconds since the epoch; infinity where it never comes true.

    Raises:
        ValueError: it is no cron expression.
    """
    start = datetime.fromtimestamp(moment, zone) + timedelta(seconds=1)
    found: datetime | None = CronTrigger.from_crontab(cron, timezone=zone).get_next_fire_time(None, start)
    return inf if found is None else found.timestamp()


def _days(field: str) -> str:
    """Return a cron expression's days of the week as a list of names."""
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
