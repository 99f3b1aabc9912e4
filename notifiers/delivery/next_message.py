"""What a channel is told next. Pure: the same news, preferences and time give the same step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo

from loop.experiment import Event, Experiment, Run
from loop.store.outbox import Entry, State
from notifiers.delivery.outbox import Item
from notifiers.delivery.preferences import Decision, Preferences, Verbosity, decide, is_quiet
from notifiers.message import Message
from notifiers.text.backlog import backlog_message, group_message
from notifiers.text.notification import Topic, buttons_under

FEW = 5
"""More news than this, once the oldest of it is `STALE` seconds old, is told in one message."""
STALE = 300.0


@dataclass(frozen=True, slots=True)
class Note:
    """Record what becomes of some news without telling it."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Say:
    """Send a message and then record `entries`.

    `run` and `experiment` are what the message is about, None where it is about several or none; `for_all`
    asks to show it outside of the run's thread. A `report` in the place of its text tells more, where one can
    be made of that event; `late` is then the last line of it.
    """

    message: Message
    run: Run | None
    for_all: bool
    entries: tuple[Entry, ...]
    experiment: Experiment | None = None
    report: Event | None = None
    late: str = ""


@dataclass(frozen=True, slots=True)
class _Choice:
    item: Item
    decision: Decision

    @property
    def waits(self) -> bool:
        """Say whether it was put off before, and still is."""
        return self.item.state is not None and self.decision is Decision.HOLD

    @property
    def is_morning(self) -> bool:
        """Say whether it is the report of the morning, and to be told."""
        return self.item.news.topic is Topic.REPORT and self.decision is not Decision.MUTE

    def entry(self, state: State) -> Entry:
        return Entry(self.item.news.event.id, state)


def next_step(
    items: Sequence[Item], preferences: Preferences, *, now: float, zone: tzinfo
) -> Note | Say | None:
    """Return what to do first about `items`, which stand in order; None when there is nothing to do yet.

    In quiet hours news is put off, except what only a person can help with. Where several digests make one
    message they are put off until there are enough, or until something else is to be told: so all is told in
    order. An outage and the quiet hours leave a backlog: a short one is told piece by piece, a long one in
    one message that the digests of what was kept and the calls for a person follow. The report of the morning
    takes its place, and that of all that the quiet hours still put off.
    """
    quiet = is_quiet(preferences.quiet, now, zone)
    choices = [_Choice(item, decide(item.news, preferences, now=now, zone=zone)) for item in items]
    announced = [choice for choice in choices if choice.item.state is State.FOLLOWS]
    for choice in announced:
        if not (quiet and choice.waits):
            return _follow_up(choice, now=now, zone=zone)
    choices = [choice for choice in choices if choice.item.state is not State.FOLLOWS]
    enough = preferences.every if preferences.verbosity is Verbosity.EVERY else 0
    news = [c for c in choices if c.decision is not Decision.MUTE and not c.waits]
    late = len(news) > FEW and now - news[0].item.news.event.at >= STALE
    if quiet or late or sum(choice.waits for choice in choices) > max(enough, FEW):
        if report := next((choice for choice in choices if choice.is_morning), None):
            return _morning(report, choices, now=now, zone=zone)
        if not quiet:
            return _backlog(choices, preferences, now=now, zone=zone)
    return _first(choices, enough, quiet=quiet, now=now, zone=zone)


def _first(
    choices: Sequence[_Choice], enough: int, *, quiet: bool, now: float, zone: tzinfo
) -> Note | Say | None:
    """Return the next step where the news is told piece by piece, or in groups of `enough` digests."""
    notes: list[Entry] = []  # come before anything that is told
    group: list[_Choice] = []
    for choice in choices:
        if choice.decision is Decision.MUTE:
            notes.append(choice.entry(State.MUTED))
            continue
        if choice.decision is Decision.HOLD:
            if not choice.waits:
                notes.append(choice.entry(State.HELD))
            if quiet:
                continue
            group.append(choice)
            if len(group) < enough:
                continue
        if notes:
            break
        return _group(group) if group else _tell(choice, now=now, zone=zone)
    return Note(tuple(notes)) if notes else None


def _tell(choice: _Choice, *, now: float, zone: tzinfo) -> Say:
    news = choice.item.news
    silent = choice.decision is Decision.SILENT
    late = ""
    if now - news.event.at >= STALE:
        late = f"\nThat was {datetime.fromtimestamp(news.event.at, zone):%Y-%m-%d at %H:%M}"
    text = f"{news.message.text}{late}"
    return Say(
        replace(news.message, text=text, buttons=buttons_under(news), silent=silent),
        news.run,
        news.is_for_all and not silent,
        (choice.entry(State.SENT),),
        news.experiment,
        report=news.event if news.has_report else None,
        late=late,
    )


def _morning(report: _Choice, choices: Sequence[_Choice], *, now: float, zone: tzinfo) -> Say:
    """Return the report of the morning, which tells of all in its run that was put off until then.

    Of what comes before it, calls for a person follow, and what is about another run waits its turn.
    """
    step = _tell(report, now=now, zone=zone)
    told = report.item.news
    entries = []
    for choice in choices[: choices.index(report)]:
        news = choice.item.news
        if choice.decision is Decision.MUTE:
            entries.append(choice.entry(State.MUTED))
        elif news.topic is Topic.ATTENTION:
            entries.append(choice.entry(State.FOLLOWS))
        else:
            same = news.run.id == told.run.id
            entries.append(choice.entry(State.COLLAPSED if same else State.HELD))
    return replace(step, entries=(*entries, *step.entries))


def _follow_up(choice: _Choice, *, now: float, zone: tzinfo) -> Note | Say:
    """Return the message about what was announced already: no more sound, but for a call for a person."""
    if choice.decision is Decision.MUTE:
        return Note((choice.entry(State.MUTED),))
    urgent = choice.item.news.topic is Topic.ATTENTION
    wanted = choice if urgent else replace(choice, decision=Decision.SILENT)
    return _tell(wanted, now=now, zone=zone)


def _group(group: Sequence[_Choice]) -> Say:
    news = [choice.item.news for choice in group]
    entries = tuple(choice.entry(State.COLLAPSED) for choice in group)
    message = replace(group_message(news), silent=not any(item.is_loud for item in news))
    return Say(message, _only_run(group), any(item.is_for_all for item in news), entries)


def _backlog(choices: Sequence[_Choice], preferences: Preferences, *, now: float, zone: tzinfo) -> Say:
    told = [choice for choice in choices if choice.decision is not Decision.MUTE]
    news = [choice.item.news for choice in told]
    offline = any(c.item.state is None and now - c.item.news.event.at >= STALE for c in told)
    title = "In the quiet hours" if preferences.quiet else "In the meantime"
    if offline:
        title = "While offline"
    silent = all(choice.decision is Decision.SILENT for choice in told)
    return Say(
        replace(backlog_message(news, title=title, zone=zone), silent=silent),
        _only_run(told),
        any(item.is_for_all for item in news) and not silent,
        tuple(choice.entry(_after_backlog(choice)) for choice in choices),
    )


def _after_backlog(choice: _Choice) -> State:
    if choice.decision is Decision.MUTE:
        return State.MUTED
    news = choice.item.news
    own = news.topic in (Topic.KEEP, Topic.ATTENTION) or news.has_report
    return State.FOLLOWS if own else State.COLLAPSED


def _only_run(choices: Sequence[_Choice]) -> Run | None:
    first = choices[0].item.news.run
    return first if all(choice.item.news.run.id == first.id for choice in choices) else None
