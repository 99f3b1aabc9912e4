"""What is shown while a command takes long."""

from __future__ import annotations

import asyncio

import pytest

from tests.bot.idle_clock import waited
from tests.bot.telegram_front import GROUP, STRANGER, Answers, Running, card
from tests.servers.telegram_server import Answer, TelegramServer, page, refusal, retry_after

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("/plot", "upload_photo"),
        ("/bundle", "upload_document"),
        ("/Summary", "typing"),
        ("/idea DEPTH 9", "typing"),
    ],
)
async def test_a_long_command_shows_that_it_is_at_work(
    server: TelegramServer, answers: Answers, front: Running, text: str, action: str
) -> None:
    answers.gates[text] = asyncio.Event()
    began = waited()
    server.api.say(text, chat=GROUP, message_thread_id=5, is_topic_message=True)
    await server.api.until(lambda: server.api.actions)
    if text != "/idea DEPTH 9":
        assert waited() - began < 1
    await server.api.until(lambda: len(server.api.actions) == 4)
    assert 3 * 4 < waited() - began < 5 * 5
    answers.gates[text].set()
    await server.api.posted()
    await asyncio.sleep(60)  # of the time that goes by at once
    assert server.api.actions == [(GROUP, 5, action)] * len(server.api.actions)
    assert len(server.api.actions) <= 5


async def test_a_quick_command_and_a_stranger_are_shown_nothing(
    server: TelegramServer, answers: Answers, front: Running
) -> None:
    answers.by_text["/plot"] = None
    answers.gates["/plot"] = asyncio.Event()
    server.api.say("/plot", user=int(STRANGER), chat=8)
    server.api.say("/status")
    await server.api.posted()
    await asyncio.sleep(60)
    answers.gates["/plot"].set()
    assert server.api.actions == []


@pytest.mark.parametrize(
    "fault",
    [
        retry_after(30),
        page(502),
        refusal(400, "Bad Request: chat not found"),
        refusal(403, "Forbidden: kicked"),
    ],
    ids=["429", "502", "400", "403"],
)
async def test_what_cannot_be_shown_meanwhile_fails_no_command(
    server: TelegramServer, answers: Answers, front: Running, fault: Answer
) -> None:
    server.fail_always("sendChatAction", fault)
    answers.gates["/plot"] = asyncio.Event()
    server.api.say("/plot")
    await server.called("sendChatAction", 2)
    answers.gates["/plot"].set()
    await server.api.posted()
    assert server.api.texts() == ["You said /plot."]


async def test_a_press_of_something_long_shows_that_it_is_at_work(
    server: TelegramServer, answers: Answers, front: Running
) -> None:
    answers.gates["/plot"] = asyncio.Event()
    post = await card(front, server)
    server.api.press(post, data="/plot")
    await server.api.until(lambda: server.api.actions)
    answers.gates["/plot"].set()
    await server.api.posted(2)
