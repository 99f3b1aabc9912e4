"""Platforms that cannot be set up, and a state file that cannot be written: the chats say so and go on."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC
from math import inf
from pathlib import Path

import pytest

from bot import platforms
from bot.commands.access import Access, Request
from bot.front import Answer, Connection, FrontHealth, Platform
from bot.platforms import Chats, access_by, chat_checks
from bot.setup.doctor import Check
from bot.setup.settings import Settings, load_settings
from bot.slack.connection import HttpLine, SocketLine
from bot.slack.front import SlackFront
from bot.telegram.connection import Line
from bot.telegram.front import TelegramFront
from loop.errors import UserError
from loop.experiment import Event, Run
from loop.results.report import RunStatus
from loop.store.journal import Journal
from notifiers.delivery.preferences import Preferences, PreferenceStore
from notifiers.delivery.rate_limit import Clock
from notifiers.message import Message, Reply
from tests.bot.text_file import CONNECTED, NAME, PLACE, text_file

SECRET = "1234:secret-of-the-bot"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(tmp_path / ".env", {"TELEGRAM_BOT_TOKEN": SECRET})


class World:
    """Chats on one platform that fails with each of `errors` before it can be set up."""

    def __init__(self, folder: Path, settings: Settings, *errors: Exception) -> None:
        self.errors = list(errors)
        self.journal = Journal(folder / "state.db", patience=inf)
        self.said: list[str] = []
        self.messages = folder / "messages"
        (folder / "commands").touch()
        whole = text_file(folder)
        self.checks: list[Sequence[Check]] = []

        def connect(given: Settings, answer: Answer, access: Access, clock: Clock) -> Connection | None:
            if self.errors:
                raise self.errors.pop(0)
            connection = whole.connect(given, answer, access, clock)
            assert connection is not None
            return replace(connection, check=self.check)

        self.platform = replace(whole, connect=connect)
        self.chats = Chats(
            settings,
            access=access_by(settings, (self.platform,)),
            journal=self.journal,
            preferences=PreferenceStore(self.journal, default=Preferences()),
            status=_no_status,
            report=_no_report,
            zone=UTC,
            say_here=self.said.append,
            platforms=(self.platform,),
        )

    async def check(self, _: bool) -> Sequence[Check]:
        return self.checks.pop(0) if self.checks else [CONNECTED]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.chats.run(_no_answer))
        yield
        task.cancel()
        await asyncio.wait({task})
        self.journal.close()


def _no_status(_: Run) -> RunStatus:
    raise AssertionError


async def _no_report(_: Event) -> Message | None:
    return None


async def _no_answer(_: Request) -> Reply | None:
    return None


@pytest.mark.parametrize("holder", [SlackFront, SocketLine, HttpLine, TelegramFront, Line])
def test_what_has_a_token_does_not_show_it(holder: type[object]) -> None:
    assert holder.__repr__ is object.__repr__


async def test_a_part_that_fails_as_it_is_ended_is_not_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()
    times = 0

    async def fail_at_the_end() -> None:
        nonlocal times
        times += 1
        begun.set()
        if times == 1:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                raise OSError("it cannot be closed")

    monkeypatch.setattr(platforms, "RESTART_SECONDS", 0.0)
    kept = asyncio.create_task(platforms.keep(fail_at_the_end))
    await begun.wait()
    kept.cancel()
    await asyncio.wait({kept})
    assert kept.cancelled()
    assert times == 1


async def test_a_platform_is_set_up_when_its_surroundings_allow_it(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platforms, "CONNECT_WAITS", (0.05,))
    world = World(tmp_path, settings, UserError("No proxy. Set one."), RuntimeError(f"at {SECRET}"))
    name = world.platform.name.capitalize()
    async with world.running():
        while len(world.said) < 4:
            await asyncio.sleep(0.01)
            assert SECRET not in str(world.chats.health())
        assert world.said == [
            f"{name} is unavailable: No proxy. Set one.",
            f"{name} is unavailable: RuntimeError: at ***",
            f"{name} is set up now.",
            CONNECTED.sentence,
        ]
        assert not [line for line in world.chats.health() if "unavailable" in line.detail]


async def test_health_says_why_a_platform_cannot_be_set_up(tmp_path: Path, settings: Settings) -> None:
    world = World(tmp_path, settings, UserError("No proxy. Set one."))
    async with world.running():
        while not world.said:  # noqa: ASYNC110 - a list tells nobody
            await asyncio.sleep(0.01)
        found = world.chats.health()
    assert found == [Check(world.platform.name.capitalize(), False, "unavailable: No proxy. Set one.")]


async def test_health_warns_of_trouble_on_a_platform_that_is_connected(
    tmp_path: Path, settings: Settings
) -> None:
    world = World(tmp_path, settings)
    async with world.running():
        while not world.said:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.01)
        name = world.platform.name.capitalize()
        world.chats._fronts[name] = lambda: FrontHealth(True, None, "another program uses this token.")
        (found,) = world.chats.health()
    assert found == Check(name, None, "connected, but another program uses this token; never connected")


async def test_what_a_platform_refuses_is_said_once_and_shown_until_it_is_well(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platforms, "CHECK_WAITS", (0.05,))
    world = World(tmp_path, settings)
    chat = Check(f"{NAME}:{PLACE}", False, "chat not found", "Correct it.")
    token = Check(NAME.capitalize(), False, "does not accept the token", "Set another.")
    world.checks = [[token], [token], [CONNECTED, chat]]
    shown: list[list[Check]] = []
    async with world.running():
        while len(world.said) < 3:
            await asyncio.sleep(0.01)
            shown.append(world.chats.health())
        while world.chats.health()[0].ok is False:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.01)
        assert len(world.chats.health()) == 1
    assert world.said == [token.sentence, CONNECTED.sentence, chat.sentence]
    assert [token] in shown


async def test_what_keeps_commands_out_is_said_too(tmp_path: Path, settings: Settings) -> None:
    world = World(tmp_path, settings)
    (tmp_path / "commands").unlink()
    async with world.running():
        while len(world.said) < 2:  # noqa: ASYNC110 - a list tells nobody
            await asyncio.sleep(0.01)
    assert world.said == [CONNECTED.sentence, "Text_file: no such file."]


async def test_a_state_file_that_cannot_be_written_is_said_in_the_chats(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platforms, "BLOCKED_SECONDS", 0.2)
    world = World(tmp_path, settings)
    async with world.running():
        with closing(sqlite3.connect(world.journal.path, isolation_level=None)) as browser:
            browser.execute("BEGIN IMMEDIATE")
            writing = asyncio.create_task(asyncio.to_thread(world.journal.beat))
            while not world.messages.exists():  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(0.01)
            assert "another program locks it" in world.messages.read_text()
            browser.execute("ROLLBACK")
        await writing
        while "can be written again" not in world.messages.read_text():  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.01)
    assert len([text for text in world.said if text.startswith("The state file")]) == 2


def test_doctor_tries_to_set_up_what_the_settings_name(tmp_path: Path, settings: Settings) -> None:
    def refuse(*_: object) -> Connection | None:
        raise ValueError(f"bad {SECRET}")

    allowed = text_file(tmp_path).allowed
    tried = (
        text_file(tmp_path),
        Platform("absent", allowed, lambda *_: None),
        Platform("broken", allowed, refuse),
    )
    well, unused, broken = chat_checks(settings, tried)
    assert well == CONNECTED
    assert (unused.name, unused.ok) == ("Absent", None)  # people are listed
    assert (broken.ok, broken.detail) == (False, "ValueError: bad ***")
