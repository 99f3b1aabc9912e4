"""What a channel has still to be told: the events of its outbox as news."""

from __future__ import annotations

from dataclasses import dataclass

from loop.store.journal import Journal
from loop.store.outbox import Outbox, State, last_sent
from notifiers.channels.tracker import SERVICES
from notifiers.text.notification import Notification, read_notifications

EVENTS = 5000
HELD = 1000
"""How many events and how much held news are looked at in one go, and so told of in one message."""


@dataclass(frozen=True, slots=True)
class Item:
    """What the channel has still to be told; `state` is None where nothing was done about it yet."""

    news: Notification
    state: State | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a channel has come: how much news waits for it, and when it was last told some."""

    channel: str
    waiting: int
    told_at: float | None


def read_items(journal: Journal, outbox: Outbox, *, held: bool) -> list[Item]:
    """Return what is to be told, oldest first; what is held only if `held`."""
    put_off = outbox.put_off(held=held, most=HELD)
    states = {event.id: state for event, state in put_off}
    news = read_notifications(journal, [event for event, _ in put_off])
    items = [Item(one, states[one.event.id]) for one in news]
    if len(put_off) == HELD:
        return items
    for events in outbox.new(most=EVENTS):  # until somebody wants to hear of any of these
        if news := read_notifications(journal, events):
            return items + [Item(one) for one in news]
    return items


def standings(journal: Journal) -> list[Standing]:
    """Return the standing of every channel that was ever opened, but for experiment trackers."""
    return [
        Standing(name, len(read_items(journal, Outbox(journal, name), held=True)), told_at)
        for name, told_at in last_sent(journal).items()
        if name.partition(":")[0] not in SERVICES
    ]
