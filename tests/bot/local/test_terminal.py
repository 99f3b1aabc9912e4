from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from bot.local import terminal as terminal_module
from bot.local.terminal import Output, attach_terminal, chat, follow, render
from bot.local.wire import send
from loop.errors import UserError
from notifiers.message import Message
from tests.bot.local_bot import LocalBot, local_bot

INJECTION = "\x1b]0;owned\x07\x1b[2J\x1b[31mbad\x1b[0m\x08\x9b5m\u202e idea"


class Screen(DummyOutput):
    """What was written to a terminal, and a way to wait for it."""

    def __init__(self) -> None:
        self.text = ""
        self._written = asyncio.Event()

    def write(self, data: str) -> None:
        self.text += data
        self._written.set()

    async def shows(self, part: str, since: int = 0) -> None:
        while part not in self.text[since:]:
            self._written.clear()
            await self._written.wait()


class Person:
    """Somebody at a terminal with a chat on it."""

    def __init__(self, keys: PipeInput, screen: Screen, chatting: asyncio.Task[bool]) -> None:
        self._keys = keys
        self.screen = screen
        self.chatting = chatting

    def types(self, text: str) -> None:
        self._keys.send_text(text)


@pytest.fixture
async def bot(tmp_path: Path) -> AsyncIterator[LocalBot]:
    async with local_bot(tmp_path / "bot.sock") as running:
        yield running


async def _readable(descriptor: int) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    await ready.wait()
    loop.remove_reader(descriptor)


@pytest.fixture
def terminal() -> Iterator[tuple[PipeInput, Screen]]:
    screen = Screen()
    with create_pipe_input() as keys, create_app_session(input=keys, output=screen):
        yield keys, screen


@asynccontextmanager
async def person_at(bot: LocalBot, terminal: tuple[PipeInput, Screen]) -> AsyncIterator[Person]:
    keys, screen = terminal
    chatting = asyncio.create_task(chat(bot.path))
    await screen.shows("waiting")
    yield Person(keys, screen, chatting)
    await chatting


async def test_a_command_is_sent_and_its_reply_printed(
    bot: LocalBot, terminal: tuple[PipeInput, Screen]
) -> None:
    async with person_at(bot, terminal) as person:
        person.types("/status\r")
        await person.screen.shows("You said /status.\na\tb\n")
        person.types("/nonsense\r")
        await person.screen.shows("There is no /nonsense.")
        person.types("\x04")


async def test_the_slash_may_be_left_out_and_empty_lines_are_nothing(
    bot: LocalBot, terminal: tuple[PipeInput, Screen]
) -> None:
    async with person_at(bot, terminal) as person:
        person.types("\r   \r/\r  retag a b \r")
        await person.screen.shows("You said /retag a b.")
        person.types("\x04")
    assert bot.commands == ["/retag a b"]


@pytest.mark.parametrize(
    "pasted", ["\x1b[31mred\x1b[0m", "\x1b[99;99;99;99M", "\x1b[<;;M", "\x1b[;m", "\x1b]0;t\x07"]
)
async def test_control_sequences_that_are_typed_ahead_end_nothing(
    bot: LocalBot, terminal: tuple[PipeInput, Screen], pasted: str
) -> None:
    async with person_at(bot, terminal) as person:
        person.types(f"/status\r{pasted}")
        await person.screen.shows("You said /status.")
        person.types("\x15/help\r")
        await person.screen.shows("You said /help.")
        person.types("\x04")
    assert not person.chatting.result()


@pytest.mark.parametrize("leaving", ["/quit\r", "quit\r", "\x04", "\x03", "half a line\x03"])
async def test_the_person_leaves(bot: LocalBot, terminal: tuple[PipeInput, Screen], leaving: str) -> None:
    async with person_at(bot, terminal) as person:
        person.types(leaving)
        assert await person.chatting is False
    assert bot.commands == []


async def test_messages_are_printed_and_progress_is_in_the_toolbar(
    bot: LocalBot, terminal: tuple[PipeInput, Screen]
) -> None:
    async with person_at(bot, terminal) as person:
        bot.server.publish(Message("Experiment #1: wider", block="a table"))
        await person.screen.shows("Experiment #1: wider\na table\n")
        bot.doing = "step\x1b[31m 7\nof 9"
        await person.screen.shows("step 7 of 9")
        person.types("\x04")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("/sta\t", "/start_run"), ("sta\t", "/start_run"), ("/help sta\t", "/help start_run")],
)
async def test_names_are_completed(
    tmp_path: Path, terminal: tuple[PipeInput, Screen], typed: str, meant: str
) -> None:
    async with local_bot(tmp_path / "bot.sock") as bot, person_at(bot, terminal) as person:
        person.types(typed.replace("sta", "star") + "\r")
        await person.screen.shows(f"You said {meant}.")
        person.types("\x04")


