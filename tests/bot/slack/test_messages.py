from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.slack.requests import MENU, AskedOnSlack, command_text, from_command, from_event, from_press
from tests.servers import slack_payloads as payloads
from tests.servers.slack_payloads import BOT
from tests.servers.slack_workspace import CHANNEL, CHAT

NOW = 1_800_000_000.0
TS = "1700000000.000100"
URL = "https://hooks.slack.com/commands/1/2/3"


def heard(text: str, *, channel: str = CHANNEL, **fields: Any) -> AskedOnSlack | None:
    return from_event(payloads.message(text, channel=channel, ts=TS, **fields), me=BOT, now=NOW)


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        ("", MENU),
        ("   ", MENU),
        ("/", MENU),
        ("status", "/status"),
        ("/status", "/status"),
        ("!status", "/status"),
        ("  diff   12 ", "/diff   12"),
        ("idea first\nthen", "/idea first\nthen"),
        ("idea a &lt; b &amp;&amp; c &gt; d", "/idea a < b && c > d"),
        ("idea &amp;lt;", "/idea &lt;"),
        ("idea lr<3e-4 and >1", "/idea lr<3e-4 and >1"),
        ("idea read <https://arxiv.org/abs/1|arxiv>", "/idea read https://arxiv.org/abs/1"),
        ("idea run <http://train.py|train.py>", "/idea run train.py"),
        ("idea <https://arxiv.org/abs/1>", "/idea https://arxiv.org/abs/1"),
        ("idea ask <mailto:a@b.org|a@b.org>", "/idea ask a@b.org"),
        ("idea ask <@U0BOB|bob> in <#C1|general>", "/idea ask @bob in #general"),
        ("idea ask <@U0BOB> or <!here> or <!subteam^S1|@ml>", "/idea ask @U0BOB or @here or @ml"),
    ],
)
def test_text_becomes_a_command_as_it_was_typed(typed: str, command: str) -> None:
    assert command_text(typed) == command


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (f"<@{BOT}> status", "/status"),
        (f"<@{BOT}|bot>: /status", "/status"),
        (f" <@{BOT}>\xa0status", "/status"),
        (f"<@{BOT}>", MENU),
        ("!status", "/status"),
        ("!retag a b", "/retag a b"),
    ],
)
def test_in_a_channel_a_mention_or_a_mark_asks_the_bot(text: str, command: str) -> None:
    asked = heard(text)
    assert asked is not None
    assert asked.request.text == command


@pytest.mark.parametrize(
    "text", ["status", "", "<@U0BOB> status", "so <@U0BOT> said", "!", "!!", "! a", "#!/bin"]
)
def test_other_talk_in_a_channel_is_left_alone(text: str) -> None:
    assert heard(text) is None


@given(st.text(max_size=50))
def test_everything_in_a_private_chat_is_a_command(text: str) -> None:
    asked = heard(text, channel=CHAT)
    assert asked is not None
    assert asked.private
    assert asked.request.text.startswith("/")
    assert asked.request.text.split()


@pytest.mark.parametrize(
    "fields",
    [
        {"subtype": "message_changed"},
        {"subtype": "message_deleted"},
        {"subtype": "bot_message"},
        {"subtype": "channel_join"},
        {"bot_id": "B0OTHER"},
        {"user": BOT},
        {"user": ""},
    ],
)
def test_what_no_person_has_written_is_left_alone(fields: dict[str, str]) -> None:
    assert heard("!status", **fields) is None
    assert heard("status", channel=CHAT, **fields) is None


@pytest.mark.parametrize("subtype", ["thread_broadcast", "file_share"])
def test_what_people_write_in_special_ways_counts(subtype: str) -> None:
    assert heard("!status", subtype=subtype) is not None


def test_a_mention_and_its_message_have_one_key() -> None:
    text = f"<@{BOT}> status"
    mention = from_event(payloads.mention(text, channel=CHANNEL, ts=TS), me=BOT, now=NOW)
    message = heard(text)
    assert mention is not None
    assert message is not None
    assert mention.request == message.request
    assert message.request.sent_at == float(TS)


def test_keys_differ_between_messages_channels_commands_and_presses() -> None:
    elsewhere = payloads.message("!status", channel="C0OTHER", ts=TS)
    later = payloads.message("!status", channel=CHANNEL, ts="1700000000.000200")
    asked = [heard("!status"), *(from_event(body, me=BOT, now=NOW) for body in (elsewhere, later))]
    for _ in range(2):
        asked.append(from_command(payloads.command("a", channel=CHANNEL, response_url=URL), now=NOW))
        body = payloads.press("/a", channel=CHANNEL, message=TS, response_url=URL)
        asked.append(from_press(body, now=NOW))
    assert len({one.request.key for one in asked if one is not None}) == 7


def test_a_time_that_slack_does_not_tell_is_now() -> None:
    command = payloads.command("status", channel=CHANNEL, response_url=URL)
    assert from_command(command, now=NOW).request.sent_at == NOW
    press = payloads.press("/status", channel=CHANNEL, message=TS, response_url=URL)
    del press["actions"][0]["action_ts"]
    asked = from_press(press, now=NOW)
    assert asked is not None
    assert asked.request.sent_at == NOW


def test_a_press_of_anything_else_is_left_alone() -> None:
    press = payloads.press("", channel=CHANNEL, message=TS, response_url=URL)
    assert from_press(press, now=NOW) is None
    view = payloads.press("/status", channel=CHANNEL, message=TS, response_url=URL)
    view["container"] = {"type": "view", "view_id": "V1"}
    assert from_press(view, now=NOW) is None


def test_a_press_is_told_by_the_label_as_it_is_read() -> None:
    body = payloads.press("/diff 1", channel=CHANNEL, message=TS, label="Diff &amp; log", response_url=URL)
    asked = from_press(body, now=NOW)
    assert asked is not None
    assert asked.note == "alice pressed Diff & log"


def test_somebody_without_a_name_is_named_by_the_id() -> None:
    command = payloads.command("status", channel=CHANNEL, name="", response_url=URL)
    assert from_command(command, now=NOW).request.sender.name == "U0ALICE"
