"""Whatever happens, in whatever order: every event is settled once, told in order, and none is lost."""

from __future__ import annotations

import asyncio
import re
import tempfile
from contextlib import ExitStack
from datetime import UTC, time
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from loop.experiment import Actor, EventKind, Reason, Run, RunState, Status
from loop.results.report import run_status
from loop.store.outbox import Outbox
from notifiers.delivery.delivery import Delivery
from notifiers.delivery.live_card import LiveCards
from notifiers.delivery.preferences import Loudness, Preferences, QuietHours, Verbosity
from notifiers.delivery.rate_limit import Spacing, Window
from notifiers.message import RateLimitedError, RefusedError, UnreachableError
from notifiers.text.notification import Topic, read_notifications
from tests.notifiers.recording import Fault, RecordingChannel, VirtualTime
from tests.notifiers.stories import call, decide, head, open_journal, start

FINAL = {"sent", "collapsed", "muted", "refused"}

faults = st.one_of(
    st.none(),
    st.builds(Fault, st.builds(UnreachableError, st.just("no answer")), st.booleans()),
    st.builds(Fault, st.builds(RateLimitedError, st.integers(0, 400)), st.just(value=False)),
    st.builds(Fault, st.builds(RefusedError, st.just("bad request")), st.just(value=False)),
    st.builds(Fault, st.builds(asyncio.CancelledError), st.booleans()),  # the process dies
)
preferences = st.builds(
    Preferences,
    verbosity=st.sampled_from(Verbosity),
    every=st.integers(2, 7),
    quiet=st.sampled_from([None, None, QuietHours(time(22), time(7)), QuietHours(time(11), time(13))]),
    topics=st.dictionaries(
        st.sampled_from([topic for topic in Topic if topic is not Topic.ATTENTION]),
        st.sampled_from(Loudness),
        max_size=2,
    ),
)


