"""A Slack channel that takes nothing for a while loses nothing, whatever the reason that Slack gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import pytest

from bot.heartbeat.health import health_checks
from loop.experiment import Run, RunState, Status
from loop.results.report import run_status
from loop.store.outbox import Trouble, refusals
from notifiers.channels.slack import SlackChannel, make_client
from notifiers.delivery.delivery import Delivery, standings
from notifiers.delivery.live_card import LiveCards
from notifiers.delivery.rate_limit import slack_spacing
from notifiers.message import Attachment, Message
from tests.notifiers.bench import Bench
from tests.notifiers.stories import decide, start
from tests.servers.slack_rules import texts
from tests.servers.slack_server import Fault, SlackServer
from tests.servers.slack_workspace import BOT_TOKEN, CHANNEL

REFUSALS = (
    "not_in_channel",
    "channel_not_found",
    "is_archived",
    "restricted_action",
    "restricted_action_read_only_channel",
    "restricted_action_thread_only_channel",
    "not_allowed_token_type",
    "no_permission",
    "access_denied",
    "accesslimited",
    "ekm_access_denied",
    "enterprise_is_restricted",
    "org_login_required",
    "team_access_not_granted",
    "two_factor_setup_required",
    "invalid_auth",
    "account_inactive",
    "token_revoked",
    "token_expired",
    "missing_scope",
    "method_not_supported_for_channel_type",
    "too_many_attachments",
    "a_word_that_slack_invents_tomorrow",
)
"""What chat.postMessage may answer for hours, by its page in https://docs.slack.dev."""
TROUBLES = (
    Fault(word="fatal_error"),
    Fault(word="internal_error"),
    Fault(word="service_unavailable", status=503),
    Fault(word="request_timeout"),
    Fault(word="team_added_to_org"),
    Fault(status=500),
    Fault(status=502, body="<html>Bad Gateway</html>"),
    Fault(status=200, body="<html>Please log in</html>"),
    Fault(word="ratelimited", status=429, headers={"Retry-After": "600"}),
    Fault(word="rate_limited", headers={"Retry-After": "600"}),
    Fault(word="message_limit_exceeded", headers={"Retry-After": "600"}),
)


class Night:
    """A run that is told to a Slack channel, with its card, in virtual time."""

    def __init__(self, server: SlackServer, bench: Bench, folder: Path) -> None:
        self.server, self.journal, self.folder = server, bench.journal, folder
        self._bench = bench
        client = make_client(BOT_TOKEN, server.base_url)
        client.retry_handlers = []  # they wait a second before they try again
        self.channel = SlackChannel(client=client, channel_id=CHANNEL)
        self.run: Run
        self.waits: list[tuple[Trouble | None, list[bool | None]]] = []
        self.until: Callable[[], bool] = lambda: len(self.waits) >= 3  # waits until the outage ends
        self.end: Callable[[], object] = self.reopen
        sleep = bench.time.clock.sleep

        async def look(seconds: float) -> None:
            (standing,) = standings(self.journal)
            now = bench.time.now
            checks = health_checks(self.journal, home=folder, heartbeat_minutes=5, now=now)
            state = [check.ok for check in checks if check.name == self.channel.name]
            self.waits.append((standing.last.trouble, state))
            if self.until():
                outcome = self.end()
                if asyncio.iscoroutine(outcome):
                    await outcome
            await sleep(seconds)

        clock = replace(bench.time.clock, sleep=look)
        spacing = slack_spacing(clock=bench.time.clock)
        self.cards = LiveCards(
            self.channel,
            self.journal,
            status=lambda run: run_status(self.journal, run, worktree=folder),
            spacing=spacing,
            zone=UTC,
            clock=bench.time.clock,
        )
        self.delivery = Delivery(
            self.channel,
            self.journal,
            thread=self.cards.thread,
            report=self.report,
            spacing=spacing,
            clock=clock,
            jitter=float,
        )

    async def report(self, _: object) -> Message:
        return Message("The night", attachments=(Attachment("mar12.png", b"\x89PNG", "the night"),))

    def reopen(self) -> None:
        self.server.closed = None

    async def begin(self) -> None:
        await self.delivery.catch_up()
        self.run = start(self.journal)

    def heads(self) -> list[str]:
        """Return the first lines of what stands in the channel and its threads, in order, cards apart."""
        shown = [message["text"].split("\n")[0] for message in self.server.workspace.shown()]
        return [head for head in shown if not head.startswith("Run mar12: ")]


