"""What a channel wants to be told, and when: `/notify`, and the decision about each notification."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from datetime import UTC, datetime, time, tzinfo
from difflib import get_close_matches
from enum import StrEnum
from math import isfinite
from typing import assert_never
from zoneinfo import ZoneInfo

from loop.experiment import Goal
from loop.store.journal import Journal
from loop.store.outbox import read_preferences, write_preferences
from notifiers.text.notification import Notification, Topic

MOST = 100  # the largest N of `every N`
_HOURS = re.compile(r"(\d{1,2}:\d\d)\s*[-–]\s*(\d{1,2}:\d\d)(?:\s+(\S+))?")


class Verbosity(StrEnum):
    ALL = "all"
    KEEPS = "keeps"
    BEST = "best"  # only what the metric had never reached
    EVERY = "every"  # several in one message
    HOURLY = "hourly"  # keeps, and a line an hour about the others
    MORNING = "morning"  # the wake-up report, and what needs a person
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

    def covers(self, now: float, zone: tzinfo) -> bool:
        clock = datetime.fromtimestamp(now, self.zone or zone).time()
        if self.start < self.end:
            return self.start <= clock < self.end
        return clock >= self.start or clock < self.end

    def __str__(self) -> str:
        hours = f"{self.start:%H:%M}-{self.end:%H:%M}"
        return hours if self.zone is None else f"{hours} {self.zone.key}"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A number that the best result is to reach, of which the channel is told with a sound at any time."""

    metric: str
    goal: Goal
    value: float

    def __str__(self) -> str:
        return f"{self.metric} {'<' if self.goal is Goal.MINIMIZE else '>'} {self.value:g}"

    def is_passed(self, news: Notification) -> bool:
        """Tell whether the news is the first keep beyond it."""
        experiment = news.experiment
        if news.topic is not Topic.KEEP or experiment is None or experiment.value is None:
            return False
        before = experiment.best_before
        return self._is_beyond(experiment.value) and not (before is not None and self._is_beyond(before))

    def _is_beyond(self, value: float) -> bool:
        return value < self.value if self.goal is Goal.MINIMIZE else value > self.value


@dataclass(frozen=True, slots=True)
class Preferences:
    """What one channel wants. `every` is how many digests make one message, with `Verbosity.EVERY`.

    Until `muted_until`, in seconds since the epoch, it is as in quiet hours.
    """

    verbosity: Verbosity = Verbosity.ALL
    every: int = 1
    quiet: QuietHours | None = None
    topics: Mapping[Topic, Loudness] = field(default_factory=dict)
    muted_until: float = 0.0
    threshold: Threshold | None = None

    def is_quiet(self, now: float, zone: tzinfo) -> bool:
        return now < self.muted_until or (self.quiet is not None and self.quiet.covers(now, zone))


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
    if preferences.threshold is not None and preferences.threshold.is_passed(news):
        return Decision.SEND
    decision = _by_preference(news, preferences)
    if decision is Decision.MUTE or news.topic in (Topic.ATTENTION, Topic.REPORT):
        return decision
    return Decision.HOLD if quiet else decision


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
        case ordered:
            assert_never(ordered)
    usual = Decision.SEND if news.is_loud else Decision.SILENT
    if news.topic is Topic.QUARANTINE:
        return usual
    by_verbosity = _of_digest if news.is_digest else _of_other
    return by_verbosity(news, preferences.verbosity, usual)


def _of_digest(news: Notification, verbosity: Verbosity, usual: Decision) -> Decision:
    match verbosity:
        case Verbosity.ALL:
            return usual
        case Verbosity.KEEPS:
            return usual if news.topic is Topic.KEEP else Decision.MUTE
        case Verbosity.BEST:
            return usual if news.is_new_best else Decision.MUTE
        case Verbosity.HOURLY:
            return usual if news.topic is Topic.KEEP else Decision.HOLD
        case Verbosity.EVERY:
            return Decision.HOLD
        case Verbosity.MORNING:
            return Decision.MUTE
        case Verbosity.SILENT:
            return Decision.SILENT
    assert_never(verbosity)


def _of_other(news: Notification, verbosity: Verbosity, usual: Decision) -> Decision:
    if news.topic is Topic.ATTENTION:
        return usual
    if verbosity is Verbosity.SILENT:
        return Decision.SILENT
    if verbosity is Verbosity.MORNING and not (news.has_report or news.is_pause):
        return Decision.MUTE
    return usual


