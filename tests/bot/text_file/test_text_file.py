"""A third platform works by its own folder and its entry alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC
from pathlib import Path

import pytest

from bot.commands.access import HERE
from bot.commands.inbox import Inbox
from bot.platforms import Chats, access_by
from bot.setup.doctor import Check
from bot.setup.settings import load_settings
from loop.results.report import run_status
from notifiers.delivery.preferences import Preferences, PreferenceStore
from tests.bot.test_inbox import Office, opened
from tests.bot.text_file import text_file


class TextChat:
    """The bot of an office, with a text file for its only platform."""

    def __init__(self, office: Office, folder: Path) -> None:
        settings = load_settings(Path("/no/such/.env"), office.bot.environment)
        platforms = (text_file(folder),)
        access = access_by(settings, platforms)
        self._commands, self._messages = folder / "commands", folder / "messages"
        self.chats = Chats(
            settings,
            access=access,
            journal=office.journal,
            preferences=PreferenceStore(office.journal, default=Preferences()),
            status=lambda run: run_status(office.journal, run, worktree=office.host.worktree(run.tag)),
            report=_no_report,
            zone=UTC,
            say_here=_say_nothing,
            platforms=platforms,
        )
        inbox = Inbox(
            handlers=office.handlers,
            access=access,
            journal=office.journal,
            now=time.time,
        )
        self.running = asyncio.create_task(self.chats.run(inbox.answer))

    def say(self, line: str) -> None:
        with self._commands.open("a") as file:
            file.write(f"{line}\n")

    def read(self) -> str:
        return self._messages.read_text() if self._messages.exists() else ""

    async def said(self, text: str) -> None:
        async with asyncio.timeout(60):
            while text not in self.read():  # noqa: ASYNC110 - a file gives no sign when it grows
                await asyncio.sleep(0.01)


def _say_nothing(_: str) -> None:
    """Nobody is at a terminal."""


async def _no_report(_: object) -> None:
    return None


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with opened(tmp_path, gate=str(tmp_path / "gate")) as office:
        yield office


@pytest.fixture
async def chat(office: Office, tmp_path: Path) -> AsyncIterator[TextChat]:
    chat = TextChat(office, tmp_path)
    yield chat
    chat.running.cancel()
    with suppress(asyncio.CancelledError):
        await chat.running


async def test_commands_come_from_it_and_messages_go_to_it(office: Office, chat: TextChat) -> None:
    while not chat.chats.health():  # noqa: ASYNC110 - it is set up in a task of its own
        await asyncio.sleep(0)
    assert chat.chats.health() == [Check("Text_file", False, "not connected: no such file; never connected")]
    chat.say("mallory: /runs")  # in no list: no answer
    chat.say("vic: /id")
    await chat.said("You: TEXT_USERS=vic\nThis chat: TEXT_ROOMS=room")
    assert "[2]" not in chat.read()
    chat.say("vic: /start_run mar12 go")  # a viewer
    await chat.said("[2] /start_run")
    assert office.journal.runs() == []
    chat.say("ann: /start_run mar12 go")
    await chat.said("Run mar12 started")
    chat.say("ann: /notify keeps")
    chat.say("ann: /notify")
    await chat.said("experiments that were kept")
    office.journal.set_cursor(HERE.channel, 0)
    assert "every experiment" in await office.said("/notify", HERE)
    (check,) = chat.chats.health()
    assert check.ok
    assert check.detail.startswith("connected; last seen 2")
