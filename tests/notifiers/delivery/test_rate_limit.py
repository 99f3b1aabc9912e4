from __future__ import annotations

import asyncio

import pytest

from loop.errors import backoff
from notifiers.delivery.rate_limit import (
    CHANNEL_WAITS,
    Spacing,
    Window,
    all_telegram_chats,
    slack_spacing,
    telegram_spacing,
)
from tests.notifiers.recording import VirtualTime


async def turns(spacing: Spacing, time: VirtualTime, count: int) -> list[float]:
    begin, at = time.now, []
    for _ in range(count):
        await spacing.turn()
        at.append(time.now - begin)
    return at


async def test_a_private_chat_and_a_slack_channel_get_a_message_a_second() -> None:
    for make in (lambda clock: telegram_spacing(all_telegram_chats(), group=False, clock=clock), None):
        time = VirtualTime()
        spacing = make(time.clock) if make else slack_spacing(clock=time.clock)
        assert await turns(spacing, time, 4) == pytest.approx([0, 1, 2, 3])


async def test_a_group_gets_twenty_messages_a_minute() -> None:
    time = VirtualTime()
    at = await turns(telegram_spacing(all_telegram_chats(), group=True, clock=time.clock), time, 41)
    assert at[19:21] == pytest.approx([19, 60])
    assert at[40] == pytest.approx(120)


async def test_all_chats_together_get_thirty_messages_a_second() -> None:
    time, together = VirtualTime(), all_telegram_chats()
    chats = [telegram_spacing(together, group=False, clock=time.clock) for _ in range(31)]
    begin = time.now
    for chat in chats[:30]:
        await chat.turn()
    assert time.now == begin
    await chats[30].turn()
    assert time.now - begin == pytest.approx(1)


async def test_a_pause_holds_for_everybody_and_only_as_long_as_was_asked() -> None:
    time = VirtualTime()
    spacing = Spacing(clock=time.clock)
    spacing.pause(222)
    spacing.pause(5)
    assert not spacing.spare()
    assert await turns(spacing, time, 1) == [222]
    assert spacing.spare()


async def test_a_spare_turn_is_never_taken_from_somebody_who_waits() -> None:
    time = VirtualTime()
    spacing = Spacing(Window(1, 1.0), clock=time.clock)
    assert spacing.spare()
    waiting = asyncio.create_task(spacing.turn())
    await asyncio.sleep(0)  # it waits, and the time has come
    assert not spacing.spare()
    await waiting
    assert not spacing.spare()
    time.now += 1
    assert spacing.spare()


def test_an_unreachable_channel_is_tried_every_second_at_most_and_every_five_minutes_at_least() -> None:
    doubled = [min(2.0**failures, 300.0) for failures in range(1, 10)]
    assert list(CHANNEL_WAITS) == doubled
    assert backoff(CHANNEL_WAITS, 1, jitter=1.0) == 1
    assert backoff(CHANNEL_WAITS, 99) == 300
