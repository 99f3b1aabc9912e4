"""A real local server with a small conversation behind it, for the tests of both its ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bot.local.server import LocalServer
from notifiers.message import Message, Reply


class LocalBot:
    """Repeats every command, `/pause` for all; `/nonsense` is refused. Tests set `doing`, its progress."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.doing = "waiting"
        self.times_asked = 0
        self._asked = asyncio.Event()
        self.commands: list[str] = []
        self.server = LocalServer(path=path, answer=self._answer, progress=self._progress, interval=0.001)

    async def _answer(self, command: str) -> Reply:
        self.commands.append(command)
        if command == "/nonsense":
            return Reply(Message("There is no /nonsense."), refused=True)
        return Reply(Message(f"You said {command}.", block="a\tb"), for_all=command == "/pause")

    async def settled(self) -> None:
        """Until the present progress has been sent to all that are attached."""
        for _ in range(2):
            self._asked.clear()
            await self._asked.wait()

    async def _progress(self) -> str:
        self.times_asked += 1
        self._asked.set()
        return self.doing


@asynccontextmanager
async def local_bot(path: Path) -> AsyncIterator[LocalBot]:
    bot = LocalBot(path)
    await bot.server.start()
    try:
        yield bot
    finally:
        await bot.server.stop()
