"""What a channel is sent next. Pure: the same notifications, preferences and time give the same step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo

from loop.experiment import Event, Experiment, Run
from loop.store.outbox import Entry, State
from notifiers.delivery.preferences import Decision, Preferences, Verbosity, decide
from notifiers.message import Message
from notifiers.text.digest import backlog_message, group_message, message_of
from notifiers.text.notification import Notification, Topic, buttons_under

FEW = 5
"""More notifications than this, once the oldest is `STALE` seconds old, are sent in one message."""
STALE = 300.0


@dataclass(frozen=True, slots=True)
class Record:
    """Record what becomes of some notifications without sending them."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message and then record `entries`.

    `run` and `experiment` are what the message is about, None where it is about several or none; `for_all`
    asks to show it outside of the run's thread. A `report` on that event takes the place of the text, where
    one can be made; `late` is then its last line.
    """

    message: Message
    run: Run | None
    for_all: bool
    entries: tuple[Entry, ...]
    experiment: Experiment | None = None
    report: Event | None = None
    late: str = ""


@dataclass(frozen=True, slots=True)
class Pending:
    """A notification that is not settled; `state` is None where nothing was done about it yet.

    One that is `answered` has been told in the channel by the answer to a command.
    """

    news: Notification
    state: State | None = None
    decision: Decision = Decision.SEND
    answered: bool = False

    @property
    def waits(self) -> bool:
        """Whether it was put off before, and still is."""
        return self.state is not None and self.decision is Decision.HOLD

    def decided(self, preferences: Preferences, *, quiet: bool) -> Pending:
        decision = decide(self.news, preferences, quiet=quiet)
        return replace(self, decision=Decision.MUTE if self.answered else decision)

    def entry(self, state: State) -> Entry:
        return Entry(self.news.event.id, state)


def next_step(
    pending: Sequence[Pending], preferences: Preferences, *, quiet: bool, now: float, zone: tzinfo
) -> Record | Send | None:
    """Return what to do first about `pending`, which stand in order; None when there is nothing to do yet.

    In quiet hours notifications are put off, except what only a person can help with. Where several digests
    make one message they are put off until there are enough, or until something else is sent: so the order
    stays. An outage and the quiet hours leave a backlog: a short one is sent piece by piece, a long one in
    one message that the digests of what was kept and the calls for a person follow. The wake-up report takes
    its place, and that of all that the quiet hours still put off.
    """
    decided = [each.decided(preferences, quiet=quiet) for each in pending]
    for each in decided:
        if each.state is State.FOLLOWS and not (quiet and each.waits):
            return _follow_up(each, now=now, zone=zone)
    decided = [each for each in decided if each.state is not State.FOLLOWS]
    enough = preferences.every if preferences.verbosity is Verbosity.EVERY else 0
    due = [each for each in decided if each.decision is not Decision.MUTE and not each.waits]
    late = len(due) > FEW and now - due[0].news.event.at >= STALE
    if quiet or late or sum(each.waits for each in decided) > max(enough, FEW):
        for each in decided:
            if each.news.topic is Topic.REPORT and each.decision is not Decision.MUTE:
                return _wake_up(each, decided, now=now, zone=zone)
        if not quiet:
            return _backlog(decided, preferences, now=now, zone=zone)
    return _first(decided, enough, quiet=quiet, now=now, zone=zone)


def _first(
    decided: Sequence[Pending], enough: int, *, quiet: bool, now: float, zone: tzinfo
) -> Record | Send | None:
    """Return the next step where notifications are sent one by one, or in groups of `enough` digests."""
    entries: list[Entry] = []  # recorded before anything is sent
    group: list[Pending] = []
    for each in decided:
        if each.decision is Decision.MUTE:
            entries.append(each.entry(State.MUTED))
            continue
        if each.decision is Decision.HOLD:
            if not each.waits:
                entries.append(each.entry(State.HELD))
            if quiet:
                continue
            group.append(each)
            if len(group) < enough:
                continue
        if entries:
            break
        return _group(group) if group else _send(each, now=now, zone=zone)
    return Record(tuple(entries)) if entries else None


def _send(each: Pending, *, now: float, zone: tzinfo) -> Send:
    news = each.news
    silent = each.decision is Decision.SILENT
    late = ""
    if now - news.event.at >= STALE:
        late = f"\nThat was {datetime.fromtimestamp(news.event.at, zone):%Y-%m-%d at %H:%M}"
    text = message_of(news.event, news.run, news.experiment).text
    return Send(
        Message(f"{text}{late}", buttons=buttons_under(news), silent=silent),
        news.run,
        news.is_for_all and not silent,
        (each.entry(State.SENT),),
        news.experiment,
        report=news.event if news.has_report else None,
        late=late,
    )


def _wake_up(report: Pending, decided: Sequence[Pending], *, now: float, zone: tzinfo) -> Send:
    """Return the wake-up report, which covers all in its run that was put off until then.

    Of what comes before it, calls for a person follow, and what is about another run waits its turn.
    """
    step = _send(report, now=now, zone=zone)
    entries = []
    for each in decided[: decided.index(report)]:
        if each.decision is Decision.MUTE:
            state = State.MUTED
        elif each.news.topic is Topic.ATTENTION:
            state = State.FOLLOWS
        else:
            state = State.COLLAPSED if each.news.run.id == report.news.run.id else State.HELD
        entries.append(each.entry(state))
    return replace(step, entries=(*entries, *step.entries))


def _follow_up(each: Pending, *, now: float, zone: tzinfo) -> Record | Send:
    """Return the message about what was announced already: no more sound, but for a call for a person."""
    if each.decision is Decision.MUTE:
        return Record((each.entry(State.MUTED),))
    urgent = each.news.topic is Topic.ATTENTION
    return _send(each if urgent else replace(each, decision=Decision.SILENT), now=now, zone=zone)


def _group(group: Sequence[Pending]) -> Send:
    news = [each.news for each in group]
    message = replace(group_message(news), silent=not any(one.is_loud for one in news))
    entries = tuple(each.entry(State.COLLAPSED) for each in group)
    return Send(message, _only_run(news), any(one.is_for_all for one in news), entries)


def _backlog(decided: Sequence[Pending], preferences: Preferences, *, now: float, zone: tzinfo) -> Send:
    wanted = [each for each in decided if each.decision is not Decision.MUTE]
    news = [each.news for each in wanted]
    title = "In the quiet hours" if preferences.quiet else "In the meantime"
    if any(each.state is None and now - each.news.event.at >= STALE for each in wanted):
        title = "While offline"
    silent = all(each.decision is Decision.SILENT for each in wanted)
    return Send(
        replace(backlog_message(news, title=title, zone=zone), silent=silent),
        _only_run(news),
        any(one.is_for_all for one in news) and not silent,
        tuple(each.entry(_after_backlog(each)) for each in decided),
    )


def _after_backlog(each: Pending) -> State:
    if each.decision is Decision.MUTE:
        return State.MUTED
    own = each.news.topic in (Topic.KEEP, Topic.ATTENTION) or each.news.has_report
    return State.FOLLOWS if own else State.COLLAPSED


def _only_run(news: Sequence[Notification]) -> Run | None:
    run = news[0].run
    return run if all(one.run.id == run.id for one in news) else None
