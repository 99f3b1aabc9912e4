"""A front end on Telegram for tests, with a server for it and something that answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import CoroutineType
from typing import Any

import telegram
from telegram.ext import ExtBot

import bot
import notifiers
from bot.commands.access import Request, Role
from bot.telegram.connection import TelegramPace
from bot.telegram.front import TelegramFront
from notifiers.channels.telegram import TelegramChannel
from notifiers.channels.telegram_wire import make_bot
from notifiers.message import Button, Message, Reply
from tests.servers.telegram_api import Post
from tests.servers.telegram_server import TelegramServer

STRANGER = "666"
GROUP = -100
CARD = Message("the card", buttons=((Button("Stop", "/stop"),),))
PACE = TelegramPace(poll=5, patience=20, close=1, waits=(0.01, 0.02, 0.04, 0.05), answer=(0.01,) * 5)


@dataclass(slots=True)
class Answers:
    """Answers every request once, the same way or as `by_text` says; some only once their gate is open.

    `asked` has what was asked again because it came again, too.
    """

    asked: list[Request] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    by_text: dict[str, Reply | None] = field(default_factory=dict)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    fails_on: str = ""

    async def __call__(self, request: Request) -> Reply | None:
        self.asked.append(request)
        if request.key in {known.key for known in self.requests}:
            return None
        self.requests.append(request)
        if request.text in self.gates:
            await self.gates[request.text].wait()
        if request.text == self.fails_on:
            raise ZeroDivisionError
        return self.by_text.get(request.text, Reply(Message(f"You said {request.text}.")))

    @property
    def texts(self) -> list[str]:
        return [request.text for request in self.requests]


@dataclass(slots=True)
class Running:
    """A front end at work."""

    front: TelegramFront
    bot: ExtBot[None]
    task: asyncio.Task[None]

    async def stop(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


@asynccontextmanager
async def running(
    server: TelegramServer, answers: Answers, locks: Path, **options: Any
) -> AsyncIterator[Running]:
    """Run a front end, with what sends for it."""
    sender = make_bot(server.api.token, server.base_url)
    front = TelegramFront(
        **{
            "bot": sender,
            "answer": answers,
            "role_of": lambda sender: None if sender.user == STRANGER else Role.OPERATOR,
            "locks": locks,
            "pace": PACE,
            **options,
        }
    )
    at_work = Running(front, sender, asyncio.create_task(front.run()))
    try:
        yield at_work
    finally:
        await at_work.stop()
        await sender.request.shutdown()


async def card(front: Running, server: TelegramServer, message: Message = CARD) -> Post:
    """A message of ours with a button."""
    await TelegramChannel(bot=front.bot, chat_id=7).send(message)
    return server.api.posts[-1]


async def caught_up(server: TelegramServer) -> None:
    """Wait for a poll after the first one: what comes from now on has not waited for the bot."""
    server.api.say("/hello")
    await server.api.posted()
    server.api.posts.clear()


def tasks_at_work() -> list[asyncio.Task[Any]]:
    """What front ends and their library have begun and not ended."""
    return [task for task in asyncio.all_tasks() if _is_ours(task)]


def _is_ours(task: asyncio.Task[Any]) -> bool:
    """Say whether a task was begun by the front end or its library, not by the test or the server."""
    folders = {Path(bot.__file__).parent, Path(notifiers.__file__).parent, Path(telegram.__file__).parent}
    coroutine = task.get_coro()
    assert isinstance(coroutine, CoroutineType)
    return not folders.isdisjoint(Path(coroutine.cr_code.co_filename).parents)


class LogWatch(logging.Handler):
    """Waits for lines in the log of this program."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._changed = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self._changed.set()

    async def line(self, part: str) -> str:
        """Wait for a line that has `part` in it, and return it."""
        while not (found := [line for line in self.lines if part in line]):
            self._changed.clear()
            await self._changed.wait()
        return found[0]

    def count(self, part: str) -> int:
        return sum(part in line for line in self.lines)


@contextmanager
def log_watch() -> Iterator[LogWatch]:
    """Watch what the bot's own modules log."""
    watch, logger = LogWatch(), logging.getLogger("bot")
    before = logger.level
    logger.addHandler(watch)
    logger.setLevel(logging.INFO)
    try:
        yield watch
    finally:
        logger.removeHandler(watch)
        logger.setLevel(before)
