from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from slack_sdk.web.async_client import AsyncWebClient

from notifiers.channels.slack import SlackChannel, SlackRefusedError, make_client, respond
from notifiers.message import (
    Attachment,
    Button,
    Channel,
    ChannelError,
    GoneError,
    Message,
    RateLimitedError,
    RefusedError,
    UnreachableError,
)
from tests.servers.slack_rules import texts
from tests.servers.slack_server import LIMITED, LOST, SILENT, Fault, SlackServer
from tests.servers.slack_workspace import BOT_TOKEN, CHANNEL, FOREIGN, PRIVATE

PICTURE = Attachment("progress.png", b"\x89PNG...", alt="val_bpb over 23 experiments")
DIFF = Button("Diff", "/diff 12")
FILE = Attachment("changes.patch", b"- a\n+ b\n")
PORTAL = Fault(status=200, body="<html>Please log in to the hotel's network</html>")


@pytest.fixture
async def server() -> AsyncIterator[SlackServer]:
    server = SlackServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def client(server: SlackServer) -> AsyncWebClient:
    client = make_client(BOT_TOKEN, server.base_url)
    client.retry_handlers = []  # they wait a second before they try again
    return client


@pytest.fixture
def channel(client: AsyncWebClient) -> SlackChannel:
    return SlackChannel(client=client, channel_id=CHANNEL)


async def test_a_message_arrives_with_its_buttons_and_without_unfurled_links(
    server: SlackServer, channel: SlackChannel
) -> None:
    ts = await channel.send(Message("see https://example.org", buttons=((Button("Diff", "/diff 1"),),)))
    (call,) = server.calls
    assert (CHANNEL, ts) in server.workspace.messages
    assert (call["unfurl_links"], call["unfurl_media"]) == (False, False)
    assert list(texts(call["blocks"])) == ["see https://example.org", "Diff"]


async def test_a_slack_channel_is_a_channel(channel: SlackChannel) -> None:
    as_such: Channel = channel
    assert as_such.name == f"slack:{CHANNEL}"


async def test_replies_go_into_the_thread_and_only_what_matters_into_the_channel(
    server: SlackServer, channel: SlackChannel
) -> None:
    card = await channel.send(Message("Run mar12"))
    await channel.send(Message("discard"), reply_to=card)
    await channel.send(Message("new best"), reply_to=card, broadcast=True)
    await channel.send(Message("elsewhere"), broadcast=True)
    posted = server.called("chat.postMessage")[1:]
    assert [(call["thread_ts"], call["reply_broadcast"]) for call in posted] == [
        (card, False),
        (card, True),
        (None, None),
    ]


async def test_an_edit_takes_the_place_of_the_text_and_of_the_buttons(
    server: SlackServer, channel: SlackChannel
) -> None:
    card = await channel.send(Message("running", buttons=((Button("Pause", "/pause"),),)))
    await channel.edit(card, Message("paused"))
    await channel.edit(card, Message("paused"))
    assert list(texts(server.workspace.messages[CHANNEL, card]["blocks"])) == ["paused"]


async def test_a_message_that_is_gone_is_named_so(server: SlackServer, channel: SlackChannel) -> None:
    with pytest.raises(GoneError, match="message_not_found"):
        await channel.edit("1.2", Message("paused"))
    with pytest.raises(GoneError, match="thread_not_found"):
        await channel.send(Message("keep"), reply_to="1.2")
    theirs = server.workspace.note(CHANNEL, {"text": "hello"})
    with pytest.raises(GoneError, match="cant_update_message"):
        await channel.edit(theirs, Message("paused"))


