"""How many modules a digest crosses from its verdict in the journal to the platform's channel."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from pathlib import Path
from types import FrameType

from loop.experiment import Status
from loop.results.report import run_status
from notifiers.delivery.delivery import Delivery
from notifiers.delivery.live_card import LiveCards
from notifiers.delivery.preferences import Preferences, PreferenceStore
from notifiers.delivery.rate_limit import Spacing
from tests.notifiers.recording import RecordingChannel, VirtualTime
from tests.notifiers.stories import decide, open_journal, start

MOST = 12
ENDS = {"loop.engine", "notifiers.channels.telegram"}  # neither of them runs here
HELPERS = {
    "loop.experiment",
    "loop.process.worker",
    "loop.gain",
    "loop.results.gains",
    "loop.store.tables.schema",
    "loop.text",
    "notifiers.message",
    "notifiers.text.words",
}
"""Values and functions of values that call no other room."""


async def test_a_digest_crosses_few_modules(tmp_path: Path) -> None:
    time, crossed = VirtualTime(), set(ENDS)

    def note(frame: FrameType, event: str, argument: object) -> None:
        name = str(frame.f_globals.get("__name__"))
        if event == "call" and name.startswith(("bot.", "loop.", "notifiers.")):
            crossed.add(name)

    with open_journal(tmp_path, time) as journal:
        run = start(journal)
        channel, spacing = RecordingChannel(time), Spacing(clock=time.clock)
        store = PreferenceStore(journal, default=Preferences())
        cards = LiveCards(
            channel,
            journal,
            status=lambda run: run_status(journal, run, worktree=tmp_path),
            spacing=spacing,
            zone=UTC,
            clock=time.clock,
        )
        delivery = Delivery(
            channel,
            journal,
            preferences=lambda: store.get(channel.name),
            thread=cards.thread,
            spacing=spacing,
            clock=time.clock,
        )
        await delivery.catch_up()
        await cards.refresh()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())  # threads that are watched
        before = sys.getprofile()
        threading.setprofile(note)
        sys.setprofile(note)
        try:
            decide(journal, run, 1, Status.KEEP)
            await delivery.catch_up()
        finally:
            sys.setprofile(before)
            threading.setprofile(None)
    assert channel.heads[-1] == "Experiment #1: try 1"
    assert len(crossed - HELPERS) <= MOST, sorted(crossed - HELPERS)
