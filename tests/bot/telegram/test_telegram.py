from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.chat_checks import check_telegram
from bot.commands.access import Request, Sender
from bot.commands.table import COMMANDS
from bot.telegram.connection import MOST_UPDATES
from notifiers.channels.telegram import TelegramChannel
from notifiers.channels.telegram_places import Places
from notifiers.channels.telegram_wire import make_bot
from notifiers.message import Attachment, Button, Message, Reply
from tests.bot.idle_clock import waited
from tests.bot.telegram_front import STRANGER, Answers, Running, running, tasks_at_work
from tests.servers.telegram_api import DATE, TOKEN, Chat, Post
from tests.servers.telegram_server import Answer, TelegramServer, page, refusal, retry_after, serving

GROUP = -100
CARD = Message("the card", buttons=((Button("Stop", "/stop"),),))


@pytest.fixture(autouse=True)
async def nothing_is_left_behind() -> AsyncIterator[None]:
    yield
    assert not tasks_at_work()


@pytest.fixture
async def server() -> AsyncIterator[TelegramServer]:
    async with serving() as server:
        server.api.chats[GROUP] = Chat(GROUP, "supergroup", topics={5})
        server.api.chats[8] = Chat(8)
        yield server


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
async def front(server: TelegramServer, answers: Answers, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(server, answers, tmp_path) as front:
        yield front


async def card(front: Running, server: TelegramServer, message: Message = CARD) -> Post:
    """A message of ours with a button."""
    await TelegramChannel(bot=front.bot, chat_id=7).send(message)
    return server.api.posts[-1]


# -- Commands


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


async def test_a_group_that_becomes_a_supergroup_is_the_place_that_it_was(
    server: TelegramServer, answers: Answers, front: Running
) -> None:
    server.api.chats |= {-5: Chat(-5, "group", moved_to=-1005), -1005: Chat(-1005, "supergroup")}
    service = {"message_id": 901, "date": DATE, "chat": {"id": -1005, "type": "supergroup"}}
    server.api.update(message={**service, "migrate_from_chat_id": -5})
    server.api.say("/status", chat=-1005)
    [post] = await server.api.posted()
    assert answers.requests[0].sender.place == "-5"
    assert post.chat == -1005
    server.api.press(post, data="/pause")
    await server.api.posted(2)
    assert [request.sender.channel for request in answers.requests] == ["telegram:-5"] * 2


async def test_after_a_restart_a_look_at_the_chats_tells_which_group_has_moved(
    server: TelegramServer, answers: Answers, tmp_path: Path
) -> None:
    server.api.chats |= {-5: Chat(-5, "group", moved_to=-1005), -1005: Chat(-1005, "supergroup")}
    places, bot = Places(), make_bot(TOKEN, server.base_url)
    channels = [TelegramChannel(bot=bot, chat_id=chat, places=places) for chat in (-5, -404)]
    async with running(server, answers, tmp_path, places=places):
        await check_telegram(bot, channels, "TELEGRAM_CHAT_IDS")
        server.api.say("/status", chat=-1005)
        [post] = await server.api.posted()
    assert answers.requests[0].sender.place == "-5"
    assert post.chat == -1005
    await bot.request.shutdown()


async def test_who_may_steer_in_a_topic_may_do_so_where_its_messages_go_when_it_is_deleted(
    server: TelegramServer, answers: Answers, tmp_path: Path
) -> None:
    bot = make_bot(TOKEN, server.base_url)
    server.api.chats[GROUP].topics.clear()

    async def steer(places: Places, text: str) -> str:
        channel = TelegramChannel(bot=bot, chat_id=GROUP, topic_id=5, places=places)
        async with running(server, answers, tmp_path, places=places):
            await check_telegram(bot, [channel], "TELEGRAM_CHAT_IDS")
            assert places.is_lost(GROUP, 5)
            server.api.say(text, chat=GROUP)
            await server.api.until(lambda: text in answers.texts)
            assert await channel.send(CARD)
            query = server.api.press(server.api.posts[-1])
            await server.api.until(lambda: query in server.api.answered)
        return answers.requests[-1].sender.channel

    places = Places([f"{GROUP}/5"])
    assert await steer(places, "/one") == f"telegram:{GROUP}:5"
    assert await steer(Places([f"{GROUP}/5"]), "/two") == f"telegram:{GROUP}:5"  # restarted
    assert await steer(Places([str(GROUP), f"{GROUP}/5"]), "/three") == f"telegram:{GROUP}"
    assert {post.topic for post in server.api.posts} == {0}
    await bot.request.shutdown()


async def test_a_topic_of_a_group_that_is_listed_whole_is_a_part_of_it(
    server: TelegramServer, answers: Answers, tmp_path: Path
) -> None:
    places = Places([str(GROUP)])
    async with running(server, answers, tmp_path, places=places):
        message = server.api.say("/idea", chat=GROUP, message_thread_id=5, is_topic_message=True)["message"]
        [post] = await server.api.posted()
    [request] = answers.requests
    assert (post.topic, post.reply_to) == (5, message["message_id"])
    assert (request.sender.channel, request.message_id) == (f"telegram:{GROUP}", f"5/{post.reply_to}")


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
    async with running(server, answers, tmp_path, head_start=0.2):
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
    async with running(server, answers, tmp_path, head_start=1000.0):
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


# -- What is shown meanwhile


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


# -- Buttons


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


async def caught_up(server: TelegramServer) -> None:
    """Wait for a poll after the first one: what comes from now on has not waited for the bot."""
    server.api.say("/hello")
    await server.api.posted()
    server.api.posts.clear()


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


# -- The menu


async def test_the_menu_is_made_from_the_table(server: TelegramServer, front: Running) -> None:
    await server.called("setMyCommands")
    assert [command["command"] for command in server.api.commands] == [command.name for command in COMMANDS]
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
