"""Commands that come from Telegram, and their answers."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from bot.commands.access import Request, Sender
from bot.commands.table import VISIBLE
from notifiers.message import Message, Reply
from tests.bot.telegram_front import GROUP, PACE, Answers, Running, running, tasks_at_work
from tests.servers.telegram_api import DATE
from tests.servers.telegram_server import TelegramServer, page, refusal, retry_after

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")


async def test_a_command_is_asked_and_its_answer_is_a_reply(
    server: TelegramServer, answers: Answers, front: Running
) -> None:
    update = server.api.say("/status now", user=99)
    [post] = await server.api.posted()
    message = update["message"]["message_id"]
    assert answers.requests == [
        Request(
            sender=Sender("telegram", user="99", place="7", name="Ada No. 99"),
            text="/status now",
            key=f"telegram:4242:{update['update_id']}",
            sent_at=DATE,
            message_id=str(message),
        )
    ]
    assert (post.text, post.reply_to, post.html) == ("You said /status now.", message, True)
    assert tasks_at_work()
    health = front.front.health()
    assert health.connected
    assert health.last_seen is not None
    assert health.error == ""


async def test_what_waited_while_the_bot_was_down_is_asked_in_order(
    server: TelegramServer, answers: Answers, tmp_path: Path
) -> None:
    for number in range(30):
        server.api.say(f"/log {number}")
    async with running(server, answers, tmp_path):
        await server.api.posted(30)
    assert answers.texts == [f"/log {number}" for number in range(30)]
    assert [request.sent_at for request in answers.requests] == [DATE] * 30
    assert server.api.texts() == [f"You said /log {number}." for number in range(30)]


async def test_what_was_answered_is_not_asked_for_again_by_the_next_bot(
    server: TelegramServer, answers: Answers, tmp_path: Path
) -> None:
    server.api.say("/pause")
    async with running(server, answers, tmp_path):
        await server.api.posted()
    assert server.api.waiting == 0
    server.api.say("/resume")
    async with running(server, answers, tmp_path):
        await server.api.posted(2)
    assert answers.texts == ["/pause", "/resume"]


async def test_an_update_that_comes_twice_has_the_same_key(
    server: TelegramServer, answers: Answers, front: Running
) -> None:
    update = server.api.say("/stop")
    server.api.say("/stop")
    await server.api.posted(2)
    await server.api.until(lambda: server.pending("getUpdates"))
    server.api.deliver(update)
    server.api.say("/status")
    await server.api.posted(3)
    first, second, again, _ = (request.key for request in answers.asked)
    assert first == again != second
    assert server.api.texts() == ["You said /stop."] * 2 + ["You said /status."]


@pytest.mark.parametrize("text", ["/status", "/status@lab_bot", "/STATUS@Lab_Bot\tnow", "hello", "/"])
async def test_in_private_everything_is_asked(
    server: TelegramServer, answers: Answers, front: Running, text: str
) -> None:
    server.api.say(text)
    await server.api.posted()
    [asked] = answers.texts
    assert asked == text.replace("@lab_bot", "").replace("@Lab_Bot", "")


async def test_in_a_group_only_commands_for_us_are_asked(
    server: TelegramServer, answers: Answers, front: Running
) -> None:
    for text in ("hello", "what about /stop?", "/stop@other_bot", "@lab_bot /stop"):
        server.api.say(text, chat=GROUP)
    server.api.say("/stop@other_bot")
    server.api.say("/best@lab_bot", chat=GROUP, message_thread_id=5, is_topic_message=True)
    [post] = await server.api.posted()
    assert answers.texts == ["/best"]
    assert answers.requests[0].sender.place == str(GROUP)
    assert (post.chat, post.topic) == (GROUP, 5)


async def test_what_is_no_command_is_passed_over(
    server: TelegramServer, answers: Answers, front: Running
) -> None:
    message = server.api.say("/old")["message"]
    server.api.update(edited_message={**message, "edit_date": DATE + 9, "text": "/stop"})
    picture = {name: value for name, value in message.items() if name != "text"}
    server.api.update(channel_post={**picture, "text": "/stop"})
    hidden = {"type": "hidden_user", "sender_user_name": "Bob", "date": DATE - 60}
    server.api.say("/stop", forward_origin=hidden)
    server.api.say("/stop", forward_origin={"type": "user", "sender_user": message["from"], "date": DATE})
    server.api.say("/stop", via_bot={"id": 99, "is_bot": True, "first_name": "Gif", "username": "gif"})
    server.api.update(message={**picture, "caption": "/stop", "forward_origin": hidden})
    server.api.update(edited_message={**picture, "edit_date": DATE + 9, "caption": "/stop"})
    server.api.update(message={**picture, "new_chat_title": "The lab"})
    server.api.update(something_new={"id": 1})
    server.api.say("/new")
    await server.api.posted(2)
    assert answers.texts == ["/old", "/new"]


@pytest.mark.parametrize("file", ["photo", "document"])
async def test_a_caption_is_what_was_said(
    server: TelegramServer, answers: Answers, front: Running, file: str
) -> None:
    one = {"file_id": "f", "file_unique_id": "u", "width": 9, "height": 9}
    for chat, caption in ((7, "/idea DEPTH 9"), (7, "look"), (GROUP, "look"), (GROUP, "/log@lab_bot 3")):
        message = server.api.say("", chat=chat)["message"]
        shown = {name: value for name, value in message.items() if name != "text"}
        server.api.update(message={**shown, "caption": caption, file: [one] if file == "photo" else one})
    await server.api.posted(3)
    assert sorted(answers.texts) == ["/idea DEPTH 9", "/log 3", "look"]


async def test_a_group_admin_without_a_name_is_the_group(
    server: TelegramServer, answers: Answers, front: Running
) -> None:
    message = server.api.say("/one", chat=GROUP)["message"]
    nameless = {name: value for name, value in message.items() if name != "from"}
    server.api.update(
        message={
            **nameless,
            "text": "/two",
            "sender_chat": {"id": GROUP, "type": "supergroup", "title": "Lab"},
            # As Telegram fills it in: the same user for the nameless of all groups.
            "from": {
                "id": 1087968824,
                "is_bot": True,
                "first_name": "Group",
                "username": "GroupAnonymousBot",
            },
        }
    )
    server.api.update(message={**nameless, "text": "/three"})
    server.api.say("/four", chat=GROUP)
    await server.api.posted(3)
    assert answers.texts == ["/one", "/two", "/four"]
    assert answers.requests[1].sender == Sender("telegram", user=str(GROUP), place=str(GROUP), name="Lab")


async def test_where_nothing_is_to_be_said_nothing_is_said(
    server: TelegramServer, answers: Answers, front: Running
) -> None:
    answers.by_text["/stranger"] = None
    server.api.say("/stranger", chat=8)
    server.api.say("/friend", chat=8)
    await server.api.posted()
    assert answers.texts == ["/stranger", "/friend"]
    assert server.api.texts(8) == ["You said /friend."]


async def test_a_slow_command_delays_nobody_for_long_and_order_is_kept(
    server: TelegramServer, answers: Answers, tmp_path: Path
) -> None:
    answers.gates["/plot"] = asyncio.Event()
    async with running(server, answers, tmp_path, pace=replace(PACE, head_start=0.2)):
        for text in ("/plot", "/pause", "/resume", "/status"):
            server.api.say(text)
        server.api.say("/elsewhere", chat=8)
        await server.api.posted(4)
        assert answers.texts[0] == "/plot"
        assert [text for text in answers.texts if text != "/elsewhere"] == [
            "/plot",
            "/pause",
            "/resume",
            "/status",
        ]
        answers.gates["/plot"].set()
        posts = await server.api.posted(5)
    assert posts[-1].text == "You said /plot."


async def test_quick_commands_of_a_chat_wait_for_each_other(
    server: TelegramServer, answers: Answers, tmp_path: Path
) -> None:
    answers.gates["/pause"] = asyncio.Event()
    async with running(server, answers, tmp_path, pace=replace(PACE, head_start=1000.0)):
        server.api.say("/pause")
        server.api.say("/resume")
        server.api.say("/elsewhere", chat=8)
        await server.api.posted()
        assert set(answers.texts) == {"/pause", "/elsewhere"}
        answers.gates["/pause"].set()
        await server.api.posted(3)
    assert server.api.texts() == ["You said /pause.", "You said /resume."]


async def test_an_answer_that_fails_takes_nothing_along(
    server: TelegramServer, answers: Answers, front: Running, caplog: pytest.LogCaptureFixture
) -> None:
    answers.fails_on = "/broken"
    server.api.say("/broken")
    server.api.say("/status")
    await server.api.posted()
    assert server.api.texts() == ["You said /status."]
    assert "ZeroDivisionError" in caplog.text


async def test_answers_keep_to_the_limits_and_escape(
    server: TelegramServer, answers: Answers, front: Running
) -> None:
    answers.by_text["/log 3"] = Reply(Message("<log> & more", "<step>\n" * 10_000))
    answers.by_text["/results"] = Reply(Message("&lt;", "a\t<b>\n" * 400))
    server.api.say("/log 3")
    server.api.say("/results")
    first, second = await server.api.posted(2)
    assert first.text == "<log> & more"
    assert first.file is not None
    assert second.text.startswith("&lt;\na\t<b>\n")


async def test_an_answer_is_tried_again_while_telegram_is_in_trouble(
    server: TelegramServer, answers: Answers, front: Running
) -> None:
    kicked = refusal(403, "Forbidden: bot was kicked from the supergroup chat")
    server.fail("sendMessage", page(502), retry_after(1), refusal(500, "Internal Server Error"), kicked)
    server.api.say("/status")
    await server.api.posted()
    assert server.api.texts() == ["You said /status."]
    assert answers.texts == ["/status"]


async def test_an_answer_that_is_refused_or_never_taken_is_given_up(
    server: TelegramServer, answers: Answers, front: Running, caplog: pytest.LogCaptureFixture
) -> None:
    server.fail("sendMessage", refusal(400, "Bad Request: MESSAGE_NOT_SUPPORTED"))
    server.fail("sendMessage", *[page(502)] * 6)
    server.api.say("/one")
    server.api.say("/two")
    server.api.say("/three")
    await server.api.posted()
    assert server.api.texts() == ["You said /three."]
    assert "the answer to /one in 7 was not shown: Message_not_supported" in caplog.text
    assert "the answer to /two in 7 was not shown" in caplog.text


async def test_the_menu_is_made_from_the_table(server: TelegramServer, front: Running) -> None:
    await server.called("setMyCommands")
    assert [command["command"] for command in server.api.commands] == [command.name for command in VISIBLE]
    assert all(command["description"] for command in server.api.commands)


async def test_a_menu_that_is_refused_stops_nothing(
    server: TelegramServer, answers: Answers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server.fail_always("setMyCommands", refusal(400, "Bad Request: BOT_COMMAND_INVALID"))
    async with running(server, answers, tmp_path):
        await server.called("setMyCommands")
        server.api.say("/status")
        await server.api.posted()
    assert "the menu of commands could not be set: Bot_command_invalid" in caplog.text
