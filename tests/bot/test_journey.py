"""How many modules a command crosses from the chat to git."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

from bot.commands.access import Request
from tests.bot.test_inbox import ANN, opened

MOST = 12
BEGINS = {"bot.telegram.front", "bot.front"}  # which do not run here
HELPERS = {
    "bot.commands.access",
    "bot.commands.table",
    "loop.experiment",
    "loop.files",
    "loop.git.repository",
    "loop.process.worker",
    "loop.store.tables.schema",
    "notifiers.message",
    "notifiers.text.digest",
}
"""Values and functions of values that call no other room."""


async def test_retag_crosses_few_modules(tmp_path: Path) -> None:
    crossed = set(BEGINS)

    def note(frame: FrameType, event: str, argument: object) -> None:
        name = str(frame.f_globals.get("__name__"))
        if event == "call" and name.startswith(("bot.", "loop.", "notifiers.")):
            crossed.add(name)

    async with opened(tmp_path) as office:
        run = await asyncio.to_thread(office.host.start_run, "mar12")
        await asyncio.to_thread(office.host.engine, run)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())  # threads that are watched
        before = sys.getprofile()
        threading.setprofile(note)
        sys.setprofile(note)
        try:
            reply = await office.inbox.answer(
                Request(ANN, "/retag mar12 wide", "telegram:1:1", office.now, message_id="77")
            )
        finally:
            sys.setprofile(before)
            threading.setprofile(None)
        found = crossed - HELPERS  # the threads go on being watched
        assert office.journal.run_by_id(run.id).tag == "wide"
    assert reply is not None
    assert not reply.refused
    assert {"bot.commands.handlers", "loop.git.commands"} <= found
    assert len(found) <= MOST, sorted(found)
