"""A chat platform of a few lines: a line in a file is a command, answers and messages go to another file.

A line of `commands` is a user, a colon and what the user types.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from bot.commands.access import Access, AllowList, Request, Role, Sender
from bot.front import Answer, Connection, FrontHealth, Platform
from bot.setup.doctor import Check
from bot.setup.settings import Settings
from notifiers.delivery.rate_limit import Clock, Spacing, Window
from notifiers.message import GoneError, Message

NAME, PLACE = "text_file", "room"
CONNECTED = Check(NAME.capitalize(), True, "connected, 1 room")


def text_file(folder: Path) -> Platform:
    """Return the entry of the platform whose files are in `folder`."""

    def allowed(_: Settings) -> AllowList:
        users = {"ann": Role.OPERATOR, "vic": Role.VIEWER}
        return AllowList(users, {PLACE: None}, "TEXT_USERS", "TEXT_ROOMS", lambda _: False)

    def connect(_: Settings, answer: Answer, __: Access, clock: Clock) -> Connection | None:
        front = TextFront(folder / "commands", Room(folder / "messages"), answer)
        limits = Spacing(Window(1000, 1.0), clock=clock)
        return Connection(front.run, front.health, [(front.room, limits)], check)

    async def check(_: bool) -> list[Check]:
        return [CONNECTED]

    return Platform(NAME, allowed, connect)


class Room:
    """The channel: messages are appended, and an edit appends the new text."""

    name = f"{NAME}:{PLACE}"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0

    async def send(self, message: Message, *, reply_to: str = "", broadcast: bool = False) -> str:
        del reply_to, broadcast
        self._count += 1
        with self._path.open("a") as file:
            file.write(f"[{self._count}] {message.text}\n{message.block}\n")
        return str(self._count)

    async def edit(self, message_id: str, message: Message) -> None:
        if not 0 < int(message_id) <= self._count:
            raise GoneError("no such message")
        await self.send(message)

    async def pin(self, message_id: str) -> None:
        pass


class TextFront:
    """The front end: answers each new line."""

    def __init__(self, path: Path, room: Room, answer: Answer) -> None:
        self.room = room
        self._path = path
        self._answer = answer
        self._seen: float | None = None

    def health(self) -> FrontHealth:
        return FrontHealth(self._path.exists(), self._seen, "" if self._path.exists() else "no such file")

    async def run(self) -> None:
        answered = 0
        while True:
            lines = self._path.read_text().splitlines() if self._path.exists() else []
            for number, line in enumerate(lines[answered:], start=answered):
                user, _, text = line.partition(": ")
                self._seen = time.time()
                sender = Sender(NAME, user, PLACE, user)
                reply = await self._answer(Request(sender, text, f"{NAME}:{number}", self._seen))
                if reply is not None:
                    await self.room.send(reply.message)
            answered = len(lines)
            await asyncio.sleep(0.01)  # a file gives no sign when it grows