class Deliveries(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.hourly = False  # ordered at any time
        self.stack = ExitStack()
        self.loop = self.stack.enter_context(asyncio.Runner())
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.time = VirtualTime()
        self.journal = self.stack.enter_context(open_journal(self.folder, self.time))
        self.journal.execute("PRAGMA synchronous = OFF")  # quicker; nobody cuts the power here
        self.channel = RecordingChannel(self.time)
        self.preferences = Preferences()
        self.runs: list[Run] = []
        self.count = 0

    def teardown(self) -> None:
        try:
            self.channel.faults.clear()
            self.preferences = Preferences()
            self.catch_up()
            self.check()
        finally:
            self.stack.close()

    @initialize()
    def begin(self) -> None:
        self.restart()
        self.catch_up()
        self.begin_run()

    # What happens

    @precondition(lambda self: len(self.runs) < 2)
    @rule()
    def begin_run(self) -> None:
        self.runs.append(start(self.journal, f"mar{len(self.runs)}"))

    @rule(which=st.integers(0, 1), status=st.sampled_from(Status), times=st.integers(1, 8))
    def decide(self, which: int, status: Status, times: int) -> None:
        run = self.runs[which % len(self.runs)]
        for _ in range(times):
            decide(self.journal, run, self.number(), status)

    @rule(which=st.integers(0, 1), state=st.sampled_from(RunState))
    def change(self, which: int, state: RunState) -> None:
        run = self.runs[which % len(self.runs)]
        self.journal.set_state(run, state, Reason(Actor.PERSON, f"reason {self.number()}"))

    @rule(which=st.integers(0, 1), recovered=st.booleans())
    def call(self, which: int, recovered: bool) -> None:
        run, reason = self.runs[which % len(self.runs)], f"reason {self.number()}"
        if recovered:
            self.journal.note(run.id, EventKind.RUN_RECOVERED, reason=reason)
        else:
            call(self.journal, run, reason)

    @rule(which=st.integers(0, 1))
    def wake_up(self, which: int) -> None:
        self.journal.note(self.runs[which % len(self.runs)].id, EventKind.WAKE_UP, since=0.0)

    @rule(seconds=st.sampled_from([1, 60, 400, 3600, 8 * 3600]))
    def wait(self, seconds: int) -> None:
        self.time.now += seconds

    @rule(wanted=preferences)
    def order(self, wanted: Preferences) -> None:
        self.preferences = wanted
        self.hourly |= wanted.verbosity is Verbosity.HOURLY

    @rule(coming=st.lists(faults, min_size=1, max_size=6))
    def spoil(self, coming: list[Fault | None]) -> None:
        self.channel.faults.extend(coming)

    @rule()
    def delete_cards(self) -> None:
        self.channel.deleted.update(sent.message_id for sent in self.channel.sent if is_card(sent.head))

    # What the bot does

    @rule()
    def restart(self) -> None:
        spacing = Spacing(Window(1, 1.0), Window(20, 60.0), clock=self.time.clock)
        self.keeper = LiveCards(
            self.channel,
            self.journal,
            status=lambda run: run_status(self.journal, run, worktree=self.folder),
            spacing=spacing,
            zone=UTC,
            clock=self.time.clock,
        )
        self.delivery = Delivery(
            self.channel,
            self.journal,
            preferences=lambda: self.preferences,
            thread=self.keeper.thread,
            spacing=spacing,
            clock=self.time.clock,
        )

    @rule()
    def catch_up(self) -> None:
        try:
            self.loop.run(self.delivery.catch_up())
        except asyncio.CancelledError:
            self.restart()

    @rule()
    def refresh(self) -> None:
        try:
            self.loop.run(self.keeper.refresh())
        except asyncio.CancelledError:
            self.restart()
        except UnreachableError:
            pass

    # What must be true in the end

    def check(self) -> None:
        sent = self.channel.sent
        place = {message.message_id: index for index, message in enumerate(sent)}
        rows = {row["event_id"]: row for row in self.journal.query("SELECT * FROM deliveries")}
        news = read_notifications(self.journal, self.journal.events_after(0, limit=100_000))
        assert set(rows) == {item.event.id for item in news}
        assert {row["state"] for row in rows.values()} <= FINAL
        reports = [item for item in news if item.topic is Topic.REPORT]
        told = [item for item in reports if rows[item.event.id]["state"] == "sent"]
        mornings = {rows[item.event.id]["message_id"]: item.run.id for item in told}
        lines = [head(item) for item in news]
        latest, latest_group = {False: -1, True: -1}, -1
        for item, line in zip(news, lines, strict=True):
            row = rows[item.event.id]
            heads = [message.head for message in sent]
            assert heads.count(line) <= lines.count(line) + self.channel.lost.count(line)
            if row["state"] == "sent":
                assert sent[place[row["message_id"]]].head == line
            if item.topic is Topic.ATTENTION:
                assert row["state"] in ("sent", "refused")  # it overtakes what is held
            elif row["message_id"] and row["message_id"] in mornings:
                assert item.run.id == mornings[row["message_id"]]  # it overtakes what is about other runs
            elif row["state"] == "sent":
                # What comes at once overtakes what waits for the line of its hour, which may come alone then.
                held = self.hourly and item.is_digest and item.topic not in (Topic.KEEP, Topic.QUARANTINE)
                assert place[row["message_id"]] > max(latest[held], -1 if self.hourly else latest_group)
                latest[held] = place[row["message_id"]]
            elif row["state"] == "collapsed":
                assert place[row["message_id"]] >= latest_group
                latest_group = place[row["message_id"]]
        outbox = Outbox(self.journal, self.channel.name, now=lambda: 0.0)
        for run in self.runs:
            assert outbox.card(run.id) in {"", *place}

    def number(self) -> int:
        self.count += 1
        return self.count


def is_card(head: str) -> bool:
    return re.match(r"Run \w+: ", head) is not None


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = settings(max_examples=16, stateful_step_count=25, deadline=None)
