"""Sends a channel what happened: events of the journal in, messages out, in order, none lost.

`next_step` decides what goes next. It is pure: the same notifications, preferences and time give the same.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import KW_ONLY, InitVar, dataclass, field, replace
from datetime import UTC, datetime, tzinfo

from loop.errors import backoff
from loop.experiment import Event, Experiment, Run
from loop.process.worker import in_thread
from loop.store.experiments import IdeaBox
from loop.store.journal import Journal
from loop.store.outbox import Entry, LastSent, Outbox, State, Trouble, last_sent
from loop.text import one_line
from notifiers.channels.tracker import SERVICES
from notifiers.delivery.preferences import Decision, Preferences, Threshold, Verbosity, decide
from notifiers.delivery.rate_limit import CHANNEL_WAITS, Clock, Spacing
from notifiers.message import Channel, GoneError, Message, RateLimitedError, RefusedError, UnreachableError
from notifiers.text.digest import backlog_message, group_message, hour_message, message_of
from notifiers.text.notification import Notification, Topic, buttons_under, read_notifications

log = logging.getLogger(__name__)

LOOK_AGAIN = 60.0  # seconds after which what is held is looked at again: the morning comes without an event
LONG_WAIT = 30.0  # a platform that wants to be left alone for so many seconds is in trouble
EVENTS = 5000
HELD = 1000
REASON = 200  # characters of a platform's reason
"""How many events and how many held notifications are looked at in one go."""

FEW = 5  # more notifications than this, once the oldest is `STALE` seconds old, are sent in one message
STALE = 300.0
HOUR = 3600.0


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

    One that is `answered` has been told in the channel by the answer to a command; `passed` is the number
    that it is the first to reach. `late` is a line that says when it was, empty of what is new.
    """

    news: Notification
    state: State | None = None
    decision: Decision = Decision.SEND
    answered: bool = False
    passed: Threshold | None = None
    late: str = ""

    @property
    def waits(self) -> bool:
        """Whether it was put off before, and still is."""
        return self.state is not None and self.decision is Decision.HOLD

    def decided(self, preferences: Preferences, *, quiet: bool, now: float, zone: tzinfo) -> Pending:
        decision = Decision.MUTE if self.answered else decide(self.news, preferences, quiet=quiet)
        threshold, at = preferences.threshold, self.news.event.at
        passed = threshold if threshold is not None and threshold.is_passed(self.news) else None
        late = f"\nThat was {datetime.fromtimestamp(at, zone):%Y-%m-%d at %H:%M}" if now - at >= STALE else ""
        return replace(self, decision=decision, passed=passed, late=late)

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
    decided = [each.decided(preferences, quiet=quiet, now=now, zone=zone) for each in pending]
    for each in decided:
        if each.state is State.FOLLOWS and not (quiet and each.waits):
            return _follow_up(each)
    decided = [each for each in decided if each.state is not State.FOLLOWS]
    hourly = preferences.verbosity is Verbosity.HOURLY
    enough = preferences.every if preferences.verbosity is Verbosity.EVERY else 0
    due = [each for each in decided if each.decision is not Decision.MUTE and not each.waits]
    late = len(due) > FEW and due[0].late
    waiting = sum(each.waits and not (hourly and each.news.is_digest) for each in decided)
    if quiet or hourly or late or waiting > max(enough, FEW):
        for each in decided:
            if each.news.topic is Topic.REPORT and each.decision is not Decision.MUTE:
                return _wake_up(each, decided)
        if not quiet and (late or waiting > max(enough, FEW)):
            return _backlog(decided, preferences, zone)
    if hourly and not quiet:
        held = [each for each in decided if each.decision is Decision.HOLD and each.news.is_digest]
        if held and now - held[0].news.event.at >= HOUR:
            return _group(held, hour_message([each.news for each in held], zone))
        enough = HELD  # they wait for that
    return _first(decided, enough, quiet=quiet)


def _first(decided: Sequence[Pending], enough: int, *, quiet: bool) -> Record | Send | None:
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
        if group and enough < HELD:
            return _group(group, group_message([each.news for each in group]))
        return _send(each)
    return Record(tuple(entries)) if entries else None


def _send(each: Pending) -> Send:
    news, silent = each.news, each.decision is Decision.SILENT
    text = message_of(news.event, news.run, news.experiment).text
    text += f"\n{each.passed}: you asked to hear of it" if each.passed else ""
    return Send(
        Message(f"{text}{each.late}", buttons=buttons_under(news), silent=silent),
        news.run,
        news.is_for_all and not silent,
        (each.entry(State.SENT),),
        news.experiment,
        report=news.event if news.has_report else None,
        late=each.late,
    )


