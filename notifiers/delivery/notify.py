"""What `/notify` understands and says, and where a channel's preferences are kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

from loop.store.chats import read_preferences, write_preferences
from loop.store.journal import Journal
from notifiers.delivery.preferences import MOST, Loudness, Preferences, Verbosity, in_groups, read_hours
from notifiers.text.notification import Topic

_EXAMPLES = (
    "/notify keeps, /notify every 5, /notify quiet 22:00-07:00 Europe/Berlin, /notify quiet off, "
    "/notify crash silent"
)
_DIGESTS = {
    Verbosity.ALL: "every one; a keep and the first crash of several ring",
    Verbosity.KEEPS: "only what is kept",
    Verbosity.BEST: "only a new best",
    Verbosity.SILENT: "every one, without a sound; only what needs a person rings",
}


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
    """Return the preferences in words, as the answer to `/notify`."""
    if preferences.verbosity is Verbosity.EVERY:
        digests = f"{preferences.every} in one message"
    else:
        digests = _DIGESTS[preferences.verbosity]
    lines = [
        f"Digests: {digests}",
        f"Quiet hours: {preferences.quiet or 'none'}",
        *(f"{topic}: {loudness}" for topic, loudness in sorted(preferences.topics.items())),
        f"Change it with {_EXAMPLES}. Events: {', '.join(Topic)}.",
    ]
    return "\n".join(lines)


class PreferenceStore:
    """The preferences of all channels; one that never ordered anything has those of `default`."""

    def __init__(self, journal: Journal, *, default: Preferences) -> None:
        self._journal = journal
        self._default = default

    def get(self, channel: str) -> Preferences:
        """Return what the channel wants."""
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
