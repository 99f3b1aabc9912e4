"""Which run commands without a tag are about, known only while no run is being started."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from loop.errors import UserError
from loop.experiment import Run, RunState
from loop.process.worker import in_thread
from loop.store.journal import Journal

STARTING_SECONDS = 60.0  # that a command waits for a start that is under way
_CLOCKS = 1.0  # seconds: Telegram's times are whole ones


def foremost(runs: Sequence[Run], conducted: Collection[int] = ()) -> Run | None:
    """Return the run that matters: one that goes on, best by this bot, before one that is done or stopped.

    Of several it is the newest.
    """
    order = [RunState.STOPPED, RunState.DONE]

    def rank(run: Run) -> tuple[int, bool, int]:
        return order.index(run.state) if run.state in order else len(order), run.id in conducted, run.id

    return max(runs, key=rank, default=None)


@dataclass(eq=False)
class CurrentRun:
    """The run that commands are about; `conducted` tells which ones this bot conducts.

    A command never hits another run than it was meant for: it waits for a start that is under way, and is
    refused where it was sent before the start was asked for.
    """

    journal: Journal
    conducted: Callable[[], Collection[int]]

    def __post_init__(self) -> None:
        self._starting = asyncio.Lock()
        self._ends = False
        self._asked_at: dict[int, float] = {}

    def now(self) -> Run | None:
        return foremost(self.journal.runs(), self.conducted())

    @property
    def is_changing(self) -> bool:
        return self._starting.locked()

    @asynccontextmanager
    async def changes(self, *, asked_at: float, or_end: bool = False) -> AsyncIterator[None]:
        """Let commands wait until a start is over; with `or_end` the bot ends where it fails.

        `asked_at` is when it was asked for, in seconds since the epoch.
        """
        async with self._starting:
            before = await in_thread(self.now)
            try:
                yield
            except BaseException:
                self._ends = or_end
                raise
            now = await in_thread(self.now)
            if now is not None and (before is None or now.id != before.id):
                self._asked_at[now.id] = asked_at

    async def chosen(self, *, sent_at: float | None = None) -> Run:
        """Return the run that a command is about, which was sent then if it steers the run.

        Raises:
            UserError: there is no run; or the command cannot have meant this one.
        """
        try:
            async with asyncio.timeout(STARTING_SECONDS), self._starting:
                if self._ends:
                    raise UserError("Not done: the bot could not start and is ending.")
                run = await in_thread(self.now)
        except TimeoutError:
            raise UserError("A run is still being started. Try again in a minute.") from None
        if run is None:
            raise UserError("There is no run yet. Start one with /start_run.")
        asked_at = self._asked_at.get(run.id)
        if sent_at is not None and asked_at is not None and sent_at < asked_at - _CLOCKS:
            raise UserError(
                f"Not done: run {run.tag} started after this was sent. If you mean it, send it again."
            )
        return run
