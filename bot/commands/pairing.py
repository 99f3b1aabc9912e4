"""Pairing: who reads the code in the bot's terminal may steer the bot from a chat, until the bot ends."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass

from bot.commands.access import Access, Request, Sender
from loop.text import one_line
from notifiers.message import Message, Reply
from notifiers.text.words import duration

log = logging.getLogger(__name__)

DIGITS = 8
TRIES = 5
REFUSED_SECONDS = 600.0
"""After so many wrong codes all are refused for so long: a year of guessing finds the code once in 380."""

NAME_CHARACTERS = 60
START = "This bot has no owner yet. If it is yours, send /pair with the code that its terminal shows."


@dataclass(eq=False)
class Pairing:
    """Answers `/start` and `/pair CODE` while nobody is listed on a platform; `inbox` gets all else.

    The first who sends the code is let in by `access`, and nobody after: `paired` is that person, in the
    chat that is told from then on. Nothing is written. `now` is in seconds and never set back.
    """

    platform: str
    inbox: Callable[[Request], Awaitable[Reply | None]]
    _: KW_ONLY
    access: Access
    say_here: Callable[[str], None]
    now: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._title = self.platform.capitalize()
        self._code = f"{secrets.randbelow(10**DIGITS):0{DIGITS}}"
        self._wrong = 0  # codes since the last refusal
        self._refused_until = float("-inf")
        self.paired: asyncio.Future[Sender] = asyncio.get_running_loop().create_future()

    def offer(self) -> None:
        """Say the code in the terminal."""
        self.say_here(f"{self._title}: no chat is listed. To pair yours, send the bot: /pair {self._code}")

    async def answer(self, request: Request) -> Reply | None:
        word, _, code = request.text.strip().partition(" ")
        if self.access.may_ask_id(request.sender):
            if word.lower() == "/start":
                lines = self.access.env_lines(request.sender)
                return Reply(Message(f"{START} Or put this into .env and start the bot again:", lines))
            if word.lower() == "/pair":
                return self._pair(request.sender, code)
        return await self.inbox(request)

    def _pair(self, sender: Sender, code: str) -> Reply:
        wait = self._refused_until - self.now()
        if wait > 0:
            return Reply(Message(f"Too many wrong codes: try again in {duration(wait)}."), refused=True)
        given = code.replace(" ", "").replace("-", "")
        if not hmac.compare_digest(given.encode(errors="replace"), self._code.encode()):
            return self._refuse(sender)
        self.access.admit(sender)
        self.paired.set_result(sender)
        lines = self.access.env_lines(sender)
        who, kept = one_line(sender.name, NAME_CHARACTERS), " ".join(lines.splitlines())
        log.info("%s: %s is paired by user %s", self._title, sender.spot, sender.user)
        self.say_here(
            f"{self._title}: chat {sender.spot} is paired, by {who} (user {sender.user}), until the bot is "
            f"restarted. To keep it, put into .env: {kept}"
        )
        return Reply(Message("Paired until the bot is restarted. To keep it, put this into .env:", lines))

    def _refuse(self, sender: Sender) -> Reply:
        log.warning("%s: a wrong pairing code from user %s in %s", self._title, sender.user, sender.spot)
        self._wrong += 1
        if self._wrong == TRIES:
            self._wrong, self._refused_until = 0, self.now() + REFUSED_SECONDS
            wait = duration(REFUSED_SECONDS)
            self.say_here(
                f"{self._title}: {TRIES} wrong pairing codes, the last from user {sender.user}. "
                f"None is accepted for {wait}."
            )
        return Reply(Message("Wrong code. The bot's terminal shows the right one."), refused=True)
