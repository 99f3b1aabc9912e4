"""A real Slack front end before a loopback Slack, with a small conversation behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from bot.commands.access import Request
from bot.slack.connection import Pace
from bot.slack.front import SlackFront
from notifiers.channels.slack import make_client
from notifiers.message import Button, Message, Reply
from tests.bot.idle_clock import IdleLoop
from tests.servers.slack_server import SlackServer
from tests.servers.slack_workspace import APP_TOKEN, BOT_TOKEN

QUICK = Pace(ping=0.5, connect=10, close=0.5, waits=(0.05, 0.1, 0.2))
STEADY = replace(QUICK, ping=10)

CARD = Message("Run mar12 runs.", buttons=((Button("Pause", "/pause"),),))


class SlackBot:
    """Answers each request once, as the bot behind the front end does; `asked` is all that was new."""

    def __init__(self, server: SlackServer) -> None:
        self.server = server
        self.asked: list[Request] = []
        self.delivered: list[Request] = []
        self.front: SlackFront
        self.running: asyncio.Task[None]
        self.done = asyncio.Event()  # what `/slow` waits for
        self._keys: set[str] = set()

    async def answer(self, request: Request) -> Reply | None:
        self.delivered.append(request)
        new = request.key not in self._keys
        self._keys.add(request.key)
        if new:
            self.asked.append(request)
        self.server.wake()
        if not new or request.sender.user == "U0STRANGER":
            return None
        match request.text.split()[0]:
            case "/start_run":
                return Reply(CARD)
            case "/pause" if request.message_id:
                return Reply(Message("Run mar12 is paused."), replaces=True)
            case "/status" | "/pause" | "/help" | "/idea" | "/diff":
                return Reply(Message(f"You said {request.text}."))
            case "/slow":
                await self.done.wait()
                return Reply(Message("At last."))
            case "/broken":
                raise RuntimeError("a mistake of ours")
            case _:
                return Reply(Message(f"There is no {request.text}."), refused=True)

    async def end(self) -> None:
        self.running.cancel()
        await asyncio.wait({self.running})

    async def asks(self, number: int = 1) -> list[Request]:
        """Return the requests as soon as there are so many."""
        return await self.server.until(lambda: self.asked if len(self.asked) >= number else [])

    async def linked(self, times: int = 1) -> None:
        """Return when the front end has connected so often and is connected now."""
        await self.server.until(lambda: self.server.socket.opened >= times and self.server.socket.links)


@asynccontextmanager
async def slack_bot(
    server: SlackServer, *, pace: Pace = STEADY, bot_token: str = BOT_TOKEN, **options: Any
) -> AsyncIterator[SlackBot]:
    """Run a front end with Socket Mode, or as `options` of `SlackFront` have it."""
    client = make_client(bot_token, server.base_url)
    client.retry_handlers = []  # they wait a second before they try again
    bot = SlackBot(server)
    options = {"app_token": APP_TOKEN, "answer_waits": (0.01,) * 3, **options}
    bot.front = SlackFront(client=client, answer=bot.answer, pace=pace, **options)
    bot.running = asyncio.create_task(bot.front.run())
    try:
        yield bot
    finally:
        await bot.end()
    assert bot.running.cancelled()
    assert not _clients_at_work()


async def eventually(condition: Callable[[], object]) -> None:
    """Return when something holds that nobody signals."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, IdleLoop)
    async with asyncio.timeout(30):
        await loop.until(condition)


def _clients_at_work() -> list[str]:
    """Return what Slack's client still does: nothing may be left of it."""
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    return [name for name in names if name.startswith("SocketModeClient.")]