async def test_a_picture_is_shown_in_its_message_as_soon_as_slack_has_read_it(
    server: SlackServer, channel: SlackChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    server.workspace.reading = 4
    await channel.send(Message("While you slept", attachments=(PICTURE,), buttons=((DIFF,),)))
    (asked,) = server.called("files.getUploadURLExternal")
    assert (asked["filename"], asked["alt_txt"]) == (PICTURE.name, PICTURE.alt)
    (done,) = server.called("files.completeUploadExternal")
    assert done["channel_id"] is None  # else it would be there twice
    assert len(waited) == len(server.called("files.info")) - 1 == 3
    (posted,) = server.called("chat.postMessage")
    text, picture, buttons = posted["blocks"]
    ((name, content),) = server.workspace.files.items()
    assert content == PICTURE.content
    assert picture == {"type": "image", "slack_file": {"id": name}, "alt_text": PICTURE.alt}
    assert (text["type"], buttons["type"]) == ("rich_text", "actions")


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("files.getUploadURLExternal", LIMITED),
        ("upload", Fault(status=500)),
        ("files.completeUploadExternal", LOST),
        ("files.info", Fault(word="missing_scope")),
        ("files.info", Fault(word="file_not_found")),
        ("chat.postMessage", Fault(word="invalid_blocks")),
    ],
)
async def test_a_picture_that_cannot_be_shown_follows_in_the_thread(
    server: SlackServer, channel: SlackChannel, method: str, fault: Fault
) -> None:
    server.fail(method, fault)
    ts = await channel.send(Message("While you slept", attachments=(PICTURE, FILE)))
    *_, picture, file = server.called("files.completeUploadExternal")
    assert {(done["channel_id"], done["thread_ts"]) for done in (picture, file)} == {(CHANNEL, ts)}
    assert list(server.workspace.files.values()).count(PICTURE.content) == 1 + (fault is LOST)
    (message,) = server.workspace.shown()
    assert list(texts(message["blocks"])) == ["While you slept"]


