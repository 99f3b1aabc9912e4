"""Groups that move, and topics."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.chat_checks import check_telegram
from notifiers.channels.telegram import TelegramChannel
from notifiers.channels.telegram_places import Places
from notifiers.channels.telegram_wire import make_bot
from tests.bot.telegram_front import CARD, GROUP, Answers, Running, running
from tests.servers.telegram_api import DATE, TOKEN, Chat
from tests.servers.telegram_server import TelegramServer

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")


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
