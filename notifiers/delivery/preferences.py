"""What a channel wants to be told, and when: `/notify`, and the decision about each notification."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time, tzinfo
from difflib import get_close_matches
from enum import StrEnum
from typing import assert_never
from zoneinfo import ZoneInfo

from loop.store.journal import Journal
from loop.store.outbox import read_preferences, write_preferences
from notifiers.text.notification import Notification, Topic

MOST = 100
"""The largest N of `every N`."""

_HOURS = re.compile(r"(\d{1,2}:\d\d)\s*[-–]\s*(\d{1,2}:\d\d)(?:\s+(\S+))?")


class Verbosity(StrEnum):
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
    return in_groups(Preferences(quiet=quiet), every)


def in_groups(preferences: Preferences, every: int) -> Preferences:
    """Return the preferences with `every` digests in one message; with 1 each is sent by itself."""
    verbosity = Verbosity.EVERY if every > 1 else Verbosity.ALL
    return replace(preferences, verbosity=verbosity, every=every)


class Decision(StrEnum):
    SEND = "send"
    SILENT = "silent"  # sent without a sound
    HOLD = "hold"  # sent later, with others
    MUTE = "mute"


def decide(news: Notification, preferences: Preferences, *, quiet: bool) -> Decision:
    """Return what to do with a notification now; `quiet` says whether these are the quiet hours.

    In quiet hours all is held but what only a person can help with, and the wake-up report: when it comes is
    set apart from them.
    """
    decision = _by_preference(news, preferences)
    if decision is Decision.MUTE or news.topic in (Topic.ATTENTION, Topic.REPORT):
        return decision
    return Decision.HOLD if quiet else decision


def is_quiet(hours: QuietHours | None, now: float, zone: tzinfo) -> bool:
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


def _by_preference(news: Notification, preferences: Preferences) -> Decision:
    match preferences.topics.get(news.topic):
        case Loudness.ON:
            return Decision.SEND
        case Loudness.SILENT:
            return Decision.SILENT
        case Loudness.OFF:
            return Decision.MUTE
        case None:
            pass
    usual = Decision.SEND if news.is_loud else Decision.SILENT
    match preferences.verbosity:
        case _ if news.topic is Topic.QUARANTINE:
            return usual
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


_EXAMPLES = (
    "/notify keeps, /notify every 5, /notify quiet 22:00-07:00 Europe/Berlin, /notify quiet off, "
    "/notify crash silent"
)


def parse(text: str, preferences: Preferences) -> Preferences:
    """Return the preferences as changed by the words after `/notify`, which may be several orders.

    Raises:
        ValueError: with a sentence that says what is not understood, and how it is said.
    """
    words = text.split()
    while words:
        preferences, used = _order(words, preferences)
        del words[:used]
    return preferences


def describe(preferences: Preferences) -> str:
    lines = [
        f"You get: {_digests(preferences)}",
        f"Quiet hours: {preferences.quiet or 'none'}",
        *(f"{topic}: {loudness}" for topic, loudness in sorted(preferences.topics.items())),
        "Modes: all · keeps · best · silent · every N",
        f"Topics, each on, silent or off: {', '.join(Topic)}",
        f"Examples: {_EXAMPLES}",
    ]
    return "\n".join(lines)


def _digests(preferences: Preferences) -> str:
    match preferences.verbosity:
        case Verbosity.ALL:
            return "every experiment; keeps, quarantine and the first of several crashes with sound"
        case Verbosity.KEEPS:
            return "experiments that were kept or are in quarantine"
        case Verbosity.BEST:
            return "experiments with a new best, or in quarantine"
        case Verbosity.EVERY:
            return f"one message for every {preferences.every} experiments"
        case Verbosity.SILENT:
            return "every experiment, without sound; only calls for you with sound"
        case _:
            assert_never(preferences.verbosity)


class PreferenceStore:
    """The preferences of all channels; one that never ordered anything has those of `default`."""

    def __init__(self, journal: Journal, *, default: Preferences) -> None:
        self._journal = journal
        self._default = default

    def get(self, channel: str) -> Preferences:
        kept = read_preferences(self._journal, channel)
        return self._default if kept is None else _decode(kept)

    def change(self, channel: str, text: str) -> Preferences:
        """Obey the words after `/notify`, and return what the channel wants from now on.

        Raises:
            ValueError: with the sentence of `parse`.
        """
        with self._journal.transaction():
            preferences = parse(text, self.get(channel))
            write_preferences(self._journal, channel, _encode(preferences))
        return preferences


def _order(words: Sequence[str], preferences: Preferences) -> tuple[Preferences, int]:
    """Obey the order that `words` begin with; return also how many of them it has."""
    word, following = words[0].lower(), [other.lower() for other in words[1:3]]
    if word == "every":
        return in_groups(preferences, _count(following)), 2
    if word == "quiet":
        if following[:1] == ["off"]:
            return replace(preferences, quiet=None), 2
        changed, used = _quiet(words[1:], preferences)
        return changed, used + 1
    topic = next((topic for topic in Topic if word in (topic, f"{topic}s", f"{topic}es")), None)
    loud = following[:1] and following[0] in tuple(Loudness)
    if topic and loud:
        topics = {**preferences.topics, topic: Loudness(following[0])}
        return replace(preferences, topics=topics), 2
    if word in tuple(Verbosity):
        return replace(preferences, verbosity=Verbosity(word), every=1), 1
    if word[0].isdigit():
        return _quiet(words, preferences)
    if topic:
        raise ValueError(f"Say on, silent or off after {topic}, for example /notify {topic} silent.")
    raise _unknown(word, list(Topic) if loud else [*Verbosity, "quiet", *Topic])


def _quiet(words: Sequence[str], preferences: Preferences) -> tuple[Preferences, int]:
    with_zone = len(words) > 1 and ("/" in words[1] or words[1][0].isupper())
    used = 2 if with_zone else 1
    try:
        return replace(preferences, quiet=read_hours(" ".join(words[:used]))), used
    except ValueError as problem:
        raise ValueError(
            f"Quiet hours {problem}: /notify quiet 22:00-07:00, or with a time zone "
            "/notify quiet 22:00-07:00 Europe/Berlin."
        ) from None


def _count(following: Sequence[str]) -> int:
    given = following[0] if following else ""
    if given.isascii() and given.isdigit() and len(given) < 4 and 1 <= int(given) <= MOST:
        return int(given)
    raise ValueError(f"Say after every a number from 1 to {MOST}, for example /notify every 5.")


def _unknown(word: str, known: Sequence[str]) -> ValueError:
    near = get_close_matches(word, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"say for example {_EXAMPLES}."
    return ValueError(f"/notify does not know {word[:40]}: {hint}")


def _encode(preferences: Preferences) -> str:
    return json.dumps(
        {
            "verbosity": preferences.verbosity,
            "every": preferences.every,
            "quiet": str(preferences.quiet or ""),
            "topics": dict(preferences.topics),
        }
    )


def _decode(text: str) -> Preferences:
    value = json.loads(text)
    return Preferences(
        verbosity=Verbosity(value["verbosity"]),
        every=value["every"],
        quiet=read_hours(value["quiet"]) if value["quiet"] else None,
        topics={Topic(topic): Loudness(loudness) for topic, loudness in value["topics"].items()},
    )
