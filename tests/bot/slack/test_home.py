"""The Home tab: filled for those who may read, kept up to date, and never flooded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.commands.access import Role, Sender
from bot.slack import home as module
from bot.slack.answers import turned_away
from notifiers.message import Attachment, Button, Message, Reply
from tests.bot.slack_bot import ALLOWED, CHART, STEADY, SlackBot, called, eventually, shown, slack_bot
from tests.servers import slack_payloads as payloads
from tests.servers.slack_rules import pictures, texts, view_refusal
from tests.servers.slack_server import LIMITED, Fault, SlackServer
from tests.servers.slack_workspace import CHAT

RUNNING = Message("Run mar12: running", buttons=((Button("Pause", "/pause"), Button("Refresh", "/status")),))

LOOKS_OFTEN = replace(STEADY, home=0.05)


def labels(view: dict[str, Any]) -> list[str]:
    rows = [block["elements"] for block in view["blocks"] if block["type"] == "actions"]
    return [element["text"]["text"] for row in rows for element in row]


def read(server: SlackServer, user: str = "U0ALICE") -> str:
    """Return what somebody's tab says, but for its buttons and when that was."""
    return "\n".join(texts(server.workspace.home(user).get("blocks", [])))


async def press(server: SlackServer, value: str, *, user: str = "U0ALICE", label: str = "Pause") -> None:
    view = server.workspace.home(user)
    await server.act("interactive", payloads.home_press(value, view, user=user, label=label))


async def charted(server: SlackServer) -> None:
    await server.until(lambda: [*pictures(server.workspace.home().get("blocks", []))])


async def test_who_may_read_sees_card_best_chart_and_buttons(server: SlackServer, bot: SlackBot) -> None:
    bot.card = Reply(RUNNING)
    await server.open_home()
    await charted(server)
    view = server.workspace.home()
    said = read(server)
    assert said.startswith("Run mar12: running")
    assert "You said best." in said
    assert {"Pause", "Refresh", "Results", "Start a run", "New idea"} <= set(labels(view))
    assert [server.workspace.files[file] for file in pictures(view["blocks"])] == [CHART.content]
    first, second = server.called("views.publish")
    assert "Run mar12: running" in str(first["view"])  # before the chart is drawn
    assert (first["user_id"], second["user_id"]) == ("U0ALICE", "U0ALICE")
    assert {request.sender.user for request in bot.delivered} == {"U0ALICE"}


async def test_without_a_result_no_chart_is_drawn(server: SlackServer, bot: SlackBot) -> None:
    bot.results = ""
    await server.open_home()
    await server.until(lambda: bot.delivered and bot.delivered[-1].text == "/results 1")
    await press(server, "/status")
    await called(server, "views.publish", 2)
    assert "/plot" not in [request.text for request in bot.delivered]


async def test_a_viewer_sees_no_buttons_that_steer(server: SlackServer, bot: SlackBot) -> None:
    bot.card = Reply(RUNNING)
    await server.open_home(user="U0BOB")
    await server.until(lambda: server.workspace.home("U0BOB"))
    shown_to_bob = labels(server.workspace.home("U0BOB"))
    assert "Results" in shown_to_bob
    assert not {"Pause", "Start a run", "New idea"} & set(shown_to_bob)


async def test_a_stranger_is_told_whom_to_ask(server: SlackServer, bot: SlackBot) -> None:
    await server.open_home(user="U0STRANGER")
    await server.until(lambda: server.workspace.home("U0STRANGER"))
    asked = turned_away(ALLOWED, Sender("slack", "U0STRANGER", "D0STRANGER", "eve"))
    assert server.workspace.home("U0STRANGER")["blocks"][:-1] == asked.blocks
    assert bot.delivered == []
    await server.open_home(tab="messages")
    await server.command("notify keeps")
    await called(server, "chat.postMessage")
    assert server.workspace.home() == {}


