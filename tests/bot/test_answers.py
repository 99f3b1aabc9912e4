"""A command's effect is told once: in the answer where it was given, by the event everywhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bot.commands.access import HERE, TERMINAL, Access, AllowList, Request, Role, Sender
from bot.commands.inbox import Inbox
from bot.commands.table import find_command
from loop.experiment import Event, Stage
from loop.store.evidence.repeats import Repeats
from loop.store.outbox import Outbox
from notifiers.delivery.delivery import Delivery
from notifiers.message import Message
from tests.bot.test_inbox import Office, opened
from tests.notifiers.recording import RecordingChannel, VirtualTime

SENDERS = {
    "telegram": Sender("telegram", "100", "-1001", "ann", topic="15"),
    "slack": Sender("slack", "U0ALICE", "C024BE91L", "ann"),
    "terminal": HERE,
}


@dataclass(slots=True)
class Place:
    """A channel, what it was sent and how much of that was looked at."""

    channel: RecordingChannel
    delivery: Delivery
    read: int = 0

    async def new(self) -> list[str]:
        """Return the first lines of what came since the last call."""
        await self.delivery.catch_up()
        heads = self.channel.heads[self.read :]
        self.read += len(heads)
        return heads


@dataclass(slots=True)
class Conversation:
    """Somebody in one place gives commands; `others` are all the other places."""

    office: Office
    sender: Sender
    inbox: Inbox
    here: Place
    others: list[Place]
    keys: int = 0
    buttons: list[str] = field(default_factory=list)

    async def say(self, text: str) -> list[str]:
        """Return what the place of the command reads: the first line of the answer, then what it is sent."""
        self.keys += 1
        reply = await self.inbox.answer(Request(self.sender, text, f"key:{self.keys}", self.office.now))
        assert reply is not None
        self.buttons = [button.command for row in reply.message.buttons for button in row]
        return [reply.message.text.splitlines()[0], *await self.here.new()]

    def repeats(self) -> tuple[float | None, ...]:
        """Return what the repeats of experiment #1 came to."""
        run = self.office.journal.runs()[0]
        return Repeats(self.office.journal).numbers(run.id, run.metric).get(1, ())

    async def elsewhere(self) -> list[str]:
        """Return what each other place was sent since the last call."""
        first, *rest = [await place.new() for place in self.others]
        assert all(heads == first for heads in rest)
        return first

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110 - the engine works on in its own time
            await asyncio.sleep(0.01)

    def trains(self, number: int, attempt: int = 1) -> bool:
        found = self.office.journal.experiment(1, number)
        return found is not None and found.stage is Stage.TRAINING and found.attempt == attempt

    def is_decided(self, number: int) -> bool:
        found = self.office.journal.experiment(1, number)
        return found is not None and found.status is not None


async def _report(_: Event) -> Message:
    return Message("The report on the run")


@pytest.fixture(params=SENDERS)
async def conversation(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Conversation]:
    async with opened(tmp_path, gate=str(tmp_path / "gate")) as office:
        time = VirtualTime()
        places = {}
        for platform, sender in SENDERS.items():
            channel = RecordingChannel(time, sender.channel)
            report = None if sender.is_local else _report
            delivery = Delivery(channel, office.journal, report=report, clock=time.clock)
            places[platform] = Place(channel, delivery)
            assert await places[platform].new() == []
        lists = {
            name: AllowList({sender.user: Role.OPERATOR}, {sender.place: None})
            for name, sender in SENDERS.items()
        }
        inbox = Inbox(
            handlers=office.handlers, access=Access(lists), journal=office.journal, now=lambda: office.now
        )
        here = places.pop(request.param)
        yield Conversation(office, SENDERS[request.param], inbox, here, [*places.values()])


def test_a_terminal_reads_the_channel_of_all_terminals() -> None:
    assert HERE.channel == TERMINAL


async def test_each_command_is_told_once_in_each_place(conversation: Conversation, tmp_path: Path) -> None:
    chat = conversation
    by = f"by {chat.sender.name}" if chat.sender.name else "from the terminal"

    assert await chat.say("/start_run mar12 go") == ["Run mar12 started"]
    assert await chat.elsewhere() == ["Run mar12 started"]
    assert await chat.say("/retag mar12 wide") == ["Run mar12 is now wide"]
    assert await chat.elsewhere() == ["Run mar12 is now wide"]
    if not chat.sender.is_local:  # a terminal has no card to show that a run has paused
        Outbox(chat.office.journal, chat.sender.channel).put_card(1, "1")

    await chat.until(lambda: chat.trains(0))
    (answer,) = await chat.say("/pause")
    assert answer.startswith("Run wide pauses after the current experiment.")
    assert await chat.elsewhere() == []
    (answer,) = await chat.say("/pause now")
    assert answer.startswith("Run wide is paused.")
    assert await chat.elsewhere() == [f"Run wide paused {by}"]
    assert await chat.say("/resume") == ["Run wide continues."]
    assert await chat.elsewhere() == [f"Run wide resumed {by}"]

    await chat.until(lambda: chat.trains(0, attempt=2))
    assert await chat.say("/skip") == ["Skipping experiment #0: baseline"]
    await chat.until(lambda: chat.is_decided(0))
    assert await chat.here.new() == []
    assert await chat.elsewhere() == ["Experiment #0: baseline"]

    # What comes of an order later is news elsewhere.
    await chat.until(lambda: chat.trains(1))
    await chat.say("/pause")
    (tmp_path / "gate").touch()
    await chat.until(lambda: chat.office.journal.runs()[0].state == "paused")
    digest, *here = await chat.here.new()
    assert digest.startswith("Experiment #1: ")
    assert here == [f"Run wide paused {by}"] * chat.sender.is_local
    assert await chat.elsewhere() == [digest, f"Run wide paused {by}"]

    (answer,) = await chat.say("/rerun 1 2")
    assert answer == "Experiment #1 will be trained 2 more times, after /resume, as run wide is paused."
    assert await chat.elsewhere() == []
    assert (await chat.say("/rerun 0"))[0].startswith("Experiment #0 was skipped")
    await chat.say("/resume")
    await chat.until(lambda: bool(chat.repeats()))
    assert (await chat.elsewhere())[-1].startswith("Repeat of #1: ")


async def test_the_end_of_a_run_is_told_with_the_report_in_every_chat(conversation: Conversation) -> None:
    chat = conversation
    await chat.say("/start_run mar12 go")
    await chat.until(lambda: chat.trains(0))
    await chat.elsewhere()
    answers = await chat.say("/stop")
    if not chat.sender.is_local:
        assert answers == [find_command("stop").question.format("mar12")]
        answers = await chat.say(chat.buttons[0])
    await chat.until(lambda: chat.is_decided(0))
    answer, *more = answers + await chat.here.new()
    assert answer.startswith("Run mar12 is stopped.")
    end = ["The report on the run", "Experiment #0: baseline"]
    assert more == (end[1:] if chat.sender.is_local else end)
    others = [await place.new() for place in chat.others]
    if not chat.sender.is_local:
        assert others.pop() == ["Run mar12 stopped by ann", end[1]]  # a terminal prints the report at its end
    assert all(heads == end for heads in others)
