"""What people want next, from a chat: replies to digests, ideas, more like this, never again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from telegram import Update, User

from bot.commands.access import Request
from bot.commands.ideas import NEEDS_A_MODEL
from bot.commands.table import parse_reply
from bot.slack.requests import from_event
from bot.telegram.updates import asked_in
from loop.errors import UserError
from loop.evidence import Wish
from loop.experiment import EventKind, Stage, Status
from loop.store.experiments import IdeaBox, Wishes
from loop.store.outbox import Entry, Outbox, State
from notifiers.channels.telegram_places import Places
from notifiers.message import Reply
from tests.bot.test_inbox import ANN, VIEWER, Office
from tests.loop.store.test_journal import make_experiment


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """An office with a run of two experiments that nobody conducts; #1 changed a constant."""
    office = Office(tmp_path)
    run = office.host.start_run("mar12")
    first = replace(make_experiment(run, 0), commit="a" * 40, constants={"WIDTH": 64})
    second = replace(make_experiment(run, 1), parent="a" * 40, constants={"WIDTH": 96})
    second = replace(second, description="WIDTH 96", stage=Stage.DECIDED)
    office.journal.record(replace(first, status=Status.KEEP))
    office.journal.record(replace(second, status=Status.DISCARD, value=1.2))
    with closing(office.journal):
        yield office


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("diff", "diff", {"n": "12"}),
        ("/diff", "diff", {"n": "12"}),
        ("Log", "log", {"n": "12"}),
        ("diff 3", "diff", {"n": "3"}),
        ("again", "rerun", {"n": "12"}),
        ("again x3", "rerun", {"n": "12", "k": "3"}),
        ("reject", "reject", {"n": "12"}),
        ("never off", "never", {"n": "12", "off": "off"}),
        ("status", "status", {}),
        ("MATRIX_LR 0.05", "idea", {"text": "MATRIX_LR 0.05", "n": "12"}),
        ("more layers of it", "idea", {"text": "more layers of it", "n": "12"}),
        ("skip connections between layers", "idea", {"text": "skip connections between layers", "n": "12"}),
    ],
)
def test_what_a_reply_to_a_digest_means(text: str, name: str, arguments: dict[str, str]) -> None:
    call = parse_reply(text, 12)
    assert (call.command.name, dict(call.arguments)) == (name, arguments)


def test_a_slip_in_a_reply_is_no_idea() -> None:
    with pytest.raises(UserError, match="did you mean /diff"):
        parse_reply("dif", 12)


async def test_a_reply_is_about_the_experiment_of_its_message(office: Office) -> None:
    (run,) = office.journal.runs()
    (decided,) = [e for e in office.journal.events_after(0) if e.kind is EventKind.DECIDED and e.number == 1]
    outbox = Outbox(office.journal, ANN.channel, now=lambda: office.now)
    outbox.open()
    outbox.record([Entry(decided.id, State.SENT)], message_id="501")
    outbox.put_card(run.id, "500")

    async def reply(text: str, to: str) -> Reply | None:
        return await office.inbox.answer(
            Request(ANN, text, f"{text}{to}", office.now, message_id="9", replied_to=to)
        )

    for message, text in (("501", "make it wider"), ("500", "wider still")):  # the digest; and the card
        asked = await reply(text, message)
        assert asked is not None
        assert f"{text} (about #1: WIDTH 96)" in asked.message.text
    assert await reply("thanks, all of you", "499") is None  # people talk
    refused = await reply("/thanks", "499")
    assert refused is not None
    assert refused.refused
    office.host.current.now = lambda: replace(run, id=7)  # type: ignore[method-assign] # another run began
    late = await reply("wider still", "501")
    assert late is not None
    assert late.refused


async def test_people_say_more_or_never_and_take_it_back(office: Office) -> None:
    (run,) = office.journal.runs()
    assert (await office.said("/more 1", VIEWER)).startswith("refused: ")
    assert await office.said("/never 0") == "refused: Experiment #0 is the baseline: it changes nothing."
    reply = await office.ask("/never 1")
    assert reply is not None
    assert reply.message.text == "Nothing like #1 again: no proposal sets WIDTH 96 or goes beyond."
    assert [wished.wish for wished in Wishes(office.journal).read(run.id)] == [Wish.NEVER]
    assert "Steering\nnever again #1 WIDTH 96 (ann); /never 1 off" in await office.said("/ideas")
    (take_back,) = reply.message.buttons[0]
    for answer in ("#1 steers no longer", "There is nothing to take back for #1."):
        taken_back = await office.press(take_back)
        assert taken_back.message.text == answer
    assert taken_back.refused
    assert await office.said("/more 1") == (
        "More like #1 comes next: WIDTH further the same way, then others of that family."
    )
    assert await office.said("/more 1") == "refused: Already noted: More like #1 comes next."


async def test_an_idea_that_cannot_be_is_refused_and_one_that_waits_can_be_dropped(office: Office) -> None:
    (run,) = office.journal.runs()
    for idea, why in {
        "WIDTH 0": "WIDTH must be above 0",
        "WIDTH = -64": "WIDTH must be above 0",
        "LEARNING_RATE = -0.1": "LEARNING_RATE cannot be negative",
    }.items():
        assert (await office.said(f"/idea {idea}")).startswith(f"refused: Not queued: {why}"), idea
    assert NEEDS_A_MODEL in await office.said("/idea make it wider")
    assert await office.said("/idea drop 1") == "Idea #1 is dropped: make it wider"
    assert (await office.said("/idea drop #1")).startswith("refused: No idea #1 is waiting")
    assert IdeaBox(office.journal).waiting(run.id) == ()
    (noted,) = [e for e in office.journal.events_after(0) if e.kind is EventKind.NOTED]
    assert noted.data["answered_in"] == ANN.channel


@pytest.mark.parametrize(("author", "asks"), [(1, True), (8, False)])
def test_in_a_group_on_telegram_only_replies_to_the_bot_are_for_it(author: int, asks: bool) -> None:
    group = {"id": -1001, "type": "supergroup", "title": "lab"}
    digest = {"message_id": 501, "date": 0, "chat": group, "text": "Experiment #12"}
    digest["from"] = {"id": author, "is_bot": author == 1, "first_name": "x"}
    said = {"message_id": 502, "date": 5, "chat": group, "text": "again x3", "reply_to_message": digest}
    said["from"] = {"id": 7, "is_bot": False, "first_name": "ann"}
    update = Update.de_json({"update_id": 1, "message": said})
    asked = asked_in(update, me=User(1, "bot", is_bot=True), now=0.0, places=Places(["-1001"]))
    assert (asked is not None) is asks
    if asked is not None:
        assert (asked.request.text, asked.request.replied_to) == ("again x3", "501")


def test_a_reply_on_slack_is_about_its_thread() -> None:
    event = {"type": "app_mention", "user": "U0ALICE", "channel": "C1", "ts": "2.0", "thread_ts": "1.0"}
    asked = from_event({"event": event | {"text": "<@U0BOT> make it wider"}}, me="U0BOT", now=0.0)
    assert asked is not None
    assert (asked.request.text, asked.request.replied_to) == ("/make it wider", "1.0")


async def test_the_report_names_the_idea_that_really_comes_next(office: Office) -> None:
    (run,) = office.journal.runs()
    box = IdeaBox(office.journal)
    box.add(run.id, "make it wider", author="ann")  # for which there is no model
    assert "make it wider" not in await office.said("/summary")
    box.add(run.id, "WIDTH 100", author="bob")
    assert "Next: WIDTH 100 (idea of bob)" in await office.said("/summary")
