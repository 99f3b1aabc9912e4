"""A real Slack front end before a loopback Slack, with a small conversation behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bot.commands.access import AllowList, Request, Role
from bot.slack.connection import SlackPace
from bot.slack.front import SlackFront
from notifiers.channels.slack import SlackChannel, make_client
from notifiers.message import Attachment, Button, Message, Reply
from tests.bot.idle_clock import IdleLoop
from tests.servers.slack_rules import texts
from tests.servers.slack_server import SlackServer
from tests.servers.slack_workspace import APP_TOKEN, BOT_TOKEN, CHANNEL, CHAT, FOREIGN, PRIVATE, Call

QUICK = SlackPace(ping=0.5, connect=10, close=0.5, waits=(0.05, 0.1, 0.2), answer=(0.01,) * 3, working=600.0)
STEADY = replace(QUICK, ping=10)

ALLOWED = AllowList(
    users={"U0ALICE": None, "U0BOB": Role.VIEWER},
    places=dict.fromkeys((CHANNEL, PRIVATE, FOREIGN, CHAT, "C0UNKNOWN"), None),
    users_setting="SLACK_USER_IDS",
    places_setting="SLACK_CHANNELS",
    is_private=lambda sender: sender.place.startswith("D"),
)

CARD = Message("Run mar12 runs.", buttons=((Button("Pause", "/pause"),),))
PLAN = Message(
    "Start run mar13?\nBudget: 5 min",
    buttons=((Button("Start", "/start_run mar13 go"), Button("Cancel", "/cancel")),),
)
CHART = Attachment("mar12.png", b"\x89PNG...", "val_bpb over 23 experiments")
PATCH = Attachment("changes.patch", b"+ 1")


class SlackBot:
    """Answers each request once, as the bot behind the front end does; `asked` is all that was new."""

    def __init__(self, server: SlackServer) -> None:
        self.server = server
        self.asked: list[Request] = []
        self.delivered: list[Request] = []
        self.front: SlackFront
        self.running: asyncio.Task[None]
        self.done = asyncio.Event()  # what `/slow` waits for
        self.card = Reply(CARD)
        self.plan = Reply(PLAN)
        self.asks_for_idea = Reply(Message("What is run mar12 to try?"))
        self.chart = CHART
        self.brief = False
        self.results = "23 experiments"
        self.block = ""  # under what it says
        self._keys: set[str] = set()

    async def answer(self, request: Request) -> Reply | None:
        if request.text == "/new_idea":
            return self.asks_for_idea
        self.delivered.append(request)
        new = not request.key or request.key not in self._keys
        self._keys.add(request.key)
        if new:
            self.asked.append(request)
        self.server.wake()
        if not new or request.sender.user == "U0STRANGER":
            return None
        return await self._obey(request, *request.text.split(None, 2))

    async def _obey(self, request: Request, verb: str, first: str = "", rest: str = "") -> Reply | None:
        said = Message(f"You said {request.text[1:]}.")
        refused = f"There is no {request.text}."
        match verb:
            case "/start_run" | "/card":
                return self._run(first, rest) if first else self.plan if verb == "/start_run" else self.card
            case "/pause" if request.message_id:
                return Reply(Message("Run mar12 is paused."), replaces=not self.brief, brief=self.brief)
            case "/plot" | "/summary" | "/bundle":
                files = (self.chart, PATCH) if verb == "/bundle" else (self.chart,)
                return Reply(Message("Run mar12", attachments=files))
            case "/idea" if "banana" in request.text:
                refused = "DEPTH takes a number."
            case "/results":
                return Reply(replace(said, block=self.results))
            case "/status" | "/pause" | "/help" | "/idea" | "/diff" | "/best" | "/notify":
                return Reply(replace(said, block=self.block))
            case "/slow":
                await self.done.wait()
                return Reply(Message("At last."), for_all=True)
            case "/broken":
                raise RuntimeError("a mistake of ours")
        return Reply(Message(refused), refused=True)

    def _run(self, tag: str, rest: str) -> Reply:
        if tag == "mar12":
            return Reply(Message("There is a run mar12 already."), refused=True)
        return (
            Reply(Message(f"Run {tag} started."), replaces=True, for_all=True) if rest == "go" else self.plan
        )

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
    server: SlackServer, *, pace: SlackPace = STEADY, bot_token: str = BOT_TOKEN, **options: Any
) -> AsyncIterator[SlackBot]:
    """Run a front end with Socket Mode, or as `options` of `SlackFront` have it; no other knows its tabs."""
    client = make_client(bot_token, server.base_url)
    client.retry_handlers = []  # they wait a second before they try again
    bot = SlackBot(server)
    options = {
        "app_token": APP_TOKEN,
        "allowed": ALLOWED,
        **options,
    }
    with TemporaryDirectory() as folder:
        options.setdefault("home_tabs", Path(folder, "tabs.json"))
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


async def called(server: SlackServer, method: str, times: int = 1) -> list[Call]:
    return await server.until(lambda: calls if len(calls := server.called(method)) >= times else [])


async def card(server: SlackServer, channel: str = CHANNEL) -> str:
    """Send a message with a button, as a notifier does, and return its `ts`."""
    client = make_client(BOT_TOKEN, server.base_url)
    return await SlackChannel(client=client, channel_id=channel).send(CARD)


def shown(call: Call) -> list[str]:
    return list(texts(call["blocks"]))


def _clients_at_work() -> list[str]:
    """Return what Slack's client still does: nothing may be left of it."""
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    return [name for name in names if name.startswith("SocketModeClient.")]
