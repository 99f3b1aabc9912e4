from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from bot.slack.requests import MENU, command_text
from tests.bot.slack_bot import SlackBot, called, card, shown
from tests.servers import slack_payloads as payloads
from tests.servers.slack_payloads import BOT
from tests.servers.slack_server import LIMITED, Fault, SlackServer
from tests.servers.slack_workspace import CHANNEL, CHAT, FOREIGN, PRIVATE


async def acked(server: SlackServer, envelope: str) -> dict[str, Any]:
    return await server.until(lambda: server.socket.acked(envelope) or {})


async def test_a_slash_command_is_acknowledged_empty_and_answered_in_public(
    server: SlackServer, bot: SlackBot
) -> None:
    envelope = await server.command("notify keeps")
    (posted,) = await called(server, "chat.postMessage")
    assert await acked(server, envelope) == {"envelope_id": envelope}
    assert shown(posted) == ["You said notify keeps.", "alice: /notify keeps"]
    assert (posted["channel"], posted["thread_ts"]) == (CHANNEL, None)
    (request,) = bot.asked
    sender = request.sender
    assert (sender.platform, sender.user, sender.place) == ("slack", "U0ALICE", CHANNEL)
    assert (sender.name, request.text, request.message_id) == ("alice", "/notify keeps", "")


@pytest.mark.parametrize("typed", ["help", "", "stauts"])
async def test_help_and_refusals_are_for_the_one_who_asked(
    server: SlackServer, bot: SlackBot, typed: str
) -> None:
    await server.command(typed)
    (answer,) = await called(server, "respond")
    assert (answer["response_type"], answer["replace_original"]) == ("ephemeral", False)
    assert server.called("chat.postMessage") == []


async def test_a_mention_that_arrives_twice_is_one_request(server: SlackServer, bot: SlackBot) -> None:
    ts = await server.say(f"<@{BOT}> notify keeps")
    await server.until(lambda: len(bot.delivered) == 2)
    (posted,) = await called(server, "chat.postMessage")
    assert [request.text for request in bot.asked] == ["/notify keeps"]
    assert bot.asked[0].sent_at == float(ts)
    assert posted["thread_ts"] == ts
    assert shown(posted) == ["You said notify keeps."]  # everybody can see who asked


async def test_a_private_chat_needs_no_mention_and_no_thread(server: SlackServer, bot: SlackBot) -> None:
    await server.say("status", channel=CHAT)
    await server.say("nonsense", channel=CHAT)
    first, second = await called(server, "chat.postMessage", 2)
    assert [request.text for request in bot.asked] == ["/status", "/nonsense"]
    assert (first["channel"], first["thread_ts"], second["thread_ts"]) == (CHAT, None, None)
    assert server.called("chat.postEphemeral") == []


@pytest.mark.parametrize("typed", ["!notify keeps", f"<@{BOT}> notify keeps"])
async def test_in_threads_commands_are_answered_in_the_thread(
    server: SlackServer, bot: SlackBot, typed: str
) -> None:
    root = await card(server)
    await server.say(typed, thread=root)
    _, posted = await called(server, "chat.postMessage", 2)
    assert posted["thread_ts"] == root
    assert bot.asked[0].message_id == root  # what replies to the request goes into the thread


async def test_a_refusal_in_a_thread_is_seen_by_its_sender_alone(server: SlackServer, bot: SlackBot) -> None:
    root = await card(server)
    await server.say("!nonsense", thread=root)
    (whispered,) = await called(server, "chat.postEphemeral")
    assert (whispered["user"], whispered["thread_ts"]) == ("U0ALICE", root)
    await server.say("!nonsense")
    _, whispered = await called(server, "chat.postEphemeral", 2)
    assert whispered["thread_ts"] is None  # there is no thread yet, and Slack would show it nowhere


