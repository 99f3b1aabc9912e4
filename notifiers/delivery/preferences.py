"""What a channel wants to hear, and when: the decision about each piece of news."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, time, tzinfo
from enum import StrEnum
from zoneinfo import ZoneInfo

from notifiers.text.notification import News, Topic

MOST = 100
"""The largest N of `every N`."""

_HOURS = re.compile(r"(\d{1,2}:\d\d)\s*[-–]\s*(\d{1,2}:\d\d)(?:\s+(\S+))?")


class Verbosity(StrEnum):
    """Which digests are told."""

    ALL = "all"
    KEEPS = "keeps"
    BEST = "best"  # only what the metric had never reached
    EVERY = "every"  # several in one message
    SILENT = "silent"  # all, without a sound


class Loudness(StrEnum):
    """What a person ordered for one topic; it wins over the verbosity."""

    ON = "on"
    SILENT = "silent"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A part of every day, by the clock of `zone`; without one, of the bot. It may go over midnight."""

    start: time
    end: time
    zone: ZoneInfo | None = None

    def __str__(self) -> str:
        hours = f"{self.start:%H:%M}-{self.end:%H:%M}"
        return hours if self.zone is None else f"{hours} {self.zone.key}"


@dataclass(frozen=True, slots=True)
class Preferences:
    """What one channel wants. `every` is how many digests make one message, with `Verbosity.EVERY`."""

    verbosity: Verbosity = Verbosity.ALL
    every: int = 1
    quiet: QuietHours | None = None
    topics: Mapping[Topic, Loudness] = field(default_factory=dict)


def usual_preferences(*, every: int, quiet: QuietHours | None) -> Preferences:
    """Return what a channel wants that never said so: all digests, or `every` of them in one message."""
    return in_groups(Preferences(quiet=quiet), every)


def in_groups(preferences: Preferences, every: int) -> Preferences:
    """Return the preferences with `every` digests in one message; of 1 every digest is told by itself."""
    verbosity = Verbosity.EVERY if every > 1 else Verbosity.ALL
    return replace(preferences, verbosity=verbosity, every=every)


class Decision(StrEnum):
    """What is done with a piece of news now."""

    TELL = "tell"
    SILENT = "silent"  # told without a sound
    HOLD = "hold"  # told later, with others
    MUTE = "mute"


def decide(news: News, preferences: Preferences, *, now: float, zone: tzinfo) -> Decision:
    """Return what to do with `news` at `now`, in seconds since the epoch; `zone` is the bot's own.

    In quiet hours all is held but what only a person can help with, and the report of the morning: when it
    comes is set apart from them.
    """
    decision = _by_wish(news, preferences)
    if decision is Decision.MUTE or news.topic in (Topic.ATTENTION, Topic.REPORT):
        return decision
    return Decision.HOLD if is_quiet(preferences.quiet, now, zone) else decision


def is_quiet(hours: QuietHours | None, now: float, zone: tzinfo) -> bool:
    """Say whether `now` lies in the quiet hours."""
    if hours is None:
        return False
    clock = datetime.fromtimestamp(now, hours.zone or zone).time()
    if hours.start < hours.end:
        return hours.start <= clock < hours.end
    return clock >= hours.start or clock < hours.end


def read_hours(text: str) -> QuietHours:
    """Read `22:00-07:00` or `22:00-07:00 Europe/Berlin`.

    Raises:
        ValueError: with a clause that goes on from a name: `must be …`.
    """
    match = _HOURS.fullmatch(text.strip())
    if match is None:
        raise ValueError("must be two times such as 22:00-07:00")
    try:
        start, end = (datetime.strptime(part, "%H:%M").time() for part in match.group(1, 2))  # noqa: DTZ007
    except ValueError:
        raise ValueError("must be two times of a day, from 00:00 to 23:59") from None
    if start == end:
        raise ValueError("must end at another time than they begin")
    return QuietHours(start, end, _zone(match[3]) if match[3] else None)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError("must name a time zone such as Europe/Berlin") from None


def _by_wish(news: News, preferences: Preferences) -> Decision:
    match preferences.topics.get(news.topic):
        case Loudness.ON:
            return Decision.TELL
        case Loudness.SILENT:
            return Decision.SILENT
        case Loudness.OFF:
            return Decision.MUTE
        case None:
            pass
    usual = Decision.TELL if news.is_loud else Decision.SILENT
    match preferences.verbosity:
        case Verbosity.KEEPS if news.is_digest and news.topic is not Topic.KEEP:
            return Decision.MUTE
        case Verbosity.BEST if news.is_digest and not news.is_new_best:
            return Decision.MUTE
        case Verbosity.EVERY if news.is_digest:
            return Decision.HOLD
        case Verbosity.SILENT if news.topic is not Topic.ATTENTION:
            return Decision.SILENT
        case _:
            return usual
