from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from bot.telegram.connection import CONFLICT
from notifiers.channels.telegram import TelegramChannel
from notifiers.channels.telegram_wire import make_bot
from notifiers.message import Message
from tests.bot.telegram_front import PACE, Answers, LogWatch, log_watch, running
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

SECRET = TOKEN.partition(":")[2]
pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")

UNAUTHORIZED = refusal(401, "Unauthorized")
NOT_FOUND = refusal(404, "Not Found")
IMPATIENT = replace(PACE, patience=2)  # enough for a connection on a busy machine


@pytest.fixture
async def server() -> AsyncIterator[TelegramServer]:
    async with serving() as server:
        yield server


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def watch() -> Iterator[LogWatch]:
    with log_watch() as watch:
        yield watch


@pytest.fixture(autouse=True)
def token_stays_secret(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever goes wrong, the token is in no line of the log."""
    caplog.set_level(logging.DEBUG)
    for library in ("httpx", "httpcore", "hpack"):  # httpx is held back in the bot's log, too
        caplog.set_level(logging.WARNING, library)
    caplog.set_level(logging.INFO, "telegram")  # its DEBUG is never on
    yield
    assert SECRET not in caplog.text


async def served(server: TelegramServer, text: str = "/status") -> None:
    """Wait until a command is answered."""
    server.api.say(text)
    await server.api.until(lambda: f"You said {text}." in server.api.texts())


# -- The network


async def test_it_starts_without_a_network(
    server: TelegramServer, answers: Answers, tmp_path: Path, watch: LogWatch
) -> None:
    await server.stop()
    async with running(server, answers, tmp_path) as front:
        await watch.line("not connected: httpx.ConnectError")
        assert not front.front.health().connected
        assert front.front.health().last_seen is None
        assert "ConnectError" in front.front.health().error
        await server.start()
        await served(server)
        assert front.front.health().connected
        assert front.front.health().error == ""


async def test_an_outage_loses_no_command_and_repeats_none(
    server: TelegramServer, answers: Answers, tmp_path: Path, watch: LogWatch
) -> None:
    async with running(server, answers, tmp_path, pace=IMPATIENT) as front:
        await served(server, "/before")
        watch.lines.clear()
        await server.stop()
        for number in range(5):
            server.api.say(f"/log {number}")
        await watch.line("not connected")
        assert not front.front.health().connected
        await server.start()
        await server.api.posted(6)
        await served(server, "/after")
    assert answers.texts == ["/before", *(f"/log {number}" for number in range(5)), "/after"]


@pytest.mark.parametrize("method", ["getUpdates", "getMe", "deleteWebhook"])
async def test_a_bad_answer_does_not_end_it(tmp_path: Path, method: str) -> None:
    faults = [
        refusal(500, "Internal Server Error"),
        page(502),
        page(404, "<html>no such page</html>"),
        page(200, "<html>please log in</html>"),
        page(200, '{"error": "please log in"}'),
        page(403, "[]"),
        page(200, ""),
        refusal(400, "Bad Request: a bug of theirs"),
        retry_after(1),
        ANSWER_LOST,
        NOT_FOUND,
        UNAUTHORIZED,
    ]

    async def survives(fault: Answer, locks: Path) -> list[str]:
        answers = Answers()
        async with serving() as server, running(server, answers, locks):
            server.fail(method, fault)
            await served(server, "/one")
            await served(server, "/two")
        return answers.texts

    # All at once, because the library waits for a second after most of them.
    tasks = [survives(fault, tmp_path / str(number)) for number, fault in enumerate(faults)]
    assert await asyncio.gather(*tasks) == [["/one", "/two"]] * len(faults)


async def test_a_broken_connection_repeats_no_command_that_was_confirmed(
    server: TelegramServer, answers: Answers, tmp_path: Path
) -> None:
    async with running(server, answers, tmp_path):
        await served(server, "/one")
        server.fail("getUpdates", ANSWER_LOST)
        await served(server, "/two")
        await served(server, "/three")
    keys = [request.key for request in answers.requests]
    assert sorted(set(keys)) == sorted(keys)


# -- A line that is stuck


@pytest.mark.parametrize("method", ["getMe", "deleteWebhook", "getUpdates"])
async def test_a_silent_server_gets_a_new_line(
    server: TelegramServer, answers: Answers, tmp_path: Path, watch: LogWatch, method: str
) -> None:
    server.fail_always(method, SILENCE)
    async with running(server, answers, tmp_path, pace=IMPATIENT) as front:
        server.api.say("/status")
        await watch.line("not connected: no good answer for 2 s")
        assert "no good answer for 2 s" in front.front.health().error
        await TelegramChannel(bot=front.bot, chat_id=7).send(Message("Experiment #1"))  # goes out meanwhile
        server.heal()
        await server.api.posted(2)
    assert answers.texts == ["/status"]


async def test_a_line_that_goes_silent_gets_a_new_one(
    server: TelegramServer, answers: Answers, tmp_path: Path, watch: LogWatch
) -> None:
    async with running(server, answers, tmp_path, pace=IMPATIENT) as front:
        await served(server, "/one")
        await server.api.until(lambda: not server.api.waiting)  # by the next poll
        server.fail_always("getUpdates", SILENCE)
        watch.lines.clear()
        await served(server, "/two")  # by the poll that waited already
        server.api.say("/three")
        await watch.line("not connected")
        assert not front.front.health().connected
        server.heal()
        await server.api.posted(3)
        assert front.front.health().connected
    assert answers.texts == ["/one", "/two", "/three"]
    assert len(server.answered("getMe")) > 1


async def test_timed_out_polls_alone_get_a_new_line(
    server: TelegramServer, answers: Answers, tmp_path: Path, watch: LogWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.telegram.connection.READ_SECONDS", 0.5)
    async with running(server, answers, tmp_path, pace=replace(IMPATIENT, poll=0.2)):
        await served(server, "/one")
        server.fail_always("getUpdates", SILENCE)
        await watch.line("not connected: no good answer for 2 s: Timed out")
        server.heal()
        await served(server, "/two")


@pytest.mark.parametrize(
    "fault", [None, SILENCE, page(502), retry_after(30)], ids=["well", "silent", "502", "429"]
)
async def test_it_ends_promptly_in_any_state(
    server: TelegramServer, answers: Answers, tmp_path: Path, fault: Answer | None
) -> None:
    async with running(server, answers, tmp_path) as front:
        await served(server)
        if fault is not None:
            server.fail_always("getUpdates", fault)
            asked = len([call for call in server.calls if call.method == "getUpdates"])
            server.api.say("/more")  # ends the poll that waits
            await server.asked("getUpdates", asked + 1)
        async with asyncio.timeout(15):
            await front.stop()


async def test_it_ends_promptly_without_a_network(
    server: TelegramServer, answers: Answers, tmp_path: Path, watch: LogWatch
) -> None:
    async with running(server, answers, tmp_path, pace=replace(PACE, waits=(1000.0,))) as front:
        await server.stop()
        await watch.line("")
        async with asyncio.timeout(15):
            await front.stop()


# -- The token


async def test_a_token_that_is_refused_is_said_once_and_then_nothing_is_tried(
    server: TelegramServer, answers: Answers, tmp_path: Path, watch: LogWatch
) -> None:
    server.fail_always("*", UNAUTHORIZED)
    async with running(server, answers, tmp_path) as front:
        line = await watch.line("TELEGRAM_BOT_TOKEN")
        assert line == front.front.health().error
        assert line.startswith("Telegram does not accept TELEGRAM_BOT_TOKEN (401)")
        assert not front.front.health().connected
        assert len(server.answered("getMe")) == 3
        assert not front.task.done()
        assert watch.count("TELEGRAM_BOT_TOKEN") == 1


async def test_a_token_is_believed_in_until_it_is_refused_three_times_in_a_row(
    server: TelegramServer, answers: Answers, tmp_path: Path
) -> None:
    server.fail(
        "getMe", UNAUTHORIZED, UNAUTHORIZED, NOT_FOUND, UNAUTHORIZED, page(401), UNAUTHORIZED, NOT_FOUND
    )
    async with running(server, answers, tmp_path):
        await served(server)


async def test_a_token_that_is_revoked_later_is_noticed(
    server: TelegramServer, answers: Answers, tmp_path: Path, watch: LogWatch
) -> None:
    async with running(server, answers, tmp_path):
        await served(server)
        server.api.token = "4242:another"
        server.api.say("/more")  # ends the poll that waits
        await watch.line("TELEGRAM_BOT_TOKEN")


async def test_another_bot_on_this_machine_with_the_same_token_is_named(
    server: TelegramServer, answers: Answers, tmp_path: Path, watch: LogWatch
) -> None:
    async with running(server, answers, tmp_path) as first:
        await served(server, "/one")
        async with running(server, Answers(), tmp_path) as second:
            line = await watch.line("another bot on this machine (process ")
            assert second.front.health().error in line
            await TelegramChannel(bot=second.bot, chat_id=7).send(Message("Experiment #1"))
            await served(server, "/two")
            assert watch.count("another bot") == 1
            await first.stop()
            await served(server, "/three")
    assert answers.texts == ["/one", "/two"]


async def test_where_nothing_can_be_locked_it_goes_without(
    server: TelegramServer, answers: Answers, tmp_path: Path, watch: LogWatch
) -> None:
    (tmp_path / "file").touch()
    async with running(server, answers, tmp_path / "file"):
        await watch.line("cannot be locked: File exists")
        await served(server, "/one")
    assert answers.texts == ["/one"]


async def poll(server: TelegramServer) -> int:
    """Ask for updates as another program would, and return the status."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.base_url}/bot{TOKEN}/getUpdates", data={"timeout": "0"}) as response,
    ):
        return response.status