async def test_a_picture_that_slack_never_reads_follows_in_the_thread(
    server: SlackServer, channel: SlackChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sleep(_: float) -> None:
        pass

    monkeypatch.setattr(asyncio, "sleep", sleep)
    server.workspace.reading = 1000
    await channel.send(Message("While you slept", attachments=(PICTURE,)))
    assert len(server.workspace.shown()) == 1
    assert list(server.workspace.files.values()) == [PICTURE.content]  # the other one was deleted


async def test_a_message_that_is_tried_again_leaves_no_pictures_behind(
    server: SlackServer, channel: SlackChannel
) -> None:
    server.fail("chat.postMessage", Fault(word="is_archived"), LIMITED)
    for _ in range(2):
        with pytest.raises(ChannelError):
            await channel.send(Message("While you slept", attachments=(PICTURE,)))
    assert server.workspace.files == {}
    await channel.send(Message("While you slept", attachments=(PICTURE,)))
    assert len(server.workspace.files) == len(server.workspace.shown()) == 1


async def test_a_long_block_comes_as_a_file_too(server: SlackServer, channel: SlackChannel) -> None:
    card = await channel.send(Message("Run mar12"))
    block = "\n".join(f"+ line {number}" for number in range(2000))
    await channel.send(Message("Diff of #12", block=block), reply_to=card)
    (done,) = server.called("files.completeUploadExternal")
    assert done["thread_ts"] == card
    assert list(server.workspace.files.values()) == [block.encode()]


@pytest.mark.parametrize("step", ["files.getUploadURLExternal", "upload", "files.completeUploadExternal"])
@pytest.mark.parametrize("fault", [Fault(word="access_denied"), Fault(status=500), LOST, PORTAL])
async def test_an_upload_that_fails_leaves_the_text_and_a_line(
    server: SlackServer, channel: SlackChannel, step: str, fault: Fault
) -> None:
    server.fail(step, fault)
    ts = await channel.send(Message("While you slept", attachments=(FILE,)))
    report, apology = server.called("chat.postMessage")
    assert list(texts(report["blocks"])) == ["While you slept"]
    assert apology["thread_ts"] == ts
    assert apology["text"].startswith("changes.patch could not be sent: ")


async def test_an_upload_waits_for_a_rate_limit(
    server: SlackServer, channel: SlackChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    server.fail("files.getUploadURLExternal", LIMITED)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    await channel.send(Message("While you slept", attachments=(FILE,)))
    assert waited == [1.0]
    assert len(server.called("chat.postMessage")) == 1
    assert len(server.workspace.files) == 1


async def test_the_text_survives_even_when_the_apology_fails(
    server: SlackServer, channel: SlackChannel, caplog: pytest.LogCaptureFixture
) -> None:
    server.fail("upload", Fault(status=500))
    server.fail("chat.postMessage", Fault(), Fault(status=500))
    assert await channel.send(Message("While you slept", attachments=(FILE,)))
    assert "changes.patch could not be sent" in caplog.text


async def test_a_public_channel_is_joined_when_that_is_all_that_is_missing(
    server: SlackServer, client: AsyncWebClient
) -> None:
    await SlackChannel(client=client, channel_id=FOREIGN).send(Message("hello", attachments=(FILE,)))
    assert server.workspace.rooms[FOREIGN].member
    assert len(server.called("conversations.join")) == 1
    assert len(server.workspace.shown(FOREIGN)) == 1


@pytest.mark.parametrize("word", ["not_in_channel", "channel_not_found"])
async def test_a_channel_is_joined_for_an_upload(
    server: SlackServer, channel: SlackChannel, word: str
) -> None:
    server.fail("files.completeUploadExternal", Fault(word=word))
    await channel.send(Message("While you slept", attachments=(FILE,)))
    assert len(server.called("conversations.join")) == 1
    assert len(server.called("chat.postMessage")) == 1  # and so no apology


@pytest.mark.parametrize("place", [PRIVATE, "C0NOWHERE"])
async def test_a_channel_that_cannot_be_joined_is_a_refusal_with_a_mend(
    client: AsyncWebClient, place: str
) -> None:
    with pytest.raises(RefusedError, match="channel_not_found: give the channel's id"):
        await SlackChannel(client=client, channel_id=place).send(Message("hello"))


async def test_a_pin_that_is_refused_does_not_matter(server: SlackServer, channel: SlackChannel) -> None:
    card = await channel.send(Message("Run mar12"))
    for fault in (Fault(), Fault(word="missing_scope"), Fault(status=503), LIMITED, LOST):
        server.fail("pins.add", fault)
        await channel.pin(card)
    assert server.called("pins.add")[0]["timestamp"] == card


@pytest.mark.parametrize("word", ["invalid_blocks", "msg_blocks_too_long"])
async def test_blocks_that_slack_refuses_are_sent_as_plain_text(
    server: SlackServer, channel: SlackChannel, word: str
) -> None:
    server.fail("chat.postMessage", Fault(word=word))
    ts = await channel.send(Message("Experiment #3: *lr* <up>", block="a | b"))
    sent = server.workspace.messages[CHANNEL, ts]
    assert (sent["blocks"], sent["mrkdwn"]) == ([], False)
    assert sent["text"] == "Experiment #3: *lr* &lt;up&gt;\na | b"
    server.fail("chat.update", Fault(word=word))
    await channel.edit(ts, Message("crash"))
    assert (sent["blocks"], sent["text"]) == ([], "crash")


async def test_a_rate_limit_says_how_long_to_wait(server: SlackServer, channel: SlackChannel) -> None:
    for headers, seconds in (({"Retry-After": "17"}, 17), ({}, 30), ({"Retry-After": "soon"}, 30)):
        server.fail("chat.postMessage", Fault(word="ratelimited", status=429, headers=headers))
        with pytest.raises(RateLimitedError) as caught:
            await channel.send(Message("hello"))
        assert caught.value.seconds == seconds
    server.fail("chat.update", Fault(word="ratelimited"))
    with pytest.raises(RateLimitedError):
        await channel.edit("1.2", Message("hello"))


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=503, word="service_unavailable"),
        Fault(word="fatal_error"),
        Fault(word="internal_error"),
        Fault(status=502, body="<html>Bad Gateway</html>"),
        Fault(status=404, body="no such page"),
        PORTAL,
        LOST,
    ],
)
async def test_a_platform_in_trouble_is_unreachable(
    server: SlackServer, channel: SlackChannel, fault: Fault
) -> None:
    server.fail("chat.postMessage", fault)
    with pytest.raises(UnreachableError):
        await channel.send(Message("hello"))
    assert await channel.send(Message("hello"))


@pytest.mark.parametrize("body", ["[]", '"ok"', "null", "{", "\xff"])
async def test_an_answer_that_is_no_object_is_no_answer(
    server: SlackServer, channel: SlackChannel, body: str
) -> None:
    server.fail("chat.postMessage", Fault(body=body, kind="application/json"))
    with pytest.raises(UnreachableError):
        await channel.send(Message("hello"))


async def test_a_refusal_tells_slacks_word(server: SlackServer, channel: SlackChannel) -> None:
    server.fail("chat.postMessage", Fault(word="restricted_action"))
    with pytest.raises(SlackRefusedError, match="restricted_action") as caught:
        await channel.send(Message("hello"))
    assert not isinstance(caught.value, GoneError)