_MODES = "all · keeps · hourly · best · morning · silent · every N"
_EXAMPLES = (
    "/notify keeps, /notify every 5, /notify quiet 22:00-07:00 Europe/Berlin, /notify quiet off, "
    "/notify mute 2h, /notify crash silent"
)
_SPAN = re.compile(r"(\d{1,3})(m|min|h|d)")
_SPANS = {"m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse(text: str, preferences: Preferences, *, now: float = 0.0, metric: str = "val_bpb") -> Preferences:
    """Return the preferences as changed by the words after `/notify`, which may be several orders.

    `metric` is what runs are measured by.

    Raises:
        ValueError: with a sentence that says what is not understood, and how it is said.
    """
    words = re.sub(r"\s*([<>])\s*", r" \1 ", text).split()
    while words:
        if words[0].lower() == "mute":
            preferences, used = _mute(words[1:2], preferences, now), 2
        elif words[0].lower() == "when":
            preferences, used = _when(words[1:4], preferences, metric)
        else:
            preferences, used = _order(words, preferences)
        del words[:used]
    return preferences


def describe(
    preferences: Preferences, *, now: float = 0.0, zone: tzinfo = UTC, reach: str = "val_bpb < 0.97"
) -> str:
    """Return all that a channel wants, and how to say what it wants; `reach` is an example of a number."""
    muted = ""
    if now < preferences.muted_until:
        until = datetime.fromtimestamp(preferences.muted_until, zone)
        muted = f"Muted until {until:%m-%d %H:%M}, but for calls"
    lines = [
        f"You get: {_digests(preferences)}",
        f"Rings: {_ringing(preferences)}",
        f"Quiet hours: {preferences.quiet or 'none'}",
        *([muted] if muted else []),
        *(f"{topic}: {loudness}" for topic, loudness in sorted(preferences.topics.items())),
        f"Modes: {_MODES}",
        f"Also: quiet 22:00-07:00 · mute 2h · when {reach} (each ends with off) · crash silent",
        f"Topics, each on, silent or off: {', '.join(Topic)}",
    ]
    return "\n".join(lines)


def _digests(preferences: Preferences) -> str:
    match preferences.verbosity:
        case Verbosity.ALL | Verbosity.SILENT:
            return "every experiment"
        case Verbosity.KEEPS:
            return "experiments that were kept or are in quarantine"
        case Verbosity.BEST:
            return "experiments with a new best, or in quarantine"
        case Verbosity.EVERY:
            return f"one message for every {preferences.every} experiments"
        case Verbosity.HOURLY:
            return "experiments that were kept, and a line an hour about the others"
        case Verbosity.MORNING:
            return "the wake-up report, the end of a run, a pause and what needs you"
        case _:
            assert_never(preferences.verbosity)


_DIGESTS_THAT_RING = {
    Verbosity.ALL: "keeps, the first of several crashes",
    Verbosity.EVERY: "a message with a keep",
    Verbosity.BEST: "a new best",
}


def _ringing(preferences: Preferences) -> str:
    """Say what comes with a sound, where no topic is ordered otherwise."""
    rings = [_DIGESTS_THAT_RING.get(preferences.verbosity, "keeps"), "quarantine", "a pause", "reports"]
    if preferences.verbosity is Verbosity.SILENT:
        rings = []
    elif preferences.verbosity is Verbosity.MORNING:
        rings = rings[1:]
    if preferences.threshold is not None:
        rings.append(f"{preferences.threshold} at any time")
    return ", ".join((*rings, "calls for you and one reminder"))


@dataclass(frozen=True, slots=True, eq=False)
class PreferenceStore:
    """The preferences of all channels; one that never ordered anything has those of `default`."""

    journal: Journal
    _: KW_ONLY
    default: Preferences
    metric: str = "val_bpb"

    def get(self, channel: str) -> Preferences:
        kept = read_preferences(self.journal, channel)
        return self.default if kept is None else _decode(kept)

    def change(self, channel: str, text: str) -> Preferences:
        """Obey the words after `/notify`, and return what the channel wants from now on.

        Raises:
            ValueError: with the sentence of `parse`.
        """
        with self.journal.transaction():
            preferences = parse(text, self.get(channel), now=self.journal.clock(), metric=self.metric)
            write_preferences(self.journal, channel, _encode(preferences))
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
    raise _unknown(word, list(Topic) if loud else [*Verbosity, "quiet", "mute", "when", *Topic])


def _mute(following: Sequence[str], preferences: Preferences, now: float) -> Preferences:
    given = following[0].lower() if following else ""
    if given == "off":
        return replace(preferences, muted_until=0.0)
    span = _SPAN.fullmatch(given)
    if span is None or not int(span[1]):
        raise ValueError("Say after mute for how long, or off: /notify mute 2h, /notify mute 30m.")
    return replace(preferences, muted_until=now + int(span[1]) * _SPANS[span[2]])


def _when(words: Sequence[str], preferences: Preferences, metric: str) -> tuple[Preferences, int]:
    if words and words[0].lower() == "off":
        return replace(preferences, threshold=None), 2
    value = _finite(words[2]) if len(words) == 3 else None
    if value is None or words[0] != metric or words[1] not in "<>":
        raise ValueError(f"Say after when a number of {metric}, or off: /notify when {metric} < 0.97.")
    goal = Goal.MINIMIZE if words[1] == "<" else Goal.MAXIMIZE
    return replace(preferences, threshold=Threshold(metric, goal, value)), 4


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None


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
            "muted_until": preferences.muted_until,
            "threshold": asdict(preferences.threshold) if preferences.threshold else None,
        }
    )


def _decode(text: str) -> Preferences:
    value = json.loads(text)
    threshold = value.get("threshold")  # releases before this one knew neither of the last two
    return Preferences(
        verbosity=Verbosity(value["verbosity"]),
        every=value["every"],
        quiet=read_hours(value["quiet"]) if value["quiet"] else None,
        topics={Topic(topic): Loudness(loudness) for topic, loudness in value["topics"].items()},
        muted_until=value.get("muted_until", 0.0),
        threshold=Threshold(**threshold | {"goal": Goal(threshold["goal"])}) if threshold else None,
    )
