"""The forms for a run and an idea: opened in time, filled in, refused at their field."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.commands.access import Request
from bot.slack.modals import FIELD, idea_form, start_form
from bot.slack.requests import AskedOnSlack, from_shortcut
from loop.proposers.people import IDEA_CHARACTERS
from notifiers.message import Button, Message, Reply
from tests.bot.slack_bot import PLAN, STEADY, SlackBot, called, card, shown, slack_bot
from tests.servers import slack_payloads as payloads
from tests.servers.slack_rules import texts, view_refusal
from tests.servers.slack_server import Fault, SlackServer
from tests.servers.slack_workspace import CHANNEL


@pytest.fixture
async def late(server: SlackServer) -> AsyncIterator[SlackBot]:
    """A bot that acknowledges forms before anything can be done about them."""
    async with slack_bot(server, pace=replace(STEADY, form=0.0)) as running:
        await running.linked()
        yield running


async def opened(server: SlackServer, title: str, field: bool = True) -> dict[str, Any]:
    """Return the modal of a title as soon as it has a field to fill in, or text alone."""

    def found() -> dict[str, Any]:
        for view in server.workspace.modals():
            fields = [block for block in view["blocks"] if block["type"] == "input"]
            if view["title"]["text"] == title and bool(fields) is field:
                return view
        return {}

    return await server.until(found)


def begins_with(view: dict[str, Any]) -> str:
    field = next(block for block in view["blocks"] if block["type"] == "input")
    return str(field["element"].get("initial_value", ""))


async def test_an_idea_is_asked_for_and_queued_where_it_was_asked_for(
    server: SlackServer, bot: SlackBot
) -> None:
    await server.command("idea")
    view = await opened(server, "New idea")
    assert begins_with(view) == ""
    assert bot.asked == []
    assert await server.submit(view, " WARMDOWN_RATIO\n 0.6 ") == {}
    (posted,) = await called(server, "chat.postMessage")
    assert posted["channel"] == CHANNEL
    assert shown(posted) == ["You said idea WARMDOWN_RATIO 0.6.", "alice: /idea WARMDOWN_RATIO 0.6"]
    (request,) = bot.asked
    assert (request.text, request.sender.place) == ("/idea WARMDOWN_RATIO 0.6", CHANNEL)
    assert request.sender.user == "U0ALICE"


async def test_no_form_is_opened_where_a_run_takes_no_ideas(server: SlackServer, bot: SlackBot) -> None:
    bot.asks_for_idea = Reply(Message("Run mar12 is stopped."), refused=True)
    await server.command("idea")
    (seen,) = await called(server, "respond")
    assert (seen["response_type"], shown(seen)) == ("ephemeral", ["Run mar12 is stopped."])
    assert server.called("views.open") == []


async def test_a_form_that_is_refused_says_so_at_its_field_and_stays(
    server: SlackServer, bot: SlackBot
) -> None:
    await server.command("idea")
    view = await opened(server, "New idea")
    answer = await server.submit(view, "DEPTH banana")
    assert answer == {"response_action": "errors", "errors": {FIELD: "DEPTH takes a number."}}
    assert server.called("chat.postMessage") == []
    assert await server.submit(view, "DEPTH 9") == {}
    await called(server, "chat.postMessage")
    assert server.workspace.modals() == []


async def test_a_run_is_started_from_the_plan_that_the_form_shows(server: SlackServer, bot: SlackBot) -> None:
    await server.command("start_run")
    view = await opened(server, "Start a run")
    assert begins_with(view) == "mar13"
    assert next(texts(view["blocks"])).startswith("Start run mar13?\nBudget")
    answer = await server.submit(view, "mar12")
    assert answer["errors"] == {FIELD: "There is a run mar12 already."}
    assert (await server.submit(view, "two words"))["response_action"] == "errors"
    assert await server.submit(view, "wide") == {}
    (posted,) = await called(server, "chat.postMessage")
    assert shown(posted)[0] == "Run wide started."
    assert [request.text for request in bot.asked] == [
        "/start_run",
        "/start_run mar12 go",
        "/start_run wide go",
    ]


async def test_what_a_run_can_be_started_with_is_a_choice(server: SlackServer, bot: SlackBot) -> None:
    modes = tuple(Button(f"Start: {mode}", f"/start_run mar13 {mode} go") for mode in ("all", "morning"))
    bot.plan = Reply(replace(PLAN, buttons=(*PLAN.buttons, modes)))
    await server.command("start_run")
    view = await opened(server, "Start a run")
    options = view["blocks"][-1]["element"]["options"]
    assert [option["text"]["text"] for option in options] == ["all", "morning"]
    await server.submit(view, "wide")
    await bot.asks(2)
    assert bot.asked[-1].text == "/start_run wide morning go"


async def test_a_run_that_cannot_be_started_is_explained_without_a_field(
    server: SlackServer, bot: SlackBot
) -> None:
    bot.plan = Reply(Message("Not now: run mar12 is active."), refused=True)
    await server.press("/start_run", message=await card(server), label="Start a run")
    view = await opened(server, "Start a run", field=False)
    await server.until(lambda: "Not now" in str(server.workspace.modals()))
    assert "submit" not in view


@pytest.mark.parametrize(("text", "said"), [("slow", "At last."), ("banana", "DEPTH takes a number.")])
async def test_a_form_is_acknowledged_in_time_whatever_it_takes(
    server: SlackServer, late: SlackBot, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    obey = late.answer

    async def slow(request: Request) -> Reply | None:
        await late.done.wait()
        return (
            await obey(Request(request.sender, "/slow", request.key, 0.0))
            if "slow" in request.text
            else (await obey(request))
        )

    monkeypatch.setattr(late.front, "_modals", replace(late.front._modals, answer=slow))
    await server.command("idea")
    view = await opened(server, "New idea")
    answer = await server.submit(view, text)
    assert answer["response_action"] == "update"
    assert server.called("views.update") == []
    late.done.set()
    await called(server, "views.update")
    assert said in str(server.workspace.views[view["id"]])
    if text == "slow":
        await called(server, "chat.postMessage")
    else:
        assert server.called("chat.postMessage") == []


async def test_a_mistake_of_ours_leaves_the_form_open(
    server: SlackServer, bot: SlackBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(request: Request) -> Reply | None:
        if request.text == "/new_idea":
            return bot.asks_for_idea
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(bot.front, "_modals", replace(bot.front._modals, answer=broken))
    await server.command("idea")
    view = await opened(server, "New idea")
    answer = await server.submit(view, "DEPTH 9")
    assert answer["response_action"] == "errors"
    assert server.workspace.modals() == [view]


@pytest.mark.parametrize("word", ["expired_trigger_id", "invalid_trigger_id", "fatal_error"])
async def test_where_slack_opens_no_form_the_command_is_answered_as_a_message(
    server: SlackServer, bot: SlackBot, word: str
) -> None:
    server.fail("views.open", Fault(word=word))
    await server.command("start_run")
    (posted,) = await called(server, "chat.postMessage")
    assert "Start run mar13?" in shown(posted)[0]


async def test_a_command_that_comes_again_opens_nothing_more(server: SlackServer, bot: SlackBot) -> None:
    body = payloads.command("idea", channel=CHANNEL, response_url=server.response_url())
    await server.act("slash_commands", body)
    await opened(server, "New idea")
    await server.socket.deliver("slash_commands", body)
    await called(server, "views.open", 2)
    await server.command("notify keeps")
    await called(server, "chat.postMessage")
    assert [request.text for request in bot.asked] == ["/notify keeps"]
    assert len(server.workspace.modals()) == 1


async def test_arguments_a_message_or_a_viewer_open_no_form(server: SlackServer, bot: SlackBot) -> None:
    await server.command("idea DEPTH 9")
    await server.say("!start_run")  # Slack gives a message nothing to open a modal with
    await server.command("start_run", user="U0BOB")
    await bot.asks(3)
    assert server.called("views.open") == []


# "Try this", in the menu of a message


async def test_a_message_becomes_an_idea_and_its_thread_hears_of_it(
    server: SlackServer, bot: SlackBot
) -> None:
    ts = server.workspace.note(CHANNEL, {"text": "try <https://a.org|a.org> &amp; DEPTH 9", "user": "U0BOB"})
    url = server.response_url()
    body = payloads.shortcut("DEPTH 9 &amp; more <@U0BOB>", channel=CHANNEL, ts=ts, response_url=url)
    await server.act("interactive", body)
    view = await opened(server, "New idea")
    assert begins_with(view) == "DEPTH 9 & more @U0BOB"
    await server.submit(view, "DEPTH 9")
    (posted,) = await called(server, "chat.postMessage")
    assert posted["thread_ts"] == ts
    assert (bot.asked[0].text, bot.asked[0].message_id) == ("/idea DEPTH 9", ts)


async def test_a_viewer_tries_nothing(server: SlackServer, bot: SlackBot) -> None:
    url = server.response_url()
    body = payloads.shortcut("banana", channel=CHANNEL, ts="1.2", response_url=url, user="U0BOB", name="bob")
    await server.act("interactive", body)
    (answer,) = await called(server, "respond")
    assert answer["response_type"] == "ephemeral"
    assert server.called("views.open") == []


def test_other_shortcuts_are_left_alone() -> None:
    body = payloads.shortcut("x", channel=CHANNEL, ts="1.2", response_url="https://a.org")
    assert from_shortcut({**body, "callback_id": "other"}, now=1.0) is None
    asked = from_shortcut({**body, "message": {"ts": "1.2"}}, now=1.0)
    assert isinstance(asked, AskedOnSlack)
    assert asked.wants_form


@given(st.text(max_size=3 * IDEA_CHARACTERS), st.text(max_size=9000), st.text(min_size=1, max_size=60))
def test_slack_takes_any_form(text: str, plan: str, tag: str) -> None:
    about = json.dumps({"place": CHANNEL, "url": "u" * 200})
    assert view_refusal(idea_form(about, text), "modal") == ""
    start = "".join(tag.split())[:10] or "t"
    for buttons in ((), ((Button("Start", f"/start_run {start} go"),),)):
        form = start_form(about, Reply(Message(plan, buttons=buttons)))
        assert view_refusal(form, "modal") == ""
        assert ("submit" in form) is bool(buttons)
