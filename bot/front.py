"""What every chat platform is made of: entry, connection, the order of commands, the way of answers."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NoReturn, TypeAlias, TypeVar

from bot.commands.access import Access, AllowList, Request, Sender
from bot.setup.doctor import Check
from bot.setup.settings import Settings
from loop.errors import UserError, backoff
from notifiers.delivery.rate_limit import Clock, Spacing
from notifiers.message import Channel, ChannelError, RateLimitedError, Reply, UnreachableError

log = logging.getLogger(__name__)

Answer: TypeAlias = Callable[[Request], Coroutine[Any, Any, Reply | None]]
Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
_T = TypeVar("_T")

ANSWER_WAITS = (1.0, 2.0, 5.0, 15.0, 30.0)  # seconds between the attempts to show an answer
HEAD_START = 2.0  # seconds that a command has for itself before the next one begins
LINGER_SECONDS = 0.5  # that work at hand gets at the end


@dataclass(frozen=True, slots=True)
class FrontHealth:
    """Whether the platform is reached, when it last gave a sign of life, and what is wrong if anything is.

    `last_seen` is in seconds since the epoch, None before the first sign.
    """

    connected: bool
    last_seen: float | None
    error: str


@dataclass(frozen=True, slots=True)
class Connection:
    """A platform in use: `run` takes commands until cancelled, each of `channels` is sent messages.

    `check` asks the platform whether it lets the bot in and takes its messages; given True, also what `run`
    would find out.
    `close` is called after all have ended. `reach` returns the channel to where a paired sender is.
    """

    run: Callable[[], Coroutine[Any, Any, None]]
    health: Callable[[], FrontHealth]
    channels: Sequence[tuple[Channel, Spacing]]
    check: Callable[[bool], Awaitable[Sequence[Check]]]
    close: Callable[[], Awaitable[None]] | None = None
    reach: Callable[[Sender], tuple[Channel, Spacing]] | None = None


@dataclass(frozen=True, slots=True)
class Platform:
    """The entry of a platform in `bot.platforms`: all that is known of it outside its folder.

    `name` marks its senders and its channels. `connect` returns None where the settings do not name the
    platform, and imports the platform's libraries only where they do. Where nobody is listed on a platform
    that `pairs`, a code lets one chat in.
    """

    name: str
    allowed: Callable[[Settings], AllowList]
    connect: Callable[[Settings, Answer, Access, Clock], Connection | None]
    pairs: bool = False


@contextmanager
def instead(modules: Mapping[str, ModuleType | None]) -> Iterator[None]:
    """Let imports within get these in place of what has these names; None: as if it were not installed."""
    absent = [name for name in modules if name not in sys.modules]
    sys.modules.update({name: modules[name] for name in absent})  # type: ignore[misc] # None is for that
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def require_token(token: str, setting: str, *, begins: str, example: str) -> None:
    """Raise a UserError where this cannot be a token; `begins` is how one begins, as a pattern."""
    if not re.fullmatch(f"{begins}[!-~]+", token):
        raise UserError(f"{setting} is no token such as {example}: copy it again, without spaces or quotes.")


class CommandQueue:
    """Begins the work of each place in the order in which it came.

    A piece of work begins when the one before it is done, or has had `head_start` seconds for itself: quick
    commands are obeyed strictly one after another, and a slow one does not keep the next for long.
    """

    def __init__(self, head_start: float = HEAD_START) -> None:
        self._head_start = head_start
        self._waiting: dict[str, deque[Work]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def put(self, place: str, work: Work) -> None:
        if place in self._waiting:
            self._waiting[place].append(work)
        else:
            self._waiting[place] = deque([work])
            self.begin(self._serve(place))

    def begin(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Begin something at once, whatever waits; it ends with the queue."""
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


async def keep_connected(
    name: str,
    serve: Callable[[], Awaitable[None]],
    *,
    waits: Sequence[float],
    last_seen: Callable[[], float | None],
    failed: Callable[[str], None],
) -> NoReturn:
    """Connect by `serve`, and again when it raises a `ChannelError`, until cancelled.

    The wait in between grows while connections end sooner than it lasts. After a UserError, which is logged
    once, nothing is tried any more. `failed` is called with each error.
    """
    failures, reported = 0, ""
    while True:
        began = time.time()
        try:
            await serve()
        except UserError as error:
            failed(str(error))
            log.error("%s", error)  # noqa: TRY400, a sentence for people
            await asyncio.get_running_loop().create_future()
        except ChannelError as error:
            lived = (last_seen() or began) - began
            useful = lived > backoff(waits, failures + 1)
            failures, reported = (1, "") if useful else (failures + 1, reported)
            pause = backoff(waits, failures)
            if isinstance(error, RateLimitedError):
                pause = max(pause, error.seconds)
            level = logging.INFO if str(error) == reported else logging.WARNING
            log.log(level, "%s: not connected: %s; trying again in %.0f s", name, error, pause)
            reported = str(error)
            failed(reported)
            await asyncio.sleep(pause)


async def show_answer(show: Callable[[], Awaitable[None]], request: Request, waits: Sequence[float]) -> None:
    """Show an answer; while the platform is in trouble, again after each of `waits`.

    One that is refused, or that all attempts fail for, is given up with a line in the log.
    """
    for wait in (*waits, None):
        try:
            await show()
        except ChannelError as error:
            if wait is None or not isinstance(error, RateLimitedError | UnreachableError):
                platform, place = request.sender.platform.capitalize(), request.sender.place
                asked = request.text[:80]
                log.warning("%s: the answer to %s in %s was not shown: %s", platform, asked, place, error)
                return
            await asyncio.sleep(error.seconds if isinstance(error, RateLimitedError) else wait)
        else:
            return
