"""Who sees which answer, and what strangers are told."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from bot.commands.access import AllowList, Role, Sender
from bot.commands.table import COMMANDS, find_command, pressable
from bot.slack.answers import READING, WORKING, menu, turned_away
from bot.slack.connection import SlackPace
from bot.slack.requests import FORMS
from notifiers.channels.slack_blocks import SHARE
from notifiers.message import Button, Message
from tests.bot.slack_bot import ALLOWED, CHART, PATCH, STEADY, SlackBot, called, card, shown, slack_bot
from tests.servers import slack_payloads as payloads
from tests.servers.slack_payloads import BOT
from tests.servers.slack_rules import faults, pictures
from tests.servers.slack_server import Fault, SlackServer
from tests.servers.slack_workspace import CHANNEL, CHAT, FOREIGN, Call


def buttons(blocks: list[dict[str, Any]]) -> dict[str, str]:
    elements = [one for block in blocks if block["type"] == "actions" for one in block["elements"]]
    return {one["text"]["text"]: one["value"] for one in elements}


def share(call: Call) -> dict[str, str]:
    """Return the fields of a press of the button that shows an answer to all."""
    (button,) = (one for one in call["blocks"][-1]["elements"] if one["action_id"] == SHARE)
    return {"value": button["value"], "label": button["text"]["text"], "action": SHARE}


async def test_what_only_reads_is_seen_by_its_sender_who_can_show_it_to_all(
    server: SlackServer, bot: SlackBot
) -> None:
    await server.command("diff 12")
    (seen,) = await called(server, "respond")
    assert (seen["response_type"], seen["replace_original"]) == ("ephemeral", False)
    assert shown(seen) == ["You said diff 12.", "Show to all"]
    assert server.called("chat.postMessage") == []

    await server.press(**share(seen), message="1700000001.000001", ephemeral=True)
    (posted,) = await called(server, "chat.postMessage")
    assert shown(posted) == ["You said diff 12.", "alice: /diff 12"]
    assert posted["thread_ts"] is None
    _, gone = await called(server, "respond", 2)
    assert gone["delete_original"] is True


async def test_to_ask_what_a_channel_gets_changes_nothing_and_is_seen_by_its_sender(
    server: SlackServer, bot: SlackBot
) -> None:
    await server.command("notify")
    (seen,) = await called(server, "respond")
    assert (seen["response_type"], shown(seen)) == ("ephemeral", ["You said notify.", "Show to all"])
    assert server.called("chat.postMessage") == []


async def test_in_a_thread_an_answer_is_seen_and_shared_in_the_thread(
    server: SlackServer, bot: SlackBot
) -> None:
    root = await card(server)
    await server.say(f"<@{BOT}> status", thread=root)
    (seen,) = await called(server, "chat.postEphemeral")
    assert (seen["user"], seen["thread_ts"]) == ("U0ALICE", root)
    await server.press(**share(seen), message="1700000001.000001", thread=root, ephemeral=True)
    _, posted = await called(server, "chat.postMessage", 2)
    assert posted["thread_ts"] == root


async def test_a_viewers_press_is_answered_to_the_viewer_alone(server: SlackServer, bot: SlackBot) -> None:
    root = await card(server)
    for command in ("/diff 12", "/nonsense"):
        await server.press(command, message=root, user="U0BOB", name="bob")
    seen = await called(server, "respond", 2)
    assert {call["response_type"] for call in seen} == {"ephemeral"}
    assert len(server.called("chat.postMessage")) == 1  # the card
    assert server.called("chat.update") == []


async def test_a_picture_is_seen_by_its_sender_and_then_by_all(server: SlackServer, bot: SlackBot) -> None:
    await server.command("plot")
    (seen,) = await called(server, "chat.postEphemeral")
    assert [server.workspace.files[file] for file in pictures(seen["blocks"])] == [CHART.content]
    await server.press(**share(seen), message="1700000001.000001", ephemeral=True)
    (posted,) = await called(server, "chat.postMessage")
    assert len([*pictures(posted["blocks"])]) == 1


@pytest.mark.parametrize("member", [True, False])
async def test_a_picture_that_one_person_cannot_be_shown_is_offered_to_all(
    server: SlackServer, bot: SlackBot, member: bool
) -> None:
    if member:
        server.fail("files.getUploadURLExternal", Fault(word="missing_scope"))
    await server.command("plot", channel=CHANNEL if member else FOREIGN)
    (seen,) = await called(server, "respond")
    text, note, button = shown(seen)
    assert (text, button) == ("Run mar12", "Show to all")
    assert note.startswith("Show to all also sends")


async def test_a_text_that_is_too_long_for_one_person_is_offered_whole(
    server: SlackServer, bot: SlackBot
) -> None:
    bot.block = "\n".join(f"+ line {number}" for number in range(2000))
    await server.command("diff 12")
    (seen,) = await called(server, "respond")
    assert shown(seen)[-2].startswith("Show to all also sends")
    await server.press(**share(seen), message="1700000001.000001", ephemeral=True)
    await server.until(lambda: server.workspace.files)
    assert list(server.workspace.files.values()) == [bot.block.encode()]


async def test_what_changes_something_is_public_with_its_files(server: SlackServer, bot: SlackBot) -> None:
    await server.command("bundle")
    (posted,) = await called(server, "chat.postMessage")
    assert len([*pictures(posted["blocks"])]) == 1
    await server.until(lambda: len(server.workspace.files) == 2)
    assert [*server.workspace.files.values()] == [CHART.content, PATCH.content]


async def test_a_change_from_a_message_that_one_person_sees_is_told_to_all(
    server: SlackServer, bot: SlackBot
) -> None:
    await server.press("/start_run mar13 go", message="1700000001.000001", ephemeral=True, label="Start")
    (posted,) = await called(server, "chat.postMessage")
    assert shown(posted) == ["Run mar13 started.", "alice pressed Start"]
    (gone,) = await called(server, "respond")
    assert gone["delete_original"] is True


async def test_a_brief_answer_to_a_press_is_for_who_pressed(server: SlackServer, bot: SlackBot) -> None:
    bot.brief = True
    await server.press("/pause", message="1700000001.000001")
    (seen,) = await called(server, "respond")
    assert seen["response_type"] == "ephemeral"
    await server.command("notify keeps")
    await called(server, "chat.postMessage")


async def test_what_takes_longer_than_a_second_says_so_until_the_answer_is_there(server: SlackServer) -> None:
    async with slack_bot(server, pace=replace(STEADY, working=SlackPace().working)) as bot:
        await bot.linked()
        root = await card(server)
        await server.open_home()
        view = await server.until(server.workspace.home)

        async def read() -> list[tuple[Any, list[str]]]:
            """Return what all see beside the card, each with its thread."""
            messages = server.workspace.shown()[1:] + server.workspace.shown(CHAT)
            return [(each.get("thread_ts"), shown(Call("", each))) for each in messages]

        await server.command("slow")
        await server.press("/slow", message=root)
        await server.say("slow", channel=CHAT)
        await called(server, "chat.postMessage", 4)
        expected = [(None, [WORKING, "alice: /slow"]), (root, [WORKING, "alice pressed Pause"])]
        assert await read() == [*expected, (None, [WORKING])]
        await server.act("interactive", payloads.home_press("/slow", view))
        await server.until(lambda: WORKING in str(server.workspace.home()))
        bot.done.set()
        await called(server, "chat.delete", 3)
        assert [(thread, said[0]) for thread, said in await read()] == [
            (None, "At last."),
            (root, "At last."),
            (None, "At last."),
        ]
        assert server.called("respond") == []
        await server.until(lambda: "At last." in str(server.workspace.home()))
        assert WORKING not in str(server.workspace.home())


@pytest.mark.parametrize("ends", ["fails", "is cancelled"])
async def test_nothing_stays_of_what_was_never_answered(server: SlackServer, ends: str) -> None:
    async with slack_bot(server, pace=replace(STEADY, working=SlackPace().working)) as bot:
        await bot.linked()
        await server.command("slow")
        await called(server, "chat.postMessage")
        if ends == "fails":
            server.fail("chat.postMessage", *[Fault(word="is_archived")] * 2)
            bot.done.set()
            await called(server, "chat.delete")
    assert server.workspace.shown() == []


async def test_where_the_bot_cannot_write_the_answer_comes_without_a_sign(server: SlackServer) -> None:
    async with slack_bot(server, pace=replace(STEADY, working=SlackPace().working)) as bot:
        await bot.linked()
        await server.command("slow", channel=FOREIGN)
        await called(server, "chat.postMessage")
        assert server.called("conversations.join") == []
        bot.done.set()
        await server.until(lambda: server.workspace.shown(FOREIGN))
        assert server.called("chat.delete") == []


# Nothing asked


@pytest.mark.parametrize(("user", "steers"), [("U0ALICE", True), ("U0BOB", False)])
async def test_the_command_alone_is_a_short_list_with_buttons(
    server: SlackServer, bot: SlackBot, user: str, steers: bool
) -> None:
    await server.command("", user=user)
    (seen,) = await called(server, "respond")
    assert seen["response_type"] == "ephemeral"
    offered = buttons(seen["blocks"])
    assert {"/status", "/results", "/plot", "/help"} <= set(offered.values())
    assert ({"/start_run", "/idea"} <= set(offered.values())) is steers
    assert bot.asked == []
    lines = shown(seen)[0].split("\n")
    assert len(lines) <= 12
    assert "/autoresearch status" in lines[-1]


def test_every_button_of_the_menu_is_a_command_or_opens_a_form() -> None:
    for role in Role:
        for button in (button for row in menu(role).buttons for button in row):
            command = find_command(button.command)
            assert command.role <= role
            assert command.name in FORMS or not any(one.required for one in command.parameters)


def test_reading_is_what_a_viewer_may() -> None:
    assert {one.name for one in COMMANDS if one.role is Role.VIEWER} - {"card", "start"} == READING


def test_buttons_that_a_role_may_not_press_are_left_out() -> None:
    rows = ((Button("Pause", "/pause"), Button("Plot", "/plot")), (Button("Stop", "/stop"),))
    message = Message("", buttons=rows)
    assert pressable(message, Role.OPERATOR) == message
    assert pressable(message, Role.VIEWER).buttons == ((Button("Plot", "/plot"),),)


# Strangers


async def test_a_stranger_is_told_whom_to_ask_and_nothing_else(server: SlackServer, bot: SlackBot) -> None:
    await server.command("status", user="U0STRANGER", name="eve")
    (seen,) = await called(server, "respond")
    assert seen["response_type"] == "ephemeral"
    (section,) = seen["blocks"][0]["elements"]
    assert {"type": "user", "user_id": "U0ALICE"} in section["elements"]
    assert "U0BOB" not in str(section)  # may not steer
    assert "U0STRANGER" in str(section)
    assert ALLOWED.users_setting in str(section)
    await server.say(f"<@{BOT}> status", user="U0STRANGER")
    await server.until(lambda: len(bot.delivered) == 3)  # the mention arrives twice
    (whispered,) = await called(server, "chat.postEphemeral")
    assert whispered["user"] == "U0STRANGER"
    await server.press("/pause", message=await card(server), user="U0STRANGER")
    await called(server, "respond", 2)
    assert len(server.called("chat.postEphemeral")) == 1
    assert len(server.called("chat.postMessage")) == 1  # the card


async def test_strangers_of_other_workspaces_get_no_answer(server: SlackServer, bot: SlackBot) -> None:
    await server.say("!status", user="U0STRANGER", team="T0OTHER")
    await server.say("!status", user="U0STRANGER", team="T0TEAM")
    await called(server, "chat.postEphemeral")
    assert len(bot.delivered) == 2
    assert len(server.called("chat.postEphemeral")) == 1


async def test_as_long_as_nobody_is_listed_nobody_is_a_stranger(server: SlackServer) -> None:
    async with slack_bot(server, allowed=AllowList()) as bot:
        await bot.linked()
        await server.say("!status", user="U0STRANGER")
        await server.command("", user="U0STRANGER")
        await server.command("idea")
        await called(server, "chat.postMessage")
        assert [request.text for request in bot.delivered] == ["/status", "/id", "/idea"]
        assert server.called("respond") == server.called("chat.postEphemeral") == []


@pytest.mark.parametrize(
    ("users", "places", "sender", "named"),
    [
        ({"U1": None}, {"C1": None}, ("U2", "C1"), {"<@U1>", "U2"}),
        ({"U1": Role.VIEWER, "U3": Role.OPERATOR}, {}, ("U2", "D2"), {"<@U3>", "U2"}),
        ({"U1": Role.VIEWER}, {}, ("U2", "D2"), {"U2"}),
        ({"U1": None}, {"C1": None}, ("U1", "C2"), {"<#C1>"}),
        ({"U1": None}, {}, ("U1", "C2"), set()),
        ({}, {"C1": None, "C2": None}, ("U2", "C3"), {"<#C1>", "<#C2>"}),
        ({}, {"D1": None}, ("U2", "C3"), {"U2"}),
    ],
)
def test_who_is_turned_away_learns_where_or_whom_to_ask(
    users: dict[str, Role | None], places: dict[str, Role | None], sender: tuple[str, str], named: set[str]
) -> None:
    allowed = AllowList(users, places, "SETTING", "OTHER")
    rendered = turned_away(allowed, Sender("slack", sender[0], sender[1], "eve"))
    assert {*re.findall(r"<[@#]\w+>|\bU\d\b(?!>)", rendered.text)} == named
    assert ("SETTING" in rendered.text) is ("U2" in named)
    assert list(faults(rendered.blocks)) == []