async def test_a_press_is_answered_in_the_tab_and_nowhere_else(server: SlackServer, bot: SlackBot) -> None:
    bot.card = Reply(RUNNING)
    await server.open_home()
    await charted(server)
    bot.card = Reply(Message("Run mar12: paused"))
    await press(server, "/pause")
    await server.until(lambda: "You said pause." in read(server))
    assert "Run mar12: paused" in read(server)
    request = next(one for one in bot.asked if one.text == "/pause")
    assert (request.sender.place, request.sender.channel) == (CHAT, f"slack:{CHAT}:home")
    await press(server, "/nonsense")
    await server.until(lambda: "There is no /nonsense." in read(server))
    assert "You said pause." not in read(server)
    assert server.called("chat.postMessage") == server.called("chat.postEphemeral") == []
    await server.open_home()
    await server.until(lambda: "There is no /nonsense." not in read(server))


@pytest.mark.parametrize("value", ["/status", "/plot"])
async def test_a_refresh_is_seen_even_if_nothing_is_new(
    server: SlackServer, bot: SlackBot, value: str
) -> None:
    await server.open_home()
    await charted(server)
    before = len(server.called("views.publish"))
    said = read(server)
    await press(server, value)
    await called(server, "views.publish", before + 1)
    assert read(server) == said
    assert len(server.workspace.files) == 1  # the chart before it is deleted


async def test_forms_open_from_the_tab_and_their_result_stands_there(
    server: SlackServer, bot: SlackBot
) -> None:
    await server.open_home()
    await charted(server)
    await press(server, "/idea", label="New idea")
    (view,) = await server.until(server.workspace.modals)
    await server.submit(view, "DEPTH 9")
    await server.until(lambda: "You said idea DEPTH 9." in read(server))
    assert server.called("chat.postMessage") == []


async def test_a_tab_is_kept_up_to_date_and_only_what_is_new_is_sent(server: SlackServer) -> None:
    async with slack_bot(server, pace=LOOKS_OFTEN) as bot:
        await bot.linked()
        bot.card = Reply(RUNNING)
        await server.open_home()
        await server.open_home(user="U0BOB")
        await charted(server)
        await server.until(lambda: [*pictures(server.workspace.home("U0BOB").get("blocks", []))])
        published = len(server.called("views.publish"))
        looks = len(bot.delivered)
        await server.until(lambda: len(bot.delivered) >= looks + 20)
        assert len(server.called("views.publish")) == published
        bot.card = Reply(Message("Run mar12: done"))
        await server.until(lambda: "done" in read(server) and "done" in read(server, "U0BOB"))
        assert len(server.called("views.publish")) == published + 2
        drawn = [request for request in bot.delivered if request.text == "/plot"]
        assert len(drawn) == 1  # for both, as there was no new result