async def test_a_wrong_token_is_refused_and_never_told(server: SlackServer) -> None:
    channel = SlackChannel(client=make_client("xoxb-wrong", server.base_url), channel_id=CHANNEL)
    with pytest.raises(RefusedError, match="invalid_auth") as caught:
        await channel.send(Message("hello"))
    assert "xoxb" not in str(caught.value)


async def test_a_silent_server_is_unreachable(server: SlackServer, client: AsyncWebClient) -> None:
    vars(client)["timeout"] = 0.1
    server.fail("chat.postMessage", SILENT)
    with pytest.raises(UnreachableError):
        await SlackChannel(client=client, channel_id=CHANNEL).send(Message("hello"))


async def test_a_server_that_is_down_is_unreachable_until_it_is_back(
    server: SlackServer, channel: SlackChannel
) -> None:
    await server.stop()
    with pytest.raises(UnreachableError, match="Cannot connect to host"):
        await channel.send(Message("hello"))
    await server.start()
    assert await channel.send(Message("hello"))


async def test_a_broken_connection_is_tried_once_more_at_once(server: SlackServer) -> None:
    channel = SlackChannel(client=make_client(BOT_TOKEN, server.base_url), channel_id=CHANNEL)
    server.fail("chat.postMessage", LOST)
    await channel.send(Message("hello"))
    assert len(server.called("chat.postMessage")) == 2


async def test_a_rate_limit_is_never_slept_through_by_the_client(server: SlackServer) -> None:
    channel = SlackChannel(client=make_client(BOT_TOKEN, server.base_url), channel_id=CHANNEL)
    server.fail("chat.postMessage", LIMITED)
    with pytest.raises(RateLimitedError):
        await channel.send(Message("hello"))
    assert len(server.calls) == 1


async def test_everything_arrives_in_order_whatever_happens_on_the_way(
    server: SlackServer, client: AsyncWebClient, channel: SlackChannel
) -> None:
    server.fail("chat.postMessage", LIMITED, Fault(), Fault(status=503), LOST, SILENT, PORTAL)
    told = [f"Experiment #{number}" for number in range(6)]
    for text in told:
        sent = False
        while not sent:
            # Only for what is silent the time is short, or a busy machine would have more sent again.
            silent = server.faults["chat.postMessage"][:1] == [SILENT]
            vars(client)["timeout"] = 0.1 if silent else 60
            with suppress(RateLimitedError, UnreachableError):
                await channel.send(Message(text))
                sent = True
    arrived = [text for message in server.workspace.shown() for text in texts(message["blocks"])]
    assert list(dict.fromkeys(arrived)) == told
    assert len(arrived) == len(told) + 1  # the one whose answer was lost came twice


async def test_no_proxy_is_obeyed(server: SlackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert make_client(BOT_TOKEN).proxy == "http://127.0.0.1:9"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    channel = SlackChannel(client=make_client(BOT_TOKEN, server.base_url), channel_id=CHANNEL)
    assert await channel.send(Message("hello"))
    await respond(server.response_url(), {"text": "hello"})


async def test_an_address_for_answers_has_its_errors_too(server: SlackServer) -> None:
    url = server.response_url()
    server.fail("respond", LIMITED, Fault(status=502), Fault(status=500, body="oops"))
    with pytest.raises(RateLimitedError):
        await respond(url, {"text": "hello"})
    for _ in range(2):
        with pytest.raises(UnreachableError):
            await respond(url, {"text": "hello"})
    for _ in range(5):
        await respond(url, {"text": "hello"})
    with pytest.raises(SlackRefusedError, match="used_url"):
        await respond(url, {"text": "hello"})
    server.fail("respond", Fault(word="expired_url"))
    with pytest.raises(SlackRefusedError, match="expired_url"):
        await respond(url, {"text": "hello"})


async def test_nothing_secret_is_logged(
    server: SlackServer, channel: SlackChannel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.fail("chat.postMessage", Fault(status=503), LOST, Fault(word="invalid_blocks"))
    for _ in range(2):
        with pytest.raises(UnreachableError):
            await channel.send(Message("hello"))
    assert await channel.send(Message("hello", attachments=(FILE,)))
    assert BOT_TOKEN not in caplog.text
