"""What is asked in the topic, in the thread or under a message of a run that is no longer the current one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot.commands.access import Request
from bot.commands.ideas import NOTHING_TO_STEER
from bot.commands.table import with_run, without_run
from loop.experiment import EventKind, Run, RunState, Status
from loop.store.outbox import Entry, Outbox, State
from notifiers import charts
from notifiers.message import Reply
from tests.bot.test_inbox import ANN, Office, opened
from tests.loop.store.test_journal import make_experiment

TOPIC, CARD, DIGEST, ANSWER, OTHER_TOPIC = "15/900", "500", "501", "777", "99/900"
QUESTIONS = ("/status", "/card", "/results", "/best", "/diff 1", "/diff 0 1", "/log 1", "/summary", "/plot")
ORDERS = (
    *("/pause", "/pause now", "/resume", "/stop", "/skip", "/rerun 1", "/accept 1", "/reject 1"),
    *("/certify", "/prune", "/idea WIDTH 80", "/idea drop 1", "/more 1", "/never 1", "/never 1 off"),
)


class House(Office):
    """Run old, which is stopped and has been told in a forum, and run new, which goes on."""

    old: Run
    new: Run

    def begin(self) -> None:
        self.old = self._run("old", "WIDTH 96")
        self.journal.set_state(self.old, RunState.STOPPED)
        self.new = self._run("new", "WIDTH 80")
        (decided,) = [
            event
            for event in self.journal.events_after(0)
            if event.kind is EventKind.DECIDED and (event.run_id, event.number) == (self.old.id, 1)
        ]
        outbox = Outbox(self.journal, ANN.channel)
        outbox.open()
        outbox.record([Entry(decided.id, State.SENT)], message_id=DIGEST)
        outbox.put_card(self.old.id, CARD, closed=True)
        topics = Outbox(self.journal, f"{ANN.channel}:topics")
        topics.put_card(self.old.id, "15/old")
        topics.put_card(self.new.id, "16/new")

    def _run(self, tag: str, change: str) -> Run:
        run = self.host.start_run(tag)
        workspace = self.host.workspace(run)
        source = workspace.source(run.base_commit)
        commit = workspace.commit(run.base_commit, f"{source}# {change}\n", change)
        baseline, first = make_experiment(run, 0, Status.KEEP), make_experiment(run, 1, Status.KEEP)
        self.journal.record(
            replace(baseline, commit=run.base_commit, value=1.1),
            replace(first, parent=run.base_commit, commit=commit.sha, description=change, value=1.0),
        )
        return run

    async def tap(self, pressed: str, message: str) -> str:
        """Press a button under a message, as both fronts take it."""
        text, run = without_run(pressed)
        return await self._asked(Request(ANN, text, str(self.keys), self.now, message, True, run=run))

    async def write(self, text: str, message: str, *, replied_to: str = "") -> str:
        return await self._asked(Request(ANN, text, str(self.keys), self.now, message, replied_to=replied_to))

    async def _asked(self, request: Request) -> str:
        self.keys += 1
        reply: Reply | None = await self.inbox.answer(request)
        assert reply is not None
        shown = f"{reply.message.text}\n{reply.message.block}"
        return ("refused: " if reply.refused else "") + shown


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path, House) as house:
        assert isinstance(house, House)
        house.begin()
        yield house


async def test_a_question_is_about_the_run_where_it_is_asked(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def draw(*_: object, **__: object) -> bytes:
        return b"a picture"

    monkeypatch.setattr(charts, "run_worker", draw)
    log = house.bot.home / "runs" / str(house.old.id) / "1.log"
    log.parent.mkdir(parents=True)
    log.write_text("WIDTH 96 in its log\n")
    for question in QUESTIONS:
        about_old = [
            await house.write(question, TOPIC),
            await house.write(question, "9", replied_to=DIGEST),
            await house.tap(question, CARD),
            await house.tap(question, DIGEST),
        ]
        for said in about_old:
            assert not said.startswith("refused: "), question
            assert "run new" not in said.lower()
            assert "old" in said or "WIDTH 96" in said
        assert len(set(about_old)) == 1
        for message in ("9", OTHER_TOPIC, "16/901"):
            assert "WIDTH 96" not in await house.write(question, message)


async def test_an_order_about_an_earlier_run_hits_no_other(house: House) -> None:
    refusal = "refused: Not done: this is about run old, and commands steer run new now."
    before = house.journal.last_event()
    for order in ORDERS:
        for said in (
            await house.write(order, TOPIC),
            await house.write(order, "9", replied_to=DIGEST),
            await house.tap(order, CARD),
            await house.tap(order, DIGEST),
        ):
            assert said.strip() == refusal, order
    assert house.journal.last_event() == before


async def test_an_order_is_about_the_run_where_it_is_given_while_that_goes_on_beside_the_other(
    house: House,
) -> None:
    house.journal.set_state(house.old, RunState.RUNNING)
    house.host.current.conducted = lambda: {house.old.id, house.new.id}
    assert "Run old" in await house.write("/pause", TOPIC)
    old, new = (house.journal.run_by_id(run.id).state for run in (house.old, house.new))
    assert (old is RunState.RUNNING, new) == (False, RunState.RUNNING)
    assert "Run new" in await house.write("/pause", "9")


async def test_a_button_under_an_answer_is_about_the_run_of_the_answer(house: House) -> None:
    """An answer is not on record: its buttons say which run they are about, however old they are."""
    about_old, about_new = [
        await house.inbox.answer(Request(ANN, "/best", key, house.now, message))
        for key, message in (("old", TOPIC), ("new", "9"))
    ]
    assert about_old is not None
    assert about_new is not None
    assert (about_old.run, about_new.run) == (house.old.id, house.new.id)
    refusal = "refused: Not done: this is about run old, and commands steer run new now."
    for about, shown in ((about_old, "WIDTH 96"), (about_new, "WIDTH 80")):
        pressed = {each.label: each.command for row in about.message.buttons for each in row}
        assert shown in await house.tap(pressed["Diff"], ANSWER)
    never = with_run("/never 1", house.old.id)
    assert (await house.tap(never, ANSWER)).strip() == refusal
    assert (await house.tap(with_run("/pause", house.old.id), ANSWER)).strip() == refusal
    assert (await house.tap(with_run("/status", house.old.id), ANSWER)).startswith("Run old")
    said = await house.tap(with_run("/never 1", house.new.id), ANSWER)
    assert said.strip() == NOTHING_TO_STEER.format(1)


async def test_a_number_of_which_nothing_tells_the_run_is_taken_for_none(house: House) -> None:
    for command in ("/never 1", "/log 1", "/reject 1"):
        assert (await house.tap(command, ANSWER)).startswith("refused: Not done: the message does not say")
    assert (await house.tap("/status", ANSWER)).startswith("Run new")


async def test_what_names_its_run_or_has_none_is_obeyed_anywhere(house: House) -> None:
    for command in ("/help", "/runs", "/id", "/notify", "/retag new newer"):
        assert not (await house.write(command, TOPIC)).startswith("refused: ")