def _wake_up(report: Pending, decided: Sequence[Pending]) -> Send:
    """Return the wake-up report, which covers all in its run that was put off until then.

    Of what comes before it, calls for a person follow, and what is about another run waits its turn.
    """
    step = _send(report)
    entries = []
    for each in decided[: decided.index(report)]:
        if each.decision is Decision.MUTE:
            state = State.MUTED
        elif each.news.is_call:
            state = State.FOLLOWS
        else:
            state = State.COLLAPSED if each.news.run.id == report.news.run.id else State.HELD
        entries.append(each.entry(state))
    return replace(step, entries=(*entries, *step.entries))


def _follow_up(each: Pending) -> Record | Send:
    """Return the message about what was announced already: no more sound, but for a call for a person."""
    if each.decision is Decision.MUTE:
        return Record((each.entry(State.MUTED),))
    urgent = each.news.topic is Topic.ATTENTION
    return _send(each if urgent else replace(each, decision=Decision.SILENT))


def _group(group: Sequence[Pending], message: Message) -> Send:
    news = [each.news for each in group]
    entries = tuple(each.entry(State.COLLAPSED) for each in group)
    return Send(message, _only_run(news), any(one.is_for_all for one in news), entries)


def _backlog(decided: Sequence[Pending], preferences: Preferences, zone: tzinfo) -> Send:
    wanted = [each for each in decided if each.decision is not Decision.MUTE]
    news = [each.news for each in wanted]
    title = "In the quiet hours" if preferences.quiet else "In the meantime"
    if any(each.state is None and each.late for each in wanted):
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
    own = each.news.topic in (Topic.KEEP, Topic.QUARANTINE) or each.news.is_call or each.news.has_report
    return State.FOLLOWS if own else State.COLLAPSED


def _only_run(news: Sequence[Notification]) -> Run | None:
    run = news[0].run
    return run if all(one.run.id == run.id for one in news) else None


@contextmanager
def set_by_events(journal: Journal) -> Iterator[asyncio.Event]:
    """Give what is set whenever the journal has new events."""
    written, loop = asyncio.Event(), asyncio.get_running_loop()

    def notice() -> None:  # called in the thread that wrote to the journal
        loop.call_soon_threadsafe(written.set)

    journal.listeners.append(notice)
    try:
        yield written
    finally:
        journal.listeners.remove(notice)


