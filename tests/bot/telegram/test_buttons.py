"""Presses of buttons."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from bot.commands.access import Sender
from bot.telegram.connection import MOST_UPDATES
from notifiers.channels.telegram import TelegramChannel
from notifiers.message import Attachment, Message, Reply
from tests.bot.telegram_front import CARD, GROUP, Answers, Running, card, caught_up, running
from tests.servers.telegram_api import DATE, Post
from tests.servers.telegram_server import TelegramServer, page

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")


async def test_a_press_means_its_command_and_is_acknowledged_at_once(
    server: TelegramServer, answers: Answers, front: Running
) -> None:
    answers.gates["/stop"] = asyncio.Event()
    post = await card(front, server)
    began = time.time()
    query = server.api.press(post, user=99)
    await server.api.until(lambda: query in server.api.answered)
    assert server.api.texts() == ["the card"]  # the command is still at work
    answers.gates["/stop"].set()
    _, reply = await server.api.posted(2)
    [request] = answers.requests
    assert request.sender == Sender("telegram", user="99", place="7", name="Ada No. 99")
    assert (request.text, request.message_id) == ("/stop", str(post.id))
    assert request.sent_at >= began
    assert (reply.text, reply.reply_to) == ("You said /stop.", post.id)


async def test_a_press_is_acknowledged_even_while_another_command_is_at_work(
    server: TelegramServer, answers: Answers, front: Running
) -> None:
    answers.gates["/slow"] = asyncio.Event()
    post = await card(front, server)
    server.api.say("/slow")
    query = server.api.press(post)
    await server.api.until(lambda: query in server.api.answered)
    answers.gates["/slow"].set()
    await server.api.posted(3)
    assert answers.texts == ["/slow", "/stop"]


async def test_an_answer_can_take_the_place_of_what_was_pressed(
    server: TelegramServer, answers: Answers, front: Running
) -> None:
    answers.by_text["/stop"] = Reply(Message("Stopped by Ada."), replaces=True)
    post = await card(front, server)
    server.api.press(post)
    await server.api.until(lambda: post.edits)
    assert (post.text, post.buttons) == ("Stopped by Ada.", [])
    server.api.press(post, data="/stop")  # once more, by somebody who still saw the button: not modified
    server.api.say("/status")
    await server.api.posted(2)
    assert server.api.texts() == ["Stopped by Ada.", "You said /status."]


async def test_pictures_come_after_what_takes_the_place(
    server: TelegramServer, answers: Answers, front: Running
) -> None:
    log = Attachment("run.log", b"step 1")
    answers.by_text["/stop"] = Reply(Message("Stopped.", attachments=(log,)), replaces=True)
    post = await card(front, server)
    server.api.press(post)
    _, second = await server.api.posted(2)
    assert (post.text, second.file) == ("Stopped.", ("run.log", b"step 1"))


async def test_where_the_pressed_message_is_gone_the_answer_is_a_new_one(
    server: TelegramServer, answers: Answers, front: Running
) -> None:
    answers.by_text["/stop"] = Reply(Message("Stopped."), replaces=True)
    post = await card(front, server)
    server.api.deleted.add(post.id)
    server.api.press(post)
    _, reply = await server.api.posted(2)
    assert (reply.text, reply.reply_to) == ("Stopped.", 0)


@pytest.mark.parametrize(
    ("reply", "alert"),
    [
        (Reply(Message("You have read-only access."), refused=True), True),
        (Reply(Message("Run a pauses after this."), brief=True, for_all=True), False),
        (Reply(Message("x" * 200), brief=True), False),
    ],
    ids=["refused", "brief", "long"],
)
async def test_a_press_is_answered_by_its_acknowledgement_where_that_is_enough(
    server: TelegramServer, answers: Answers, front: Running, reply: Reply, alert: bool
) -> None:
    await caught_up(server)
    answers.by_text["/stop"] = reply
    post = await card(front, server)
    query = server.api.press(post)
    server.api.say("/status")
    await server.api.posted(2)
    assert server.api.texts() == ["the card", "You said /status."]
    assert server.api.answered == {query: reply.message.text}
    assert server.api.alerts == ({query} if alert else set())


@pytest.mark.parametrize(
    "reply",
    [
        Reply(Message("x" * 201), refused=True),
        Reply(Message("Done.", "a table"), brief=True),
        Reply(Message("Done."), for_all=True),
    ],
    ids=["too long", "block", "not brief"],
)
async def test_what_says_more_than_an_acknowledgement_holds_is_a_message(
    server: TelegramServer, answers: Answers, front: Running, reply: Reply
) -> None:
    await caught_up(server)
    answers.by_text["/stop"] = reply
    post = await card(front, server)
    query = server.api.press(post)
    _, answer = await server.api.posted(2)
    assert answer.text.startswith(reply.message.text)
    assert answer.reply_to == post.id
    assert server.api.answered == {query: ""}


async def test_a_brief_answer_that_takes_the_place_of_what_was_pressed_does_so(
    server: TelegramServer, answers: Answers, front: Running
) -> None:
    await caught_up(server)
    answers.by_text["/stop"] = Reply(Message("Stopped."), brief=True, replaces=True)
    post = await card(front, server)
    query = server.api.press(post)
    await server.api.until(lambda: post.edits)
    assert server.api.texts() == ["Stopped."]
    assert server.api.answered == {query: "Stopped."}


@pytest.mark.parametrize("trouble", ["refused", "slow"])
async def test_what_an_acknowledgement_could_not_say_is_a_message(
    server: TelegramServer, answers: Answers, front: Running, trouble: str
) -> None:
    await caught_up(server)
    answers.by_text["/stop"] = Reply(Message("Stopped."), brief=True)
    post = await card(front, server)
    if trouble == "refused":
        server.fail("answerCallbackQuery", page(502))
        server.api.press(post)
    else:
        answers.gates["/stop"] = asyncio.Event()
        query = server.api.press(post)
        await server.api.until(lambda: query in server.api.answered)
        assert server.api.answered == {query: ""}
        answers.gates["/stop"].set()
    await server.api.posted(2)
    assert server.api.texts() == ["the card", "Stopped."]


async def test_a_stranger_who_presses_sees_that_nothing_happens(
    server: TelegramServer, answers: Answers, front: Running
) -> None:
    await caught_up(server)
    answers.by_text["/stop"] = None
    query = server.api.press(await card(front, server), user=666)
    await server.api.until(lambda: query in server.api.answered)
    assert server.api.answered == {query: ""}
    assert server.api.texts() == ["the card"]


async def test_a_press_that_waited_for_the_bot_is_not_obeyed_before_telegram_said_how_old_it_is(
    server: TelegramServer, answers: Answers, tmp_path: Path
) -> None:
    answers.by_text["/stop"] = Reply(Message("That button is too old."), refused=True)
    server.api.posts.append(Post(55, 7, "the card", keyboard=[[{"text": "Stop", "callback_data": "/stop"}]]))
    for _ in range(MOST_UPDATES):  # so that the press comes with the second poll
        server.api.say("hello", chat=GROUP)
    server.api.press(server.api.posts[0], old=True)
    async with running(server, answers, tmp_path):
        await server.api.posted(2)
    assert [request.sent_at for request in answers.requests] == [DATE + 60]
    assert server.api.answered == {}


async def test_a_press_from_long_ago_says_so(
    server: TelegramServer, answers: Answers, front: Running
) -> None:
    post = await card(front, server)
    server.api.press(post, old=True)
    await server.api.posted(2)
    [request] = answers.requests
    assert request.sent_at == DATE + 60  # when the card was last edited: the press was not before
    assert server.api.answered == {}


async def test_a_press_that_cannot_be_acknowledged_still_counts(
    server: TelegramServer, answers: Answers, front: Running
) -> None:
    server.fail("answerCallbackQuery", page(502))
    post = await card(front, server)
    server.api.press(post)
    await server.api.posted(2)
    [request] = answers.requests
    assert request.sent_at > DATE + 60


async def test_presses_in_topics_and_on_messages_out_of_reach(
    server: TelegramServer, answers: Answers, front: Running
) -> None:
    channel = TelegramChannel(bot=front.bot, chat_id=GROUP, topic_id=5)
    await channel.send(CARD)
    [post] = server.api.posts
    server.api.press(post)
    _, reply = await server.api.posted(2)
    assert (reply.chat, reply.topic, reply.reply_to) == (GROUP, 5, post.id)
    far = {"message_id": post.id, "date": 0, "chat": {"id": GROUP, "type": "supergroup"}}
    press = {"id": "q", "from": {"id": 7, "is_bot": False, "first_name": "Ada"}, "chat_instance": "1"}
    server.api.update(callback_query={**press, "message": far, "data": "/pause"})
    server.api.update(callback_query={**press, "inline_message_id": "x", "data": "/pause"})
    server.api.update(callback_query={**press, "message": far, "game_short_name": "chess"})
    server.api.say("/status", chat=GROUP)
    await server.api.posted(4)
    assert answers.texts == ["/stop", "/pause", "/status"]
    assert [request.sender.channel for request in answers.requests] == [
        channel.name,
        *[f"telegram:{GROUP}"] * 2,
    ]