async def test_new_results_bring_a_new_chart_at_most_every_few_minutes(
    server: SlackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with slack_bot(server, pace=LOOKS_OFTEN) as bot:
        await bot.linked()
        await server.open_home()
        await charted(server)
        bot.results, bot.chart = "24 experiments", Attachment("new.png", b"\x89PNG new")
        looks = len(bot.delivered)
        await server.until(lambda: len(bot.delivered) >= looks + 20)
        assert [*server.workspace.files.values()] == [CHART.content]
        monkeypatch.setattr(module, "CHART_SECONDS", 0.0)
        await server.until(lambda: [*server.workspace.files.values()] == [b"\x89PNG new"])
        await server.until(
            lambda: {*pictures(server.workspace.home()["blocks"])} == server.workspace.readable
        )


async def test_a_rate_limit_is_obeyed_and_nothing_is_lost(server: SlackServer) -> None:
    async with slack_bot(server, pace=LOOKS_OFTEN) as bot:
        await bot.linked()
        bot.card = Reply(RUNNING)
        server.fail("views.publish", LIMITED, Fault(status=503))
        await server.open_home()
        await server.until(lambda: "running" in read(server))
        assert len(server.called("views.publish")) <= 4


async def test_a_chart_that_slack_does_not_take_leaves_the_rest(server: SlackServer) -> None:
    async with slack_bot(server, pace=LOOKS_OFTEN) as bot:
        await bot.linked()
        server.fail("views.publish", Fault(), Fault(word="invalid_arguments"))
        await server.open_home()
        await called(server, "views.publish", 2)
        bot.card = Reply(RUNNING)
        await server.until(lambda: "running" in read(server))
        assert [*pictures(server.workspace.home()["blocks"])] == []


async def test_only_the_tabs_opened_last_are_kept_up_to_date(
    server: SlackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_TABS", 1)
    async with slack_bot(server, pace=LOOKS_OFTEN) as bot:
        await bot.linked()
        await server.open_home(user="U0BOB")
        await server.until(lambda: server.workspace.home("U0BOB"))
        await server.open_home()
        await charted(server)
        bot.card = Reply(Message("Run mar12: done"))
        await server.until(lambda: "done" in read(server))
        assert "done" not in read(server, "U0BOB")
        monkeypatch.setattr(module, "OPEN_SECONDS", 0.0)
        await eventually(lambda: not bot.front._home._tabs)


async def test_a_tab_that_was_open_before_a_restart_is_kept_up_to_date(
    server: SlackServer, tmp_path: Path
) -> None:
    tabs = tmp_path / "tabs.json"
    options: dict[str, Any] = {"pace": LOOKS_OFTEN, "home_tabs": tabs}
    async with slack_bot(server, **options) as bot:
        await bot.linked()
        await server.open_home()
        await server.open_home(user="U0BOB")
        await eventually(lambda: tabs.exists() and "U0BOB" in tabs.read_text())
    only_alice = replace(ALLOWED, users={"U0ALICE": None})
    async with slack_bot(server, **options, allowed=only_alice) as bot:
        await bot.linked(2)  # what is pressed before goes to the link of the first
        bot.card = Reply(Message("Run mar12: done"))
        await server.until(lambda: "done" in read(server))
        await press(server, "/pause")
        await server.until(lambda: "You said pause." in read(server))
        assert "done" not in read(server, "U0BOB")


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "{}", '[["U0ALICE", "D0ALICE", "alice"]]', '[[[], 1, "", 2]]']
)
async def test_a_file_that_does_not_say_who_had_tabs_is_passed_over(
    server: SlackServer, tmp_path: Path, text: str
) -> None:
    tabs = tmp_path / "tabs.json"
    tabs.write_text(text)
    async with slack_bot(server, home_tabs=tabs) as bot:
        await bot.linked()
        assert bot.front._home._tabs == {}
        await server.open_home()
        await eventually(lambda: "U0ALICE" in tabs.read_text())


async def test_an_app_without_the_tab_is_said_once(
    server: SlackServer, bot: SlackBot, caplog: pytest.LogCaptureFixture
) -> None:
    server.fail("views.publish", *[Fault(word="not_enabled")] * 4)
    for _ in range(3):
        await server.open_home()
    await called(server, "views.publish", 3)
    await server.command("notify keeps")
    (posted,) = await called(server, "chat.postMessage")
    assert shown(posted)[0] == "You said notify keeps."
    warned = [record for record in caplog.records if "not_enabled" in record.message]
    assert [record.levelname for record in warned].count("WARNING") == 1


LONG = st.builds(lambda text, times: text * times, st.text(max_size=200), st.integers(1, 200))


@given(LONG, LONG, st.integers(0, 60))
def test_slack_takes_any_tab(text: str, block: str, rows: int) -> None:
    buttons = tuple((Button("Pause", "/pause"),) for _ in range(rows))
    part = Message(text, block, buttons)
    parts = [module.part(Reply(part), Role.OPERATOR) for _ in range(3)]
    blocks = module.joined([*parts, module.menu_part(Role.OPERATOR)])
    view = {"type": "home", "blocks": [*blocks, module.dated(1.0)], "private_metadata": CHAT}
    assert view_refusal(view, "home") == ""
