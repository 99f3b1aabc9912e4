"""The front end on Telegram: commands and button presses in, answers out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from telegram import BotCommand, Update, User
from telegram.error import TelegramError
from telegram.ext import ExtBot

from bot.access import Request
from bot.commands import Command
from bot.front import ANSWER_WAITS, FrontHealth
from bot.telegram.connection import LostError, Pace, Pulse, TokenRefusedError, Webhook, open_line
from bot.telegram.messages import Asked, TelegramReplies, asked_in
from loop.errors import UserError, backoff
from loop.files import LockedError, lock
from notifiers.message import Reply

Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
_T = TypeVar("_T")

HEAD_START = 2.0
LINGER_SECONDS = 2.0  # that work at hand gets at the end


class Lanes:
    """Begins the work of each place in the order in which it came.

    A piece of work begins when the one before it is done, or has had `head_start` seconds for itself: quick
    commands are obeyed strictly one after another, and a slow one does not keep the next for long.
    """

    def __init__(self, head_start: float = HEAD_START) -> None:
        self._head_start = head_start
        self._waiting: dict[str, deque[Work]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def put(self, place: str, work: Work) -> None:
        """Add work to the end of a place's lane."""
        if place in self._waiting:
            self._waiting[place].append(work)
        else:
            self._waiting[place] = deque([work])
            self.begin(self._serve(place))

    def begin(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Begin something at once, whatever waits; it ends with the lanes."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def close(self) -> None:
        """Finish what is at hand within a moment; what has not begun by then never does."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=LINGER_SECONDS)
        while self._tasks:
            late = set(self._tasks)
            for task in late:
                task.cancel()
            await asyncio.wait(late)

    async def _serve(self, place: str) -> None:
        waiting = self._waiting[place]
        while waiting:
            task = self.begin(waiting.popleft()())
            await asyncio.wait({task}, timeout=self._head_start)
        del self._waiting[place]

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a command failed", exc_info=error)


log = logging.getLogger(__name__)

REFUSALS = 3
"""How often in a row Telegram must refuse the token before it is believed."""

DESCRIPTION_CHARACTERS = 256


class TelegramFront:
    """Turns what people do on Telegram into requests, and shows what `answer` says to them.

    `answer` returns None for what must not be answered at all. Answers go through `bot`, made by `make_bot`:
    it may serve channels too, before the front runs and after. Updates come over a line of their own, which
    is replaced whenever it dies, by long polling or by `webhook`. A file in the folder `locks` keeps other
    bots of this machine from using the same token.
    """

    def __init__(
        self,
        *,
        bot: ExtBot[None],
        answer: Callable[[Request], Awaitable[Reply | None]],
        commands: Sequence[Command],
        locks: Path,
        webhook: Webhook | None = None,
        pace: Pace | None = None,
        head_start: float = HEAD_START,
        answer_waits: Sequence[float] = ANSWER_WAITS,
    ) -> None:
        self._bot = bot
        self._answer = answer
        self._menu = [BotCommand(one.name, one.help[:DESCRIPTION_CHARACTERS]) for one in commands]
        self._menu_is_set = False
        self._lock = locks / f"telegram-{bot.token.partition(':')[0]}.lock"
        self._webhook = webhook
        self._pace = pace or Pace()
        self._pulse = Pulse()
        self._lanes = Lanes(head_start)
        self._replies = TelegramReplies(bot=bot, waits=answer_waits)

    def health(self) -> FrontHealth:
        """Return how things stand at this moment."""
        return FrontHealth(self._pulse.connected, self._pulse.last_seen, self._pulse.error)

    async def run(self) -> None:
        """Serve until cancelled, whatever happens on the way to Telegram.

        A token that Telegram does not know is said once, in the log and by `health`; then nothing is tried.
        """
        try:
            with ExitStack() as held:
                await self._take_lock(held)
                await self._keep_line()
        except UserError as error:
            self._pulse.fail(str(error))
            log.error("%s", error)  # noqa: TRY400, a sentence for people
            await asyncio.get_running_loop().create_future()
        finally:
            await self._lanes.close()

    async def _take_lock(self, held: ExitStack) -> None:
        while True:
            try:
                self._lock.parent.mkdir(parents=True, exist_ok=True)
                return held.enter_context(lock(self._lock))
            except OSError as no:  # a file system without locks is no reason not to work
                log.info("%s cannot be locked: %s", self._lock, no.strerror)
                return None
            except LockedError as other:
                error = f"another bot on this machine ({other}) uses this token: end one of the two"
                if error != self._pulse.error:
                    log.warning("Telegram: %s", error)
                self._pulse.fail(error)
            await asyncio.sleep(self._pace.waits[0])

    async def _keep_line(self) -> None:
        """Connect, and connect again when the line is lost: after a wait that grows while it is of no use."""
        token = self._bot.token
        base_url = self._bot.base_url.removesuffix(f"/bot{token}")
        failures, refusals, told = 0, 0, ""
        while True:
            began = time.monotonic()
            try:
                async with open_line(
                    token=token,
                    base_url=base_url,
                    receive=self._receive,
                    pulse=self._pulse,
                    pace=self._pace,
                    webhook=self._webhook,
                ) as line:
                    refusals, told = 0, ""
                    log.info("Telegram: connected as @%s", line.me.username)
                    await self._set_menu()
                    await line.watch()
            except LostError as error:
                refusals = refusals + 1 if isinstance(error, TokenRefusedError) else 0
                if refusals == REFUSALS:
                    raise UserError(
                        "Telegram does not know the bot of TELEGRAM_BOT_TOKEN (401): put the token there "
                        "that @BotFather shows for it."
                    ) from None
                self._pulse.fail(str(error))
                lived = time.monotonic() - began
                failures = failures + 1 if lived <= backoff(self._pace.waits, failures + 1) else 1
                wait = backoff(self._pace.waits, failures)
                level = logging.INFO if str(error) == told else logging.WARNING
                log.log(level, "Telegram: not connected: %s; trying again in %.0f s", error, wait)
                told = str(error)
                await asyncio.sleep(wait)

    async def _set_menu(self) -> None:
        """Tell Telegram the commands that it proposes to people; nothing depends on it."""
        if self._menu_is_set:
            return
        try:
            self._menu_is_set = await self._bot.set_my_commands(self._menu)
        except TelegramError as error:
            log.warning("Telegram: the menu of commands could not be set: %s", error)

    def _receive(self, update: Update, me: User) -> None:
        asked = asked_in(update, me=me, now=time.time())
        if asked is None:
            return
        place = asked.request.sender.place
        if not asked.press:
            self._lanes.put(place, partial(self._obey, asked))
            return
        # At once, and not when its turn comes: the button spins until then, and Telegram waits 15 s at most.
        rest = self._lanes.begin(self._replies.acknowledge(asked.press))
        self._lanes.put(place, partial(self._obey_press, asked, rest))

    async def _obey_press(self, asked: Asked, rest: asyncio.Task[bool]) -> None:
        fresh = await rest
        if not fresh:
            asked = replace(asked, request=replace(asked.request, sent_at=asked.shown_at))
        await self._obey(asked)

    async def _obey(self, asked: Asked) -> None:
        reply = await self._answer(asked.request)
        if reply is not None:
            await self._replies.show(asked, reply)
