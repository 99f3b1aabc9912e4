from __future__ import annotations

import asyncio
import json
import logging
import struct
import zlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from telegram.ext import ExtBot

from notifiers.channels.telegram import (
    CAPTION_UNITS,
    UPLOAD_TRIES,
    ChatClosedError,
    ForumChannel,
    TelegramChannel,
    _keyboard,
)
from notifiers.channels.telegram_wire import Wire, make_bot
from notifiers.message import (
    Attachment,
    Button,
    ChannelError,
    GoneError,
    Message,
    RateLimitedError,
    RefusedError,
    UnreachableError,
)
from tests.servers.telegram_api import TOKEN, Chat
from tests.servers.telegram_rules import check_keyboard
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

BUTTONS = ((Button("Diff", "/diff 3"), Button("Log", "/log 3")), (Button("Pause", "/pause"),))


def png(width: int = 640, height: int = 480, weight: int = 0) -> bytes:
    """As much of a picture as the server looks at, `weight` bytes heavier than it needs to be."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\r" + head + struct.pack(">I", zlib.crc32(head)) + bytes(weight)


CHART = Attachment("chart.png", png(), alt="the progress")


@pytest.fixture
async def server() -> AsyncIterator[TelegramServer]:
    async with serving() as server:
        yield server


@pytest.fixture
async def bot(server: TelegramServer) -> AsyncIterator[ExtBot[None]]:
    bot = make_bot(TOKEN, server.base_url)
    yield bot
    await bot.request.shutdown()


@pytest.fixture
def channel(bot: ExtBot[None]) -> TelegramChannel:
    return TelegramChannel(bot=bot, chat_id=7)


# -- What people see


async def test_a_message_with_everything(server: TelegramServer, channel: TelegramChannel) -> None:
    card = await channel.send(Message("the card"))
    sent = await channel.send(
        Message("a < b & <b>\nhttps://example.org", "x\t<1>", buttons=BUTTONS, silent=True), reply_to=card
    )
    post = server.api.posts[-1]
    assert sent == str(post.id)
    assert post.text == "a < b & <b>\nhttps://example.org\nx\t<1>"
    assert post.buttons == [["/diff 3", "/log 3"], ["/pause"]]
    assert (post.html, post.preview, post.silent, post.reply_to) == (True, False, True, int(card))
    assert not server.api.posts[0].silent


async def test_its_name_tells_chat_and_topic(bot: ExtBot[None]) -> None:
    assert TelegramChannel(bot=bot, chat_id=-1001234).name == "telegram:-1001234"
    assert TelegramChannel(bot=bot, chat_id=-1001234, topic_id=5).name == "telegram:-1001234:5"


async def test_labels_are_shown_whatever_they_are(server: TelegramServer, channel: TelegramChannel) -> None:
    labels = ("", " \n", "x" * 500, "<b>\ud800", "😀" * 100)
    await channel.send(Message("pick", buttons=(tuple(Button(label, "/status") for label in labels), ())))
    [[empty, blank, *_]] = server.api.posts[0].keyboard
    assert empty["text"] == blank["text"] == "/status"


@given(st.lists(st.lists(st.tuples(st.text(st.characters()), st.text(min_size=1, max_size=16)))))
def test_any_keyboard_is_accepted(rows: list[list[tuple[str, str]]]) -> None:
    buttons = tuple(tuple(Button(label, f"/{command}") for label, command in row) for row in rows)
    keyboard = _keyboard(Message("pick", buttons=buttons))
    shown = check_keyboard(keyboard.to_json() if keyboard else None)
    assert [len(row) for row in shown] == [len(row) for row in rows if row]


async def test_a_picture_carries_a_short_text(server: TelegramServer, channel: TelegramChannel) -> None:
    sent = await channel.send(Message("The night", "a < b", buttons=BUTTONS, attachments=(CHART,)))
    [post] = server.api.posts
    assert (sent, post.photo, post.text) == (str(post.id), True, "The night\na < b")
    assert post.file == ("chart.png", CHART.content)
    assert post.buttons[0] == ["/diff 3", "/log 3"]


async def test_a_long_text_goes_before_its_picture(server: TelegramServer, channel: TelegramChannel) -> None:
    text = "x" * (CAPTION_UNITS + 1)
    sent = await channel.send(Message(text, buttons=BUTTONS, attachments=(CHART,)), reply_to="1")
    first, second = server.api.posts
    assert (first.text, first.photo, second.text, second.photo) == (text, False, "the progress", True)
    assert (sent, first.reply_to, second.reply_to) == (str(first.id), 1, 0)
    assert (bool(first.buttons), bool(second.buttons)) == (True, False)
    assert (first.silent, second.silent) == (False, True)  # one sound for one message


async def test_a_long_log_goes_as_a_file(server: TelegramServer, channel: TelegramChannel) -> None:
    await channel.send(Message("The log of #3", "<step>\n" * 5000))
    [post] = server.api.posts
    assert (post.text, post.file) == ("The log of #3", ("output.txt", b"<step>\n" * 5000))


async def test_topics(server: TelegramServer, bot: ExtBot[None]) -> None:
    server.api.chats[-100] = Chat(-100, "supergroup", topics={5})
    channel = TelegramChannel(bot=bot, chat_id=-100, topic_id=5)
    await channel.send(Message("one", attachments=(CHART,)))
    server.api.chats[-100].topics.clear()  # somebody deletes it
    await channel.send(Message("two"))
    await channel.send(Message("three"))
    assert [(post.text, post.topic) for post in server.api.posts] == [("one", 5), ("two", 0), ("three", 0)]
    with pytest.raises(RefusedError, match="thread not found"):
        await channel.check()


async def test_an_answer_goes_where_the_message_is_whatever_topic_the_channel_has(
    server: TelegramServer, bot: ExtBot[None]
) -> None:
    server.api.chats[-100] = Chat(-100, "supergroup", topics={5, 6})
    channel = TelegramChannel(bot=bot, chat_id=-100)
    first = await channel.send(Message("one", attachments=(CHART,)), reply_to="5/")
    second = await channel.send(Message("two"), reply_to=first)
    await channel.edit(second, Message("more"))
    await channel.pin(second)
    plain = await channel.send(Message("three"))
    one, two, three = server.api.posts
    assert [(post.topic, post.reply_to) for post in (one, two, three)] == [(5, 0), (5, one.id), (0, 0)]
    assert (first, second, plain) == (f"5/{one.id}", f"5/{two.id}", str(three.id))
    assert (two.text, two.pinned) == ("more", True)
    server.api.chats[-100].topics.remove(5)
    assert await channel.send(Message("four"), reply_to=second) == str(server.api.posts[-1].id)
    await channel.send(Message("five"), reply_to="6/")
    assert [post.topic for post in server.api.posts[3:]] == [0, 6]


async def test_a_closed_topic_takes_nothing_and_its_messages_are_not_given_up(
    server: TelegramServer, bot: ExtBot[None]
) -> None:
    server.api.chats[-100] = forum = Chat(-100, "supergroup", topics={5})
    channel = TelegramChannel(bot=bot, chat_id=-100, topic_id=5)
    card = await channel.send(Message("one"))
    forum.closed.add(5)
    with pytest.raises(ChatClosedError, match=r"(?i)topic_closed"):
        await channel.send(Message("two"))
    await channel.edit(card, Message("news"))
    forum.closed.clear()
    await channel.edit(card, Message("more news"))
    assert server.api.texts(-100) == ["more news"]


async def test_a_group_makes_and_renames_topics_where_it_may(
    server: TelegramServer, bot: ExtBot[None]
) -> None:
    server.api.chats[-100] = forum = Chat(-100, "supergroup", forum=True, may_manage=True)
    channel = ForumChannel(bot=bot, chat_id=-100)
    topic = await channel.open_topic("mar12")
    card = await channel.send(Message("one"), reply_to=topic)
    [post] = server.api.posts
    assert (topic, card) == (f"{post.topic}/", f"{post.topic}/{post.id}")
    for _ in range(2):  # the second changes nothing
        await channel.rename_topic(topic, "wide" * 100)
    assert forum.titles == {post.topic: ("wide" * 100)[:128]}
    forum.closed.add(post.topic)
    await channel.send(Message("two"), reply_to=card)
    forum.may_manage = False
    assert await channel.send(Message("three"), reply_to=card) == str(server.api.posts[-1].id)
    forum.closed.clear()
    await channel.send(Message("four"), reply_to=card)
    forum.topics.clear()
    await channel.send(Message("five"), reply_to=card)
    assert [each.topic for each in server.api.posts] == [post.topic, post.topic, 0, post.topic, 0]
    for refused in (channel.open_topic("b"), channel.rename_topic(topic, "b")):
        with pytest.raises(RefusedError, match=r"(?i)not enough rights"):
            await refused


async def test_a_group_that_moves_is_followed(server: TelegramServer, bot: ExtBot[None]) -> None:
    server.api.chats |= {-5: Chat(-5, "group", moved_to=-1005), -1005: Chat(-1005, "supergroup")}
    channel = TelegramChannel(bot=bot, chat_id=-5)
    sent = await channel.send(Message("one"))
    await channel.edit(sent, Message("two"))
    assert server.api.texts(-1005) == ["two"]
    assert channel.name == "telegram:-5"  # what was delivered is recorded under it


# -- Editing and pinning


async def test_an_edit_replaces_text_and_buttons(server: TelegramServer, channel: TelegramChannel) -> None:
    card = await channel.send(Message("state: training", buttons=BUTTONS))
    await channel.edit(card, Message("state: <done>", "a\tb"))
    [post] = server.api.posts
    assert (post.text, post.buttons, post.edits) == ("state: <done>\na\tb", [], 1)


async def test_an_edit_that_changes_nothing_is_fine(server: TelegramServer, channel: TelegramChannel) -> None:
    card = await channel.send(Message("as it is", buttons=BUTTONS))
    await channel.edit(card, Message("as it is", buttons=BUTTONS))
    picture = await channel.send(Message("as it is", attachments=(CHART,)))
    await channel.edit(picture, Message("as it is"))
    assert [post.edits for post in server.api.posts] == [0, 0]


async def test_the_text_below_a_picture_can_be_edited(
    server: TelegramServer, channel: TelegramChannel
) -> None:
    picture = await channel.send(Message("old", attachments=(CHART,), buttons=BUTTONS))
    await channel.edit(picture, Message("x\n" * 3000))
    [post] = server.api.posts
    assert post.text.endswith("x\n…")
    assert post.buttons == []


async def test_a_long_edit_is_cut_to_one_message(server: TelegramServer, channel: TelegramChannel) -> None:
    card = await channel.send(Message("short"))
    await channel.edit(card, Message("line\n" * 3000, attachments=(CHART,)))
    [post] = server.api.posts
    assert post.text.endswith("line\n…")


async def test_a_deleted_message_is_gone(server: TelegramServer, channel: TelegramChannel) -> None:
    card = await channel.send(Message("the card"))
    server.api.deleted.add(int(card))
    with pytest.raises(GoneError, match=r"(?i)message to edit not found"):
        await channel.edit(card, Message("news"))
    await channel.send(Message("an answer to it"), reply_to=card)
    assert server.api.posts[-1].reply_to == 0


async def test_pinning_makes_no_sound_and_no_fuss(server: TelegramServer, channel: TelegramChannel) -> None:
    card = await channel.send(Message("the card"))
    await channel.pin(card)
    assert server.api.posts[0].pinned
    assert server.api.posts[0].silent
    server.api.chats[7].may_pin = False
    await channel.pin(card)
    await channel.pin("999999")


# -- What can go wrong


async def test_refused_markup_goes_as_plain_text(server: TelegramServer, channel: TelegramChannel) -> None:
    malformed = refusal(400, 'Bad Request: can\'t parse entities: Unsupported start tag "x" at byte offset 0')
    for method in ("sendMessage", "sendPhoto", "editMessageText"):
        server.fail(method, malformed)
    sent = await channel.send(Message("a <b", "c & d", buttons=BUTTONS))
    await channel.send(Message("e > f", attachments=(CHART,)))
    assert [(post.text, post.html) for post in server.api.posts] == [("a <b\nc & d", False), ("e > f", False)]
    assert server.api.posts[0].buttons
    assert server.api.posts[1].photo
    await channel.edit(sent, Message("g < h"))
    assert server.api.posts[0].text == "g < h"


@pytest.mark.parametrize(
    "content",
    [png(9000, 2000), png(3000, 100), b"no picture", png(weight=10_000_000)],
    ids=["too large", "too flat", "not a picture", "too heavy"],
)
async def test_a_picture_that_is_refused_goes_as_a_file(
    server: TelegramServer, channel: TelegramChannel, content: bytes
) -> None:
    await channel.send(Message("The night", attachments=(Attachment("chart.png", content),), buttons=BUTTONS))
    [post] = server.api.posts
    assert (post.text, post.photo, post.file) == ("The night", False, ("chart.png", content))
    assert post.buttons


@pytest.mark.parametrize("text", ["The night", "x" * 2000], ids=["caption", "own message"])
async def test_a_picture_refused_altogether_leaves_its_text(
    server: TelegramServer, channel: TelegramChannel, text: str
) -> None:
    server.fail("sendPhoto", refusal(400, "Bad Request: not enough rights to send photos to the chat"))
    server.fail("sendDocument", refusal(400, "Bad Request: not enough rights to send documents to the chat"))
    await channel.send(Message(text, "a\tb", attachments=(CHART,), buttons=BUTTONS))
    shown = "\n".join(server.api.texts())
    assert shown.startswith(text)
    assert "(the chart could not be sent)" in shown
    assert "a\tb" in shown
    assert server.api.posts[0].buttons


@pytest.mark.parametrize("fault", [page(413), refusal(413, "Request Entity Too Large")], ids=["proxy", "api"])
async def test_a_file_too_large_for_the_server_is_left_out(
    server: TelegramServer, channel: TelegramChannel, fault: object
) -> None:
    server.fail_always("sendDocument", fault)  # type: ignore[arg-type]
    await channel.send(Message("The log", "step\n" * 5000))
    assert server.api.texts() == ["The log\n(the file output.txt could not be sent)"]


async def test_an_upload_that_never_gets_through_does_not_keep_its_text(
    server: TelegramServer, channel: TelegramChannel
) -> None:
    server.fail_always("sendPhoto", page(502))
    message = Message("The night", attachments=(CHART,))
    for _ in range(2):
        with pytest.raises(UnreachableError):
            await channel.send(message)
    await channel.send(message)
    assert server.api.texts() == ["The night\n(the chart could not be sent)"]


async def test_after_an_outage_the_picture_is_sent(server: TelegramServer, channel: TelegramChannel) -> None:
    server.fail_always("*", page(502))
    message = Message("The night", attachments=(CHART,))
    for _ in range(5):
        with pytest.raises(UnreachableError):
            await channel.send(message)
    server.heal()
    await channel.send(message)
    [post] = server.api.posts
    assert (post.text, post.photo) == ("The night", True)


async def test_a_message_in_parts_goes_on_where_it_stopped(
    server: TelegramServer, channel: TelegramChannel
) -> None:
    message = Message("x" * 2000, "line\n" * 1000, buttons=BUTTONS, attachments=(CHART,))
    server.fail("sendPhoto", retry_after(3), page(502))
    with pytest.raises(RateLimitedError):
        await channel.send(message)
    with pytest.raises(UnreachableError):
        await channel.send(message)
    sent = await channel.send(message)
    first, second, third = server.api.posts
    assert first.text.startswith("xxx")
    assert second.text.endswith("line")
    assert third.photo
    assert sent == str(second.id)
    await channel.send(message)  # a new message that reads the same
    assert len(server.api.posts) == 6


async def test_a_flood_wait_is_told_in_seconds(server: TelegramServer, channel: TelegramChannel) -> None:
    server.fail("sendMessage", retry_after(222))
    with pytest.raises(RateLimitedError) as caught:
        await channel.send(Message("one"))
    assert caught.value.seconds == 222
    await channel.send(Message("two"))
    assert server.api.texts() == ["two"]


OF_THE_CHAT = [
    *(refusal(403, f"Forbidden: {why}") for why in (
        "bot was blocked by the user", "bot was kicked from the supergroup chat", "user is deactivated",
        "bot is not a member of the supergroup chat", "bot can't initiate conversation with a user",
        "the group chat was deleted",
    )),
    *(refusal(400, f"Bad Request: {why}") for why in (
        "chat not found", "TOPIC_CLOSED", "CHAT_WRITE_FORBIDDEN", "CHAT_RESTRICTED", "PEER_ID_INVALID",
        "not enough rights to send text messages to the chat", "have no rights to send a message",
        "need administrator rights in the channel chat", "group chat was deactivated",
    )),
]  # fmt: skip


@pytest.mark.parametrize("fault", OF_THE_CHAT, ids=lambda fault: json.loads(fault.body)["description"])
async def test_what_a_chat_refuses_whatever_it_says_is_to_be_tried_again(
    server: TelegramServer, channel: TelegramChannel, fault: Answer
) -> None:
    message = Message("The night", attachments=(CHART,), buttons=BUTTONS)
    for method in ("sendMessage", "sendPhoto", "sendDocument", "sendChatAction", "editMessageText"):
        server.fail_always(method, fault)
    for _ in range(UPLOAD_TRIES + 1):
        with pytest.raises(UnreachableError):
            await channel.send(message)
    with pytest.raises(RefusedError):  # says to who looks at the settings that it is no outage
        await channel.check()
    server.heal()
    await channel.send(message)
    [post] = server.api.posts
    assert (post.text, post.photo) == ("The night", True)


@pytest.mark.parametrize(
    "why", ["MESSAGE_NOT_SUPPORTED", "message is too long", "BUTTON_DATA_INVALID", "some new refusal"]
)
async def test_what_will_never_be_taken_is_refused(
    server: TelegramServer, channel: TelegramChannel, why: str
) -> None:
    server.fail("sendMessage", refusal(400, f"Bad Request: {why}"))
    with pytest.raises(RefusedError, match=f"(?i){why}"):
        await channel.send(Message("one"))


async def test_a_chat_that_is_blocked_or_not_there_is_closed(
    server: TelegramServer, bot: ExtBot[None]
) -> None:
    server.api.chats[8] = Chat(8, blocked=True)
    with pytest.raises(ChatClosedError, match="bot was blocked by the user"):
        await TelegramChannel(bot=bot, chat_id=8).send(Message("one", attachments=(CHART,)))
    with pytest.raises(ChatClosedError, match=r"(?i)chat not found"):
        await TelegramChannel(bot=bot, chat_id=9).send(Message("one", "a\tb"))


@pytest.mark.parametrize(
    "fault",
    [
        refusal(500, "Internal Server Error"),
        page(502),
        page(404, "<html>no such page</html>"),
        page(200, "<html>please log in</html>"),
        page(200, '{"error": "please log in"}'),
        page(403, "[]"),
        refusal(404, "Not Found"),
        refusal(401, "Unauthorized"),
        ANSWER_LOST,
    ],
    ids=[
        "500",
        "proxy 502",
        "proxy 404",
        "login page",
        "login in JSON",
        "JSON list",
        "404",
        "401",
        "broken off",
    ],
)
async def test_a_server_in_trouble_is_unreachable(
    server: TelegramServer, channel: TelegramChannel, fault: object
) -> None:
    server.fail("sendMessage", fault)  # type: ignore[arg-type]
    with pytest.raises(UnreachableError):
        await channel.send(Message("one"))
    await channel.send(Message("two"))
    assert server.api.texts()[-1] == "two"


async def test_a_server_that_is_away_is_unreachable(server: TelegramServer, channel: TelegramChannel) -> None:
    await channel.send(Message("one"))
    await server.stop()
    with pytest.raises(UnreachableError):
        await channel.send(Message("two"))
    await server.start()
    await channel.send(Message("three"))
    assert server.api.texts() == ["one", "three"]


async def test_a_server_that_says_nothing_is_unreachable(server: TelegramServer) -> None:
    bot = make_bot(TOKEN, server.base_url, Wire(read_seconds=0.2))
    server.fail("sendMessage", SILENCE)
    with pytest.raises(UnreachableError, match="Timed out"):
        await TelegramChannel(bot=bot, chat_id=7).send(Message("one"))
    await bot.request.shutdown()


async def test_no_error_and_no_log_line_has_the_token(
    server: TelegramServer, channel: TelegramChannel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, "httpx")  # as the bot does
    caplog.set_level(logging.INFO, "httpcore")
    caplog.set_level(logging.INFO, "aiohttp")
    echo = f"<html>{server.base_url}/bot{TOKEN}/sendMessage</html>"
    server.fail("sendMessage", *(page(status, echo) for status in (200, 302, 400, 401, 403, 404, 429, 500)))
    told = []
    for _ in range(8):
        with pytest.raises(ChannelError) as caught:
            await channel.send(Message("one"))
        told.append(str(caught.value))
    await server.stop()
    with pytest.raises(ChannelError) as caught:
        await channel.send(Message("one"))
    assert not any(TOKEN.split(":")[1] in line for line in (*told, str(caught.value), caplog.text))


async def test_many_may_send_at_once(server: TelegramServer, channel: TelegramChannel) -> None:
    await asyncio.gather(*(channel.send(Message(f"{number}")) for number in range(20)))
    assert sorted(server.api.texts(), key=int) == [str(number) for number in range(20)]