async def test_a_script_cannot_drive_the_terminal(bot: LocalBot, terminal: tuple[PipeInput, Screen]) -> None:
    async with person_at(bot, terminal) as person:
        bot.server.publish(Message(INJECTION, block=INJECTION))
        await person.screen.shows("bad idea\nbad idea\n")
        person.types("\x04")
    assert "owned" not in person.screen.text


async def test_a_bot_that_ends_ends_the_chat_with_a_line(
    bot: LocalBot, terminal: tuple[PipeInput, Screen]
) -> None:
    async with person_at(bot, terminal) as person:
        person.types("half a comm")
        await person.screen.shows("half a comm")
        bot.server.publish(Message("last words"))
        await bot.server.stop()
        assert await person.chatting is True
    assert person.screen.text.index("last words") < person.screen.text.index("The bot has ended.\n")


async def test_a_cancelled_chat_ends_at_once(bot: LocalBot, terminal: tuple[PipeInput, Screen]) -> None:
    _, screen = terminal
    chatting = asyncio.create_task(chat(bot.path))
    await screen.shows("waiting")
    chatting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await chatting


async def test_signals_stay_with_the_process_of_the_bot(
    bot: LocalBot, terminal: tuple[PipeInput, Screen]
) -> None:
    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, interrupted.set)
    async with person_at(bot, terminal) as person:
        for _ in range(2):  # at the first prompt, and after it
            os.kill(os.getpid(), signal.SIGINT)
            await interrupted.wait()
            interrupted.clear()
            person.types("/status\r")
            await person.screen.shows("You said /status.")
        person.types("\x04")
    assert loop.remove_signal_handler(signal.SIGINT)


async def test_what_was_typed_is_kept_for_its_user_alone(
    bot: LocalBot, terminal: tuple[PipeInput, Screen]
) -> None:
    history = bot.path.with_name("history")
    history.touch(mode=0o644)
    async with person_at(bot, terminal) as person:
        person.types("/idea secret\r")
        await person.screen.shows("You said")
        person.types("\x04")
    assert "/idea secret" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    async with person_at(bot, terminal) as person:
        seen = len(person.screen.text)
        person.types("\x1b[A\r")
        await person.screen.shows("You said /idea secret.", since=seen)
        person.types("\x04")


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_commands_are_taken_where_what_was_typed_cannot_be_kept(
    bot: LocalBot, terminal: tuple[PipeInput, Screen], when: str
) -> None:
    history = bot.path.with_name("history")
    if when == "before":
        history.symlink_to(bot.path.with_name("none") / "history")
    async with person_at(bot, terminal) as person:
        if when == "meanwhile":
            history.unlink()
            history.mkdir()
        person.types("/pause\r")
        await person.screen.shows("You said /pause.")
        person.types("\x04")
    assert bot.commands == ["/pause"]


async def test_without_a_bot_there_is_nothing_to_chat_with(
    tmp_path: Path, terminal: tuple[PipeInput, Screen]
) -> None:
    with pytest.raises(UserError, match="No bot runs"):
        await chat(tmp_path / "none" / "bot.sock")


