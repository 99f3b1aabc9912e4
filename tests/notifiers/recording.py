"""A channel that remembers what it was told and fails as ordered, and a time that only waiting moves."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from notifiers.delivery.rate_limit import Clock
from notifiers.message import ChannelError, GoneError, Message


class VirtualTime:
    """Starts at a noon (UTC); whoever sleeps moves it on, at once."""

    def __init__(self) -> None:
        self.now = 1_700_006_400.0 - 1_700_006_400.0 % 86400 + 43200
        self.slept: list[float] = []
        self.clock = Clock(now=lambda: self.now, monotonic=lambda: self.now, sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Fault:
    """How one call fails; `taken` if the platform did what it was asked before the answer was lost."""

    error: BaseException
    taken: bool = False


@dataclass(slots=True)
class Sent:
    """A message as the channel shows it."""

    message_id: str
    message: Message
    reply_to: str
    broadcast: bool
    at: float
    edits: int = 0

    @property
    def head(self) -> str:
        return self.message.text.splitlines()[0]


class RecordingChannel:
    """Keeps every message; each of `faults` spoils one call to send or edit, None lets one pass."""

    def __init__(self, time: VirtualTime, name: str = "telegram:1") -> None:
        self.name = name
        self.sent: list[Sent] = []
        self.pinned: list[str] = []
        self.faults: deque[Fault | None] = deque()
        self.deleted: set[str] = set()
        self.lost: list[str] = []  # first lines of what was taken without the sender knowing
        self.told = asyncio.Event()
        self._time = time

    async def send(self, message: Message, *, reply_to: str = "", broadcast: bool = False) -> str:
        fault = self.faults.popleft() if self.faults else None
        if fault is not None and not fault.taken:
            raise fault.error
        if reply_to in self.deleted:
            raise GoneError("the message to answer is not there")
        sent = Sent(f"m{len(self.sent) + 1}", message, reply_to, broadcast, self._time.now)
        self.sent.append(sent)
        self.told.set()
        if fault is not None:
            self.lost.append(sent.head)
            raise fault.error
        return sent.message_id

    async def edit(self, message_id: str, message: Message) -> None:
        if self.faults and (fault := self.faults.popleft()) is not None:
            raise fault.error
        if message_id in self.deleted:
            raise GoneError("the message to edit is not there")
        (sent,) = (sent for sent in self.sent if sent.message_id == message_id)
        sent.message = message
        sent.edits += 1

    async def pin(self, message_id: str) -> None:
        self.pinned.append(message_id)

    def fail(self, *errors: ChannelError, taken: bool = False) -> None:
        self.faults.extend(Fault(error, taken) for error in errors)

    @property
    def heads(self) -> list[str]:
        return [sent.head for sent in self.sent]
