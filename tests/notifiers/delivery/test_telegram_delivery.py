"""What happened reaches a Telegram chat in order and completely, whatever goes wrong on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from loop.experiment import Run
from loop.store.journal import Journal
from notifiers.channels.telegram import TelegramChannel
from notifiers.channels.telegram_wire import Wire, make_bot
from notifiers.delivery.delivery import Delivery
from tests.notifiers.recording import VirtualTime
from tests.notifiers.stories import call, needs_you, open_journal, start
from tests.servers.telegram_api import TOKEN
from tests.servers.telegram_server import (
    ANSWER_LOST,
    SILENCE,
    Answer,
    TelegramServer,
    page,
    refusal,
    retry_after,
    serving,
)

TOLD = [needs_you(f"reason <{number}>") for number in range(6)]


async def _nothing() -> None:
    """What happens while a delivery waits, if nobody says otherwise."""


@dataclass(slots=True)
class Night:
    """A chat that was told of a run, and what will be told."""

    server: TelegramServer
    journal: Journal
    run: Run
    delivery: Delivery
    virtual: VirtualTime
    while_waiting: Callable[[], Awaitable[None]] = _nothing

    async def tell(self) -> list[str]:
        """Let everything happen and be told; returns the first lines of what the chat got."""
        self.server.api.posts.clear()
        for number in range(len(TOLD)):
            call(self.journal, self.run, f"reason <{number}>")
        await self.delivery.catch_up()
        return [post.text.splitlines()[0] for post in self.server.api.posts]


@pytest.fixture
async def night(tmp_path: Path) -> AsyncIterator[Night]:
    virtual = VirtualTime()
    async with serving() as server:
        with open_journal(tmp_path, virtual) as journal:
            bot = make_bot(TOKEN, server.base_url, Wire(read_seconds=2.0))

            async def sleep(seconds: float) -> None:
                await virtual.clock.sleep(seconds)
                await story.while_waiting()

            channel = TelegramChannel(bot=bot, chat_id=7)
            clock = replace(virtual.clock, sleep=sleep)
            delivery = Delivery(channel, journal, clock=clock, jitter=lambda: 0.0)
            await delivery.catch_up()
            story = Night(server, journal, start(journal), delivery, virtual)
            await delivery.catch_up()
            yield story
            await bot.request.shutdown()


@pytest.mark.parametrize(
    "faults",
    [
        (),
        (retry_after(3), retry_after(222)),
        (refusal(500, "Internal Server Error"), page(502), page(503)),
        (page(404), page(200), refusal(401, "Unauthorized")),
        (refusal(400, 'Bad Request: can\'t parse entities: Unsupported start tag "x" at byte offset 0'),),
        (SILENCE,),
    ],
    ids=["nothing", "429", "5xx", "something in between", "malformed", "silent"],
)
async def test_every_event_arrives_once_and_in_order(night: Night, faults: tuple[Answer, ...]) -> None:
    night.server.fail("sendMessage", *faults)
    assert await night.tell() == TOLD
    assert night.delivery.trouble is None


async def test_only_where_the_answer_was_lost_something_is_told_again(night: Night) -> None:
    night.server.fail("sendMessage", ANSWER_LOST)
    assert await night.tell() == [TOLD[0], *TOLD]


async def test_a_server_that_refuses_connections_for_a_while(night: Night) -> None:
    async def come_back() -> None:
        if len(night.virtual.slept) == 5:
            await night.server.start()

    night.while_waiting = come_back
    await night.server.stop()
    assert await night.tell() == TOLD
    assert len(night.virtual.slept) == 5


async def test_floods_are_waited_out(night: Night) -> None:
    night.server.fail("sendMessage", retry_after(222))
    await night.tell()
    assert 222 in night.virtual.slept


async def test_what_is_refused_for_good_holds_nothing_up(night: Night) -> None:
    night.server.fail("sendMessage", refusal(400, "Bad Request: MESSAGE_NOT_SUPPORTED"))
    less = "The message about mar12 was refused here: Message_not_supported"
    assert await night.tell() == [less, *TOLD[1:]]


@pytest.mark.parametrize(
    "fault",
    [
        refusal(403, "Forbidden: bot was kicked from the group chat"),
        refusal(403, "Forbidden: bot was blocked by the user"),
        refusal(400, "Bad Request: TOPIC_CLOSED"),
        refusal(400, "Bad Request: chat not found"),
        refusal(400, "Bad Request: not enough rights to send text messages to the chat"),
        refusal(400, "Bad Request: some reason that nobody has seen yet"),
        refusal(429, "Too Many Requests: retry after 9", retry_after=9),
        refusal(500, "Internal Server Error"),
    ],
    ids=["kicked", "blocked", "closed", "gone", "silenced", "unknown", "429", "500"],
)
async def test_what_a_chat_did_not_take_for_a_while_is_told_later(night: Night, fault: Answer) -> None:
    async def open_again() -> None:
        if len(night.virtual.slept) == 4:
            night.server.heal()

    night.while_waiting = open_again
    night.server.fail_always("sendMessage", fault)
    assert await night.tell() == TOLD
    assert len(night.virtual.slept) == 4