@dataclass(eq=False)
class Delivery:
    """Follows the journal for one channel and sends it what it wants to be told.

    The next step is always planned anew from what is on disk, and recorded when it is done: whatever breaks
    in between, at most the message in flight is sent again. A new channel is told what happens from now on.

    `preferences` are asked before every step. A message about a run answers the one whose id `thread`
    returns; one about an experiment whose idea came from this channel answers that message.
    `report` makes the report on an event, None where it cannot; `shown` takes out of a message what the
    channel must not show. `zone` is the bot's own; `jitter` gives
    numbers from 0 to 1.
    """

    channel: Channel
    journal: Journal
    _: KW_ONLY
    preferences: Callable[[], Preferences] = Preferences
    thread: Callable[[Run], Awaitable[str]] | None = None
    report: Callable[[Event], Awaitable[Message | None]] | None = None
    shown: Callable[[Message], Message] = lambda message: message
    spacing: InitVar[Spacing | None] = None
    clock: Clock = field(default_factory=Clock)
    zone: tzinfo = UTC
    jitter: Callable[[], float] = random.random

    def __post_init__(self, spacing: Spacing | None) -> None:
        self._spacing = spacing or Spacing(clock=self.clock)
        self._outbox = Outbox(self.journal, self.channel.name, now=self.clock.now)
        self._failures = 0
        self.trouble: Trouble | None = None

    async def run(self) -> None:
        with set_by_events(self.journal) as written:
            while True:
                written.clear()
                await self.catch_up()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN):
                        await written.wait()

    async def catch_up(self) -> None:
        await in_thread(self._outbox.open)
        while step := await in_thread(self._next):
            if isinstance(step, Record):
                await in_thread(self._outbox.record, step.entries)
            else:
                await self._try(step)

    def _next(self) -> Record | Send | None:
        preferences, now = self.preferences(), self.clock.now()
        quiet = preferences.is_quiet(now, self.zone)
        pending = read_pending(self.journal, self._outbox, held=not quiet)
        if quiet and any(each.news.topic is Topic.REPORT for each in pending):
            pending = read_pending(self.journal, self._outbox, held=True)  # it covers them too
        return next_step(pending, preferences, quiet=quiet, now=now, zone=self.zone)

    async def _try(self, step: Send) -> None:
        try:
            try:
                message_id, entries = await self._send(step), step.entries
            except RefusedError as error:
                message_id, entries = await self._send_less(step, str(error))
        except RateLimitedError as error:
            self._spacing.pause(error.seconds)
            if error.seconds >= LONG_WAIT:
                await self._note_trouble(str(error))
            await self.clock.sleep(error.seconds)
        except (UnreachableError, RefusedError) as error:
            await self._back_off(str(error))
        else:
            await in_thread(self._outbox.record, entries, message_id=message_id)
            await self._recovered()

    async def _send(self, step: Send) -> str:
        root = await self._root(step)
        message = self.shown(await self._message(step))
        await self._spacing.turn()
        try:
            return await self.channel.send(message, reply_to=root, broadcast=step.for_all)
        except GoneError:
            if not root:
                raise
        if step.run is not None:
            await in_thread(self._outbox.drop_card, step.run.id, root)
        await self._spacing.turn()
        return await self.channel.send(message, broadcast=step.for_all)

    async def _message(self, step: Send) -> Message:
        """Return what is sent: where it can be made, the report in the place of the line about it."""
        if self.report is None or step.report is None:
            return step.message
        made = await self.report(step.report)
        if made is None:
            return step.message
        return replace(made, text=made.text + step.late, silent=step.message.silent)

    async def _root(self, step: Send) -> str:
        if step.experiment is not None and step.experiment.idea is not None:
            idea = await in_thread(IdeaBox(self.journal).get, step.experiment.idea)
            if idea.channel == self.channel.name and idea.message_id:
                return idea.message_id
        if self.thread is not None and step.run is not None:
            return await self.thread(step.run)
        return ""

    async def _back_off(self, reason: str) -> None:
        await self._note_trouble(reason)
        self._failures += 1
        await self.clock.sleep(backoff(CHANNEL_WAITS, self._failures, jitter=self.jitter()))

    async def _note_trouble(self, reason: str) -> None:
        if self.trouble is None:
            log.warning("%s is unreachable: %s", self.channel.name, reason)
        since = self.clock.now() if self.trouble is None else self.trouble.since
        trouble = Trouble(since, reason)
        if trouble != self.trouble:
            self.trouble = trouble
            await in_thread(self._outbox.set_trouble, trouble)

    async def _recovered(self) -> None:
        if self.trouble is not None:
            log.info("%s is reachable again", self.channel.name)
            self.trouble = None
            await in_thread(self._outbox.set_trouble, None)
        self._failures = 0

    async def _send_less(self, step: Send, reason: str) -> tuple[str, tuple[Entry, ...]]:
        """Say in the place of a refused message that it was refused; what was to follow it still follows.

        A channel that refuses that as well takes nothing at present, whatever it said: raised again.
        """
        await self._spacing.turn()
        message_id = await self.channel.send(Message(not_taken(step, reason), silent=step.message.silent))
        log.warning("%s refused a message: %s", self.channel.name, reason)
        return message_id, tuple(
            replace(entry, state=State.REFUSED, reason=reason)
            if entry.state in (State.SENT, State.COLLAPSED)
            else entry
            for entry in step.entries
        )


def not_taken(step: Send, reason: str) -> str:
    about = "A message"
    if step.run is not None:
        number = "" if step.experiment is None else f" #{step.experiment.number}"
        about = f"The message about {step.run.tag}{number}"
    return f"{about} was refused here: {one_line(reason, REASON)}"


def read_pending(journal: Journal, outbox: Outbox, *, held: bool = True) -> list[Pending]:
    put_off = outbox.put_off(held=held, most=HELD)
    news = read_notifications(journal, [event for event, _ in put_off])
    states = {event.id: state for event, state in put_off}
    pending = [Pending(one, states[one.event.id]) for one in news]
    if len(put_off) < HELD:
        for events in outbox.new(most=EVENTS):  # until one of them is for people
            if news := read_notifications(journal, events):
                return pending + [Pending(one, answered=outbox.has_answer(one.event)) for one in news]
    return pending


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a channel has come: how many notifications wait for it, and when it was last sent one."""

    waiting: int
    last: LastSent


def standings(journal: Journal) -> list[Standing]:
    """Return the standing of every channel that was ever opened, but for experiment trackers."""
    return [
        Standing(len(read_pending(journal, Outbox(journal, last.channel))), last)
        for last in last_sent(journal)
        if last.channel.partition(":")[0] not in SERVICES
    ]