async def test_what_is_not_for_the_bot_is_acknowledged_and_ignored(
    server: SlackServer, bot: SlackBot
) -> None:
    await server.say("good morning")
    await server.say(f"I asked <@{BOT}> about it")
    await server.say("!?! what")
    await server.say("!status", user=BOT)
    await server.say("!status", bot_id="B0OTHER")
    await server.say("!status", subtype="message_changed", message={"text": "!status"})
    odd = payloads.event("member_joined_channel", user="U0BOB", channel=CHANNEL)
    envelope = await server.socket.deliver("events_api", odd)
    await acked(server, envelope)
    await server.command("status")
    await bot.asks()
    assert [request.text for request in bot.delivered] == ["/status"]
    assert server.socket.unacked == {}


async def test_a_press_edits_the_message_and_says_who_pressed(server: SlackServer, bot: SlackBot) -> None:
    message = await card(server)
    envelope = await server.press("/pause", message=message, label="Pause")
    (edited,) = await called(server, "chat.update")
    assert edited["ts"] == message
    assert shown(edited) == ["Run mar12 is paused.", "alice pressed Pause"]
    assert await acked(server, envelope) == {"envelope_id": envelope}
    assert (bot.asked[0].text, bot.asked[0].message_id) == ("/pause", message)
    assert bot.asked[0].sent_at == 1700000500.000001


async def test_an_answer_to_a_press_goes_into_the_thread(server: SlackServer, bot: SlackBot) -> None:
    root = await card(server)
    await server.press("/notify keeps", message=root)
    *_, posted = await called(server, "chat.postMessage", 2)
    assert posted["thread_ts"] == root
    digest = server.workspace.note(CHANNEL, {"thread_ts": root, "user": BOT})
    await server.press("/notify keeps", message=digest, thread=root)
    *_, posted = await called(server, "chat.postMessage", 3)
    assert posted["thread_ts"] == root


async def test_a_refused_press_is_whispered_and_leaves_the_message(
    server: SlackServer, bot: SlackBot
) -> None:
    message = await card(server)
    await server.press("/nonsense", message=message)
    (answer,) = await called(server, "respond")
    assert (answer["response_type"], answer["replace_original"]) == ("ephemeral", False)
    assert server.called("chat.update") == []


async def test_an_ephemeral_message_is_replaced_the_other_way(server: SlackServer, bot: SlackBot) -> None:
    await server.press("/pause", message="1700000001.000001", ephemeral=True)
    (answer,) = await called(server, "respond")
    assert answer["replace_original"] is True


@pytest.mark.parametrize("channel", [FOREIGN, PRIVATE, "C0UNKNOWN"])
async def test_slash_commands_are_answered_in_channels_that_the_bot_is_not_in(
    server: SlackServer, bot: SlackBot, channel: str
) -> None:
    server.fail("conversations.join", Fault(word="missing_scope"))
    await server.command("notify keeps", channel=channel)
    (answer,) = await called(server, "respond")
    assert answer["response_type"] == "in_channel"
    assert shown(answer) == ["You said notify keeps.", "alice: /notify keeps"]


@pytest.mark.parametrize("kind", ["slash_commands", "interactive", "events_api"])
async def test_a_redelivered_envelope_has_the_same_key(server: SlackServer, bot: SlackBot, kind: str) -> None:
    url = server.response_url()
    body: dict[str, Any] = {
        "slash_commands": payloads.command("status", channel=CHANNEL, response_url=url),
        "interactive": payloads.press("/status", channel=CHANNEL, message="1.2", response_url=url),
        "events_api": payloads.message("status", channel=CHAT, ts="1700000000.000300"),
    }[kind]
    await server.socket.deliver(kind, body)
    await server.socket.deliver(kind, body, again=True)
    await server.until(lambda: len(bot.delivered) == 2)
    first, second = bot.delivered
    assert first.key == second.key
    assert len(bot.asked) == 1