class Printed:
    """A file as the output of a bot."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._path = path
        self.output = Output(self._file)

    @property
    def text(self) -> str:
        return self._path.read_text(encoding="utf-8")

    def close(self) -> None:
        self._file.close()


@pytest.fixture
def printed(tmp_path: Path) -> Iterator[Printed]:
    with closing(Printed(tmp_path / "printed")) as printed:
        yield printed


async def test_following_writes_messages_until_the_bot_ends(bot: LocalBot, printed: Printed) -> None:
    following = asyncio.create_task(follow(bot.path, printed.output, progress_every=3600))
    await bot.server.wait_attached()
    bot.doing = "never shown: too soon after the first"
    await bot.settled()
    bot.server.publish(Message("Experiment #0: baseline\nStatus: keep"))
    bot.server.publish(Message(INJECTION, block="two\nlines\n"))
    await bot.server.stop()
    await following
    assert printed.text == ("waiting\nExperiment #0: baseline\nStatus: keep\n\nbad idea\ntwo\nlines\n\n")


async def test_progress_that_comes_too_soon_is_shown_when_it_is_due(bot: LocalBot, printed: Printed) -> None:
    following = asyncio.create_task(follow(bot.path, printed.output, progress_every=0.05))
    await bot.server.wait_attached()
    for bot.doing in ("step 1", "step 2"):
        await bot.settled()
    while "step 2\n" not in printed.text:  # noqa: ASYNC110 - a file tells nobody
        await asyncio.sleep(0.005)
    await bot.server.stop()
    await following


async def test_following_shows_progress_now_and_then(bot: LocalBot, printed: Printed) -> None:
    following = asyncio.create_task(follow(bot.path, printed.output, progress_every=0))
    await bot.server.wait_attached()
    for bot.doing in ("step 1", "", "step\x07\n2"):
        await bot.settled()
    await bot.server.stop()
    await following
    assert printed.text == "waiting\nstep 1\nstep 2\n"


async def test_a_pipe_nobody_reads_from_holds_up_the_follower_alone(bot: LocalBot) -> None:
    bot.doing = ""
    from_follower, into_pipe = os.pipe()
    with os.fdopen(from_follower) as reader, os.fdopen(into_pipe, "w") as out:
        following = asyncio.create_task(follow(bot.path, Output(out)))
        await bot.server.wait_attached()
        bot.server.publish(Message("x" * 500_000))  # more than a pipe holds
        await _readable(from_follower)
        assert not (await send(bot.path, "/status")).refused
        reading = asyncio.create_task(asyncio.to_thread(reader.read, 500_000))
        assert await reading == "x" * 500_000
        await bot.server.stop()
        await following


async def test_without_a_bot_there_is_nothing_to_follow(tmp_path: Path, printed: Printed) -> None:
    with pytest.raises(UserError, match="No bot runs"):
        await follow(tmp_path / "bot.sock", printed.output)


@pytest.mark.parametrize(
    ("message", "text"),
    [(Message("a"), "a"), (Message("a", "b\n"), "a\nb"), (Message("", "b"), "b"), (Message(""), "")],
)
def test_a_message_as_text(message: Message, text: str) -> None:
    assert render(message) == text


async def test_a_follower_goes_on_when_its_output_fails_for_a_while(
    bot: LocalBot, caplog: pytest.LogCaptureFixture
) -> None:
    bot.doing = ""
    from_follower, into_pipe = os.pipe()
    with os.fdopen(into_pipe, "w") as out:
        os.close(from_follower)
        following = asyncio.create_task(follow(bot.path, Output(out)))
        await bot.server.wait_attached()
        bot.server.publish(Message("lost"))
        bot.server.publish(Message("lost too"))
        await bot.server.stop()
        await following
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_who_follows_can_be_cancelled_while_a_pipe_is_full(bot: LocalBot) -> None:
    from_follower, into_pipe = os.pipe()
    with os.fdopen(from_follower), os.fdopen(into_pipe, "w") as out:
        following = asyncio.create_task(follow(bot.path, Output(out)))
        await bot.server.wait_attached()
        bot.server.publish(Message("x" * 500_000))
        await _readable(from_follower)
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following


async def test_characters_that_an_output_lacks_are_replaced(bot: LocalBot, tmp_path: Path) -> None:
    bot.doing = ""
    with (tmp_path / "printed").open("w", encoding="ascii") as out:
        following = asyncio.create_task(follow(bot.path, Output(out)))
        await bot.server.wait_attached()
        bot.server.publish(Message("0.1 \u2192 0.2"))
        await bot.server.stop()
        await following
    assert (tmp_path / "printed").read_text() == "0.1 ? 0.2\n\n"


async def test_a_prompt_that_fails_leaves_the_bot(
    bot: LocalBot, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object, **__: object) -> bool:
        raise RuntimeError("no termios")

    left = asyncio.Event()
    monkeypatch.setattr(terminal_module, "is_at_terminal", lambda: True)
    monkeypatch.setattr(terminal_module, "chat", fail)
    attached = asyncio.create_task(attach_terminal(bot.path, left=left))
    await bot.server.wait_attached()  # by what follows instead
    await bot.server.stop()
    await attached
    assert not left.is_set()
    assert "the prompt has failed (RuntimeError: no termios)" in caplog.text


@pytest.mark.parametrize("there", [True, False], ids=["person", "hang-up"])
async def test_only_a_person_who_leaves_ends_the_bot(
    bot: LocalBot, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    async def end(*_: object, **__: object) -> bool:
        return False

    answers = [there, True]
    left = asyncio.Event()
    monkeypatch.setattr(terminal_module, "is_at_terminal", answers.pop)
    monkeypatch.setattr(terminal_module, "chat", end)
    attached = asyncio.create_task(attach_terminal(bot.path, left=left))
    if not there:
        await bot.server.wait_attached()
        await bot.server.stop()
    await attached
    assert left.is_set() == there
