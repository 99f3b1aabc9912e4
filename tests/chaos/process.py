"""The bot as a process, as its user and a power cut know it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.chaos.site import Site

STOP_SECONDS = 30.0
"""A bot that takes longer for a clean stop hangs."""

SEND_SECONDS = 60.0


class Bot:
    """`autoresearch up` on a site; what it prints is appended to the site's `output`."""

    def __init__(self, site: Site, settings: Mapping[str, str], *, ahead: str) -> None:
        self._site = site
        self._ahead = ahead  # whether the next training's Python waits for it: always or never
        self._environment = site.environment(settings)
        self._process: Process | None = None

    @property
    def running(self) -> bool:
        """Say whether it runs."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """The process id of the last one started."""
        assert self._process is not None
        return self._process.pid

    async def start(self, *arguments: str) -> None:
        """Start it; what it does then is seen from outside."""
        with self._site.output.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.ahead", self._ahead, "up", *arguments),
                cwd=self._site.folder,
                env=self._environment,
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
            )

    async def ended(self) -> int:
        """Wait for its end and return its exit status."""
        assert self._process is not None
        return await self._process.wait()

    async def terminate(self) -> int | None:
        """Ask it to end and return its exit status; None if it had to be killed."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                return await self.ended()
        except TimeoutError:
            os.kill(self.pid, signal.SIGKILL)
            await self.ended()
            return None

    async def send(self, command: str) -> bool:
        """Give it a command by `autoresearch send`; say whether it was obeyed."""
        sender = await asyncio.create_subprocess_exec(
            *(str(Path(sys.executable).with_name("autoresearch")), "send", command),
            cwd=self._site.folder,
            env=self._environment,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
        )
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await sender.communicate()
        except TimeoutError:
            sender.kill()
            await sender.wait()
        return sender.returncode == 0