async def test_an_answer_that_takes_long_delays_neither_the_ack_nor_the_others(
    server: SlackServer, bot: SlackBot
) -> None:
    for envelope in (await server.command("slow"), await server.press("/slow", message=await card(server))):
        await acked(server, envelope)
    await server.say("slow", channel=CHAT)
    await server.command("notify keeps")
    await called(server, "chat.postMessage", 2)
    assert server.socket.unacked == {}
    bot.done.set()
    await called(server, "chat.postMessage", 5)


async def test_two_requests_have_two_keys(server: SlackServer, bot: SlackBot) -> None:
    await server.command("status")
    await server.command("status")
    await server.say("status", channel=CHAT)
    await server.say("status", channel=CHAT)
    await bot.asks(4)


async def test_a_rate_limit_delays_the_answer(server: SlackServer, bot: SlackBot) -> None:
    server.fail("chat.postMessage", LIMITED, Fault(status=503))
    await server.command("notify keeps")
    *_, posted = await called(server, "chat.postMessage", 3)
    await server.until(server.workspace.shown)
    assert shown(posted)[0] == "You said notify keeps."


async def test_blocks_that_are_refused_are_whispered_as_text(server: SlackServer, bot: SlackBot) -> None:
    server.fail("respond", Fault(word="invalid_blocks"))
    await server.command("nonsense")
    *_, answer = await called(server, "respond", 2)
    assert (answer["blocks"], answer["text"]) == ([], "There is no /nonsense.")


async def test_an_answer_that_slack_refuses_is_logged_and_harms_nothing(
    server: SlackServer, bot: SlackBot, caplog: pytest.LogCaptureFixture
) -> None:
    server.fail("chat.postMessage", Fault(word="restricted_action"))
    await server.say("!notify keeps")
    await called(server, "chat.postMessage")
    await server.command("notify keeps")
    await called(server, "chat.postMessage", 2)
    assert "the answer to /notify keeps in C0RESEARCH was not shown: restricted_action" in caplog.text


async def test_a_mistake_of_ours_is_logged_and_harms_nothing(
    server: SlackServer, bot: SlackBot, caplog: pytest.LogCaptureFixture
) -> None:
    await server.command("broken")
    await server.command("notify keeps")
    await called(server, "chat.postMessage")
    assert "a mistake of ours" in caplog.text


def answers(server: SlackServer) -> int:
    return sum(len(server.called(method)) for method in ("respond", "chat.postMessage", "views.open"))


def has_answers(server: SlackServer, count: int) -> bool:
    return answers(server) >= count


WITHOUT_ANSWER = {"/slow", "/broken"}
"""What the bot of these tests is asked to take long for, or to fail at."""


async def test_any_text_gets_an_answer_of_one_kind_or_another(server: SlackServer, bot: SlackBot) -> None:
    typed = st.text(max_size=300)

    @example("idea", CHAT)  # answered by a form, as `start_run` is, and not by a message in the chat
    @example("/start_run", CHAT)
    @given(typed, st.sampled_from([CHAT, CHANNEL]))
    @settings(max_examples=60, database=None)
    def collect(text: str, channel: str) -> None:
        assume(command_text(text).split()[0].lower() not in WITHOUT_ANSWER)
        cases.append((text, channel))

    cases: list[tuple[str, str]] = []
    collect()
    for text, channel in cases:  # one after the other: this is about texts, not about how many at once
        wanted = answers(server) + 1
        await server.command(text, channel=channel)
        await server.until(functools.partial(has_answers, server, wanted))
    forms = [command_text(text).lower() in {"/idea", "/start_run"} for text, _ in cases]
    in_the_chat = sum(channel == CHAT and not form for (_, channel), form in zip(cases, forms, strict=True))
    await server.until(lambda: len(server.workspace.shown(CHAT)) >= in_the_chat)
    assert len(server.called("views.open")) == sum(forms) >= 2
    assert len(bot.asked) == sum(command_text(text).lower() not in {MENU, "/idea"} for text, _ in cases)
    assert all(request.text.startswith("/") for request in bot.asked)