async def test_another_program_with_the_same_token_is_named_once(
    server: TelegramServer, answers: Answers, tmp_path: Path, watch: LogWatch
) -> None:
    async with running(server, answers, tmp_path) as front:
        await served(server, "/one")
        for command in ("/two", "/three"):
            await server.api.until(lambda: server.pending("getUpdates"))
            assert await poll(server) == 200
            await served(server, command)
        front.front._pulse.fail("no good answer for 120 s")  # which ends sooner
        await TelegramChannel(bot=front.bot, chat_id=7).send(Message("Experiment #1"))
        await served(server, "/four")
        health = front.front.health()
        assert (health.connected, health.error) == (True, CONFLICT)
    assert watch.count("another program") == 1
    assert [call.status for call in server.calls if call.status == 409] == [409, 409]


async def test_a_webhook_that_another_program_has_set_is_removed(
    server: TelegramServer, answers: Answers, tmp_path: Path, watch: LogWatch
) -> None:
    server.api.webhook = {"url": "https://elsewhere.example"}
    async with running(server, answers, tmp_path, pace=IMPATIENT):
        await served(server, "/one")
        server.api.webhook = {"url": "https://elsewhere.example"}
        server.api.say("/two")
        await watch.line("another program")
        await server.api.posted(2)
    assert answers.texts == ["/one", "/two"]


async def test_sending_needs_no_connection_of_the_front(server: TelegramServer) -> None:
    bot = make_bot(TOKEN, server.base_url)
    await TelegramChannel(bot=bot, chat_id=7).send(Message("Experiment #1"))
    assert [call.method for call in server.calls] == ["sendMessage"]
    await bot.request.shutdown()
