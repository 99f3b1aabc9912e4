"""A person's terminal, or a pipe, attached to the bot."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import select
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from bot.commands.table import VISIBLE
from bot.local.wire import Connected, Progress, connect
from loop.errors import UserError
from loop.shell import own_command
from loop.text import clean, one_line
from notifiers.message import Message, Reply

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

log = logging.getLogger(__name__)


def render(message: Message) -> str:
    """Return `message` as harmless plain text, without a line end at its end."""
    return clean("\n".join(part for part in (message.text, message.block) if part)).rstrip("\n")


async def chat(path: Path, *, leaving: str = "leaves") -> bool:
    """Attach this terminal to the bot at the socket `path`; tell whether it was the bot that ended the chat.

    What is typed is kept in a file beside the socket. A person leaves by `/quit`, Ctrl-D or Ctrl-C; `leaving`
    says what that does.
    """
    from prompt_toolkit.patch_stdout import patch_stdout

    async with connect(path) as bot:
        session = _session(path.with_name("history"))
        session.output.write(f"Type /help for the commands; Ctrl-D {leaving}.\n")
        session.output.flush()
        conversation = _Conversation(bot, session)
        with patch_stdout():
            showing = asyncio.create_task(conversation.show())
            asking = asyncio.create_task(conversation.ask())
            try:
                await asyncio.wait((showing, asking), return_when=asyncio.FIRST_COMPLETED)
            finally:
                showing.cancel()
                asking.cancel()
                await asyncio.wait((showing, asking))
    for task in (showing, asking):
        if not task.cancelled():
            task.result()  # raises what went wrong in it
    if not asking.cancelled():
        return False
    session.output.write("The bot has ended.\n")
    session.output.flush()
    return True


@dataclass(slots=True, eq=False)
class _Conversation:
    """Both directions of a chat: what is typed goes to the bot, what it says is printed above the prompt."""

    bot: Connected
    session: PromptSession[str]
    progress: str = ""

    async def ask(self) -> None:
        while True:
            try:
                typed = await self.session.prompt_async(
                    bottom_toolbar=lambda: [("", self.progress)],
                    # Signals and unhandled errors are not handled here: this may be the bot process itself.
                    handle_sigint=False,
                    set_exception_handler=False,
                )
            except EOFError:
                return
            command = typed.strip().removeprefix("/")
            if command == "quit":
                return
            if command:
                await self.bot.send(f"/{command}")

    async def show(self) -> None:
        from prompt_toolkit.application import in_terminal

        output = self.session.output
        async for item in self.bot:
            match item:
                case Progress(text):
                    self.progress = one_line(text)
                    self.session.app.invalidate()
                case Reply(message) | (Message() as message):
                    async with in_terminal():
                        output.write(render(message) + "\n\n")
                        output.flush()


def _session(history: Path) -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.keys import Keys
    from prompt_toolkit.shortcuts import CompleteStyle

    class Kept(FileHistory):
        def store_string(self, string: str) -> None:
            with suppress(OSError):  # a full disk must not take the prompt away
                super().store_string(string)

    bindings = KeyBindings()
    # A colour in pasted text looks like the report of a mouse, over which the usual binding stumbles.
    bindings.add(Keys.Vt100MouseEvent)(lambda _: None)
    with suppress(OSError):
        history.touch(mode=0o600)
        history.chmod(0o600)  # if it was there before
    return PromptSession(
        "autoresearch> ",
        history=Kept(history),
        # The pattern takes the letters before the cursor, so that a slash before them changes nothing.
        completer=WordCompleter([command.name for command in VISIBLE], pattern=re.compile(r"^\w*")),
        complete_while_typing=False,
        complete_style=CompleteStyle.READLINE_LIKE,
        interrupt_exception=EOFError,
        key_bindings=bindings,
    )


class Output:
    """An output that may be closed, full, unread, or of few characters: what it cannot take is left out."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._works = True

    async def write(self, text: str) -> None:
        """Write in a thread of its own, as a pipe may never be read; a caller that is cancelled goes on."""
        loop, written = asyncio.get_running_loop(), asyncio.Event()

        def work() -> None:
            self._write(text)
            with suppress(RuntimeError):  # the event loop has ended meanwhile
                loop.call_soon_threadsafe(written.set)

        threading.Thread(target=work, daemon=True).start()  # the process does not wait for its end
        await written.wait()

    def _write(self, text: str) -> None:
        try:
            left = text.encode(self._out.encoding or "utf-8", errors="replace")
            descriptor = self._out.fileno()  # without Python's buffer, which keeps what was refused
            while left:
                select.select([], [descriptor], [])  # it may not block by itself
                left = left[os.write(descriptor, left) :]
        except (OSError, ValueError) as error:
            if self._works:
                log.warning("the output cannot be written (%s): the bot goes on without it", error)
            self._works = False
        else:
            self._works = True


async def follow(path: Path, out: Output, *, progress_every: float = 5.0) -> None:
    """Write what the bot says to `out` as plain text until the bot ends, or drops us as we lag behind.

    A progress line at most every `progress_every` seconds, the latest one then.
    """
    clock = asyncio.get_running_loop().time
    due, progress = clock(), ""
    async with connect(path) as bot:
        while True:
            try:
                async with asyncio.timeout_at(due if progress else None):
                    item = await anext(bot)
            except StopAsyncIteration:
                return
            except TimeoutError:
                await out.write(progress + "\n")
                due, progress = clock() + progress_every, ""
                continue
            match item:
                case Message():
                    progress = ""  # what it is about has ended
                    await out.write(render(item) + "\n\n")
                case Progress(text):
                    progress = one_line(text)


_LEAVING = "ends the bot, not the training under way"
ATTACH_SECONDS = 1.0  # after which an output that was too slow is attached again


async def attach_terminal(path: Path, *, left: asyncio.Event) -> None:
    """Show on the bot's own terminal, or in its output, what it says; set `left` when a person leaves.

    A prompt that fails and a terminal that has gone leave the bot without them, never end it.
    """
    without = f"the bot goes on without it; attach another with `{own_command('chat', path.parent)}`"
    if is_at_terminal():
        try:
            ended = await chat(path, leaving=_LEAVING)
        except Exception as error:  # noqa: BLE001 - whatever a terminal does to prompt_toolkit
            log.warning("the prompt has failed (%s: %s): %s", type(error).__name__, error, without)
        else:
            if ended or is_at_terminal():
                left.set()
                return
            log.warning("the terminal has gone: %s", without)
    output = Output(sys.stdout)
    while not _has_ended(path):
        with suppress(UserError):
            await follow(path, output)
        if not _has_ended(path):
            await asyncio.sleep(ATTACH_SECONDS)


def _has_ended(path: Path) -> bool:
    return not path.exists()  # the bot removes its socket first


def is_at_terminal() -> bool:
    """Tell whether a person can type here: into a terminal that is there, with us in its foreground."""
    try:
        return sys.stdin.isatty() and sys.stdout.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False