@pytest.fixture
async def server() -> AsyncIterator[SlackServer]:
    server = SlackServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def night(server: SlackServer, bench: Bench, tmp_path: Path) -> Night:
    night = Night(server, bench, tmp_path)
    await night.begin()
    return night


async def all_is_told(night: Night) -> None:
    decide(night.journal, night.run, 0, Status.KEEP)
    night.journal.set_state(night.run, RunState.PAUSED)
    await night.delivery.catch_up()
    assert [head.split(" from ")[0] for head in night.heads()] == [
        "Run mar12 started",
        "Experiment #0: try 0",
        "Run mar12 paused",
    ]
    cards = [message for message in night.server.workspace.shown() if "Run mar12: " in message["text"]]
    assert len(cards) == 1
    assert refusals(night.journal) == []
    threads = {message.get("thread_ts") for message in night.server.workspace.shown()}
    assert len(threads - {None}) == 1  # that of the card
    (standing,) = standings(night.journal)
    assert standing.last.trouble is None
    assert standing.waiting == 0


USUAL = [
    *(Fault(word=word) for word in ("not_in_channel", "is_archived", "invalid_auth")),
    *(TROUBLES[2], TROUBLES[-1]),
]


@pytest.mark.parametrize("fault", USUAL, ids=lambda fault: fault.word)
async def test_nothing_is_lost_and_doctor_knows_meanwhile(night: Night, fault: Fault) -> None:
    night.server.closed = fault
    await all_is_told(night)
    assert len(night.waits) >= 3
    troubles = [trouble for trouble, _ in night.waits[1:]]
    assert all(trouble and trouble.reason for trouble in troubles)
    assert len({trouble.since for trouble in troubles if trouble}) == 1
    assert all(False in state or None in state for _, state in night.waits[1:])


async def test_no_reason_of_slack_makes_an_outage_lose_anything(night: Night) -> None:
    faults = iter([*(Fault(word=word) for word in REFUSALS), *TROUBLES])

    def go_on() -> None:
        night.server.closed = next(faults, None)

    night.until, night.end = lambda: True, go_on
    go_on()
    await all_is_told(night)
    assert len(night.waits) == len(REFUSALS) + len(TROUBLES)
    assert all(trouble for trouble, _ in night.waits)


async def test_a_server_that_is_down_loses_nothing(night: Night) -> None:
    async def again() -> None:
        if not night.server.running:
            await night.server.start()

    await night.server.stop()
    night.end = again
    await all_is_told(night)
    assert all(trouble and "no answer from Slack" in trouble.reason for trouble, _ in night.waits[1:3])


async def test_a_private_channel_that_the_bot_was_thrown_out_of_loses_nothing(night: Night) -> None:
    room = night.server.workspace.rooms[CHANNEL]
    room.member, room.private = False, True

    def invite() -> None:
        room.member = True

    night.end = invite
    await all_is_told(night)


@pytest.mark.parametrize("word", ["invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long"])
async def test_blocks_that_slack_refuses_are_told_in_words(night: Night, word: str) -> None:
    night.server.fail("chat.postMessage", *[Fault(word=word), Fault()] * 4)
    await all_is_told(night)
    assert night.waits == []


async def test_a_text_that_is_too_long_for_slack_is_told_as_far_as_it_goes(night: Night) -> None:
    card, message = [Fault()], [Fault(word="msg_too_long")] * 2
    night.server.fail("chat.postMessage", *card, *message)
    await all_is_told(night)
    assert night.waits == []


async def test_a_channel_without_threads_is_told_all_the_same(night: Night) -> None:
    word = Fault(word="restricted_action_non_threadable_channel")
    night.server.fail("chat.postMessage", Fault(), word)
    await night.delivery.catch_up()
    assert night.heads() == ["Run mar12 started"]
    assert refusals(night.journal) == []
    assert next(texts(night.server.workspace.shown()[-1]["blocks"])).startswith("Run mar12 started")
