"""Tells a channel what happened: events of the journal in, messages out, each once and in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from loop.experiment import Event
from loop.journal import Journal
from notifiers.digest import message_of
from notifiers.message import Message


class Delivery:
    """Follows the journal with a cursor of its own and gives `send` what each event has to say.

    The cursor moves on after the message was sent, so a bot that dies in between sends it again. A channel
    never heard of before is told what happens from now on.
    """

    def __init__(self, *, channel: str, journal: Journal, send: Callable[[Message], Awaitable[None]]) -> None:
        self._channel = channel
        self._journal = journal
        self._send = send
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Deliver for ever; end it by cancelling."""
        loop = asyncio.get_running_loop()

        def notice() -> None:  # called in whatever thread wrote to the journal
            loop.call_soon_threadsafe(self._news.set)

        self._journal.listeners.append(notice)
        try:
            while True:
                self._news.clear()
                await self.catch_up()
                await self._news.wait()
        finally:
            self._journal.listeners.remove(notice)

    async def catch_up(self) -> None:
        """Deliver everything that has happened so far."""
        cursor = await asyncio.to_thread(self._journal.cursor, self._channel)
        if cursor is None:
            cursor = await asyncio.to_thread(self._journal.last_event)
            await asyncio.to_thread(self._journal.set_cursor, self._channel, cursor)
        while events := await asyncio.to_thread(self._journal.events_after, cursor):
            for event in events:
                message = await asyncio.to_thread(self._message, event)
                if message is not None:
                    await self._send(message)
                    await asyncio.to_thread(self._journal.set_cursor, self._channel, event.id)
                cursor = event.id
            await asyncio.to_thread(self._journal.set_cursor, self._channel, cursor)

    def _message(self, event: Event) -> Message | None:
        run = self._journal.run_by_id(event.run_id)
        number = event.number
        experiment = None if number is None else self._journal.experiment(event.run_id, number)
        return message_of(event, run, experiment)
