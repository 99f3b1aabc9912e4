"""A journal, a channel and the delivery between them."""

from __future__ import annotations

from datetime import datetime

from loop.store.journal import Journal
from notifiers.delivery.delivery import Delivery
from notifiers.delivery.preferences import Preferences
from tests.notifiers.recording import RecordingChannel, VirtualTime


class Bench:
    """A journal, a channel and what lies between them; `restart` makes the latter anew."""

    def __init__(self, journal: Journal, virtual: VirtualTime) -> None:
        self.journal, self.time = journal, virtual
        self.channel = RecordingChannel(virtual)
        self.preferences = Preferences()
        self.restart()

    def restart(self) -> None:
        self.delivery = Delivery(
            self.channel,
            self.journal,
            preferences=lambda: self.preferences,
            clock=self.time.clock,
            jitter=lambda: 0.0,
        )

    async def told(self) -> list[str]:
        """Catch up, and return the first lines of the messages that came."""
        before = len(self.channel.sent)
        await self.delivery.catch_up()
        return self.channel.heads[before:]

    def at(self, clock: str, *, day: int = 12) -> None:
        self.time.now = datetime.fromisoformat(f"2026-03-{day}T{clock}:00+00:00").timestamp()

    def states(self) -> list[str]:
        return [row["state"] for row in self.journal.query("SELECT state FROM deliveries ORDER BY event_id")]
