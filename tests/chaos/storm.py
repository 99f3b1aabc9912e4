"""The storm: kills, damage and orders at random moments, over a bot that is started again and again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from pathlib import Path

from tests.chaos.damage import damage, fill, free
from tests.chaos.figures import Figures
from tests.chaos.process import Bot
from tests.chaos.site import Site

VICTIMS = {
    ("bot",): 5,
    ("supervisor",): 3,
    ("training",): 2,
    ("program",): 2,
    ("bwrap",): 2,
    ("init",): 2,
    ("bot", "bwrap"): 2,
    ("bot", "init"): 1,
    ("bot", "supervisor"): 2,
    ("bot", "training"): 2,
    ("supervisor", "training"): 2,
    ("everything",): 2,
}
"""Who is killed together, and how often: everything is as when the machine dies."""

CLOCKS = ("+0", "+3600", "-1800", "+90000")
"""Seconds by which the bot's clock is off, for libfaketime."""

QUICK = 0.002
"""Seconds between two looks at a file whose change is waited for: commits follow each other that fast."""


class Storm:
    """Blows over a `bot` until it has killed `kills` times, or `until` has come (of the monotonic clock)."""

    def __init__(
        self, site: Site, bot: Bot, *, chance: random.Random, kills: int, until: float, clock: bool
    ) -> None:
        self.figures = Figures()
        self._site = site
        self._bot = bot
        self._chance = chance
        self._kills = kills
        self._until = until
        self._orders = 0
        self._deeds: dict[Callable[[], Awaitable[None]], int] = {
            self._kill: 12,
            self._stop: 2,
            self._damage: 4,
            self._order: 4,
        }
        if site.small_home:
            self._deeds[self._fill] = 1
        if clock:
            self._deeds[self._set_clock] = 1

    async def blow(self) -> None:
        """Do the damage; leave a bot behind that runs."""
        deeds = [deed for deed, weight in self._deeds.items() for _ in range(weight)]
        while self.figures.kills.total() < self._kills and time.monotonic() < self._until:
            await self._moment()
            await self.keep_going()
            self.figures.deeds.append(time.time())
            await self._chance.choice(deeds)()
            if self._chance.random() < 0.6:
                await self.until(lambda: bool(self._site.trainings()), 15)
        free(self._site)
        await self.keep_going()

    async def keep_going(self) -> None:
        """Start a bot that ended by itself, and let a run go on that was paused."""
        if not self._bot.running:
            self.figures.ends[self._last_words()] += 1
            await self._start()
        rows = self._site.query("SELECT state, state_by FROM runs")
        if rows and rows[0][0] in ("paused", "pausing") and rows[0][1] == "person":
            await self._bot.send("/resume")

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until something is so, at most so long; say whether it is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():  # noqa: ASYNC110 - seen from outside, nothing sets an event
                    await asyncio.sleep(0.05)
                return True
        return False

    # Deeds

    async def _kill(self) -> None:
        victims = self._chance.choices(list(VICTIMS), weights=list(VICTIMS.values()))[0]
        await self._aim()
        pids = self._find(victims)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.figures.kills[" + ".join(victims)] += 1
        if self._bot.pid in pids:
            await self._bot.ended()
            await self._start_later()
        else:
            self._note_blow()

    async def _stop(self) -> None:
        began = time.monotonic()
        status = await self._bot.terminate()
        self.figures.others["clean stop"] += 1
        self.figures.stops.append(time.monotonic() - began)
        if status not in (0, -signal.SIGTERM):  # the latter: it had not come so far as to listen to signals
            self.figures.ends[f"exit status {status} after SIGTERM: {self._last_words()}"] += 1
        await self._start_later()

    async def _damage(self) -> None:
        await self._aim()
        self.figures.others[damage(self._site, self._chance)] += 1

    async def _fill(self) -> None:
        fill(self._site)
        self.figures.others["disk full"] += 1
        await asyncio.sleep(self._chance.uniform(0.5, 6))
        if self._chance.random() < 0.5:
            await self._kill_bot("bot, on a full disk")  # the next one may refuse to start
            await asyncio.sleep(self._chance.uniform(0, 3))
        free(self._site)

    async def _set_clock(self) -> None:
        self._site.clock.write_text(f"{self._chance.choice(CLOCKS)}\n")
        self.figures.others["clock set"] += 1

    async def _order(self) -> None:
        self._orders += 1
        tag, number = self._site.tag() or "", self._orders
        order = self._chance.choice(
            ("/pause", "/pause now", "/skip", f"/retag {tag} storm{number}", "/status")
            + (f"/idea ROUND {number}",) * 5
        )
        self.figures.others[order.split()[0]] += 1
        if self._chance.random() < 0.3:  # and the bot dies over it
            sending = asyncio.create_task(self._bot.send(order))
            await asyncio.sleep(self._chance.uniform(0.3, 1.2))  # most of which is the start of the command
            await self._kill_bot("bot, over an order")
            await sending
        else:
            await self._bot.send(order)

    # Parts

    async def _kill_bot(self, name: str) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._bot.pid, signal.SIGKILL)
        await self._bot.ended()
        self.figures.kills[name] += 1
        await self._start_later()

    def _find(self, victims: Collection[str]) -> set[int]:
        if "everything" in victims:
            return {process.pid for process in self._site.processes()}
        found = {self._bot.pid} if "bot" in victims and self._bot.running else set()
        if "supervisor" in victims:
            found |= {process.pid for process in self._site.supervisors()[:1]}
        for place, processes in self._site.parts_of_trainings().items():
            if "training" in victims or place in victims:
                found |= {process.pid for process in processes}
        return found

    async def _start_later(self) -> None:
        pause = self._chance.choice((0.0, self._chance.uniform(0, 1), self._chance.uniform(0, 5)))
        await asyncio.sleep(pause)
        await self._start()

    async def _start(self) -> None:
        self._note_blow()
        await self._bot.start()

    def _note_blow(self) -> None:
        if self._site.trainings():
            self.figures.survived += 1
        else:
            self.figures.blows.append(time.time())

    async def _moment(self) -> None:
        await asyncio.sleep(self._chance.expovariate(1 / 1.5))

    async def _aim(self) -> None:
        """Wait for a moment that matters: something was just written to the state file or to the ledger."""
        path = self._chance.choice((None, self._site.home / "state.db-wal", self._site.ledger))
        if path is None:
            return
        before = _state(path)
        with suppress(TimeoutError):
            async with asyncio.timeout(3):
                while _state(path) == before:  # noqa: ASYNC110 - a file tells nobody
                    await asyncio.sleep(QUICK)
        await asyncio.sleep(self._chance.uniform(0, 0.04))

    def _last_words(self) -> str:
        lines = self._site.output.read_bytes().decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "without a word"


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
