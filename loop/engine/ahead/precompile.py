"""Has the next candidate compile what its training will need, on idle cores while another one trains.

The candidate itself is started, in a folder and a sandbox of its own without the text, and told by a variable
to end once all is compiled; only where the fixed files of its repository know that. Of what it leaves its
training gets the compile cache and nothing else. No number depends on it: where anything fails, the training
compiles for itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from loop.engine.stages import Ready
from loop.engine.trainings import Trainings
from loop.errors import UserError
from loop.files import remove, why_not_copied
from loop.lanes.cache import CACHE, COMPILE_ONLY, MOST_BYTES, MOST_FILES
from loop.lanes.local import VISIBLE
from loop.lanes.protocol import LiveTraining
from loop.logs.capture import LOG
from loop.logs.error_line import error_line
from loop.logs.progress import read_progress
from loop.logs.tail import read_tail
from loop.machine import disks, look_at_gpus
from loop.process.programs import Program, run_together
from loop.process.trainer import Limits, mark_of
from loop.process.worker import in_thread
from loop.text import without_secrets

log = logging.getLogger(__name__)

COMPILING = "compiling"  # the candidate's folder, among those of trainings
MOST_SECONDS = 120.0  # three times as long as the template takes on an H200
RUNS = 2  # Inductor compiles some kernels only where it finds their graph in its cache: the second time
POLL = 1.0  # seconds between looks at the candidate and at the training
NICE = 19  # the training beside it goes first
PEAKS = 1.3  # times the memory of the head, or of a baseline under way, that must be free
SPARE_MB = 6 * 1024  # MiB beside that: a training that is evaluated grows by four GiB


class Precompiler:
    """Compiles ahead for one run: one candidate at a time, as no more are ready, whatever lane takes it."""

    def __init__(self, trainings: Trainings, candidate: Callable[[], Ready | None]) -> None:
        self._trainings = trainings
        self._candidate = candidate
        self._commit = ""  # of the last candidate that was tried
        self._task: asyncio.Task[None] | None = None

    async def beside(self, training: LiveTraining, lane: int, base_commit: str) -> None:
        """Compile beside a training, on the GPU of its lane, until the caller is done waiting for it.

        It begins when the training has its own kernels and all its memory: when its time counts. The files of
        `base_commit` that stay fixed say whether a program can do so.
        """
        known = self._trainings.starts_ahead and await in_thread(self._is_known, base_commit)
        while known:
            ready = self._candidate()
            if self._is_new(ready) and await in_thread(_counts, training) and self._is_new(ready):
                assert ready is not None
                self._commit = ready.commit.sha
                task = self._task = asyncio.create_task(self._compile(ready, training, lane))
                try:
                    while not task.done() and self._candidate() is ready and not self._disk_is_full():
                        await asyncio.wait({task}, timeout=POLL)
                finally:
                    await self._end(task)
                    self._task = None
            await asyncio.sleep(POLL)

    def taken(self, ready: Ready) -> None:
        """Take notice of the commit that a candidate has now, carried over to a new best perhaps."""
        if self._commit and ready.made_as == self._commit:
            self._commit = ready.commit.sha

    async def give(self, lane: int, commit: str) -> None:
        """Let the training that a lane begins now have what was compiled ahead for its commit."""
        if commit == self._commit:
            if self._task is not None:  # beside another lane
                await self._end(self._task)
            self._commit = ""
            await in_thread(self._give, lane, commit)

    @property
    def _folder(self) -> Path:
        return self._trainings.folders.trainings / COMPILING

    def _is_known(self, base_commit: str) -> bool:
        workspace = self._trainings.workspace
        fixed = (workspace.content(base_commit, name) for name in workspace.frozen)
        return any(COMPILE_ONLY.encode() in content for content in fixed)

    def _is_new(self, ready: Ready | None) -> bool:
        return ready is not None and ready.commit.sha != self._commit and self._task is None

    @staticmethod
    async def _end(task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.wait({task})

    async def _compile(self, ready: Ready, training: LiveTraining, lane: int) -> None:
        name, began = ready.commit.sha[:7], time.monotonic()
        limits = Limits(file_size=MOST_BYTES, memory=Limits().memory // 2)
        try:
            program = await in_thread(self._prepare, ready, lane)
            if program is None:
                return
            # Marked as of the training beside it: what is ours, and ends where that one is found dead.
            mark = mark_of(training.folder)
            for _ in range(RUNS):
                result = await run_together([program], MOST_SECONDS, limits, mark=mark, nice=NICE)
                if failed := result.ending != "exited" or result.exit_codes != (0,):
                    break
        except (UserError, OSError) as error:
            log.info("%s is not compiled ahead: %s", name, error)
            return
        seconds = time.monotonic() - began
        if failed:
            said = error_line(without_secrets(result.said[0]))
            log.info("%s compiled ahead for %.1f s: %s (%s)", name, seconds, result.ending, said)
        else:
            log.info("%s was compiled ahead in %.1f s", name, seconds)

    def _prepare(self, ready: Ready, lane: int) -> Program | None:
        remove(self._folder)  # of the candidate before
        commit, source = ready.commit.sha, ready.proposal.source
        program = self._trainings.make_compiling(self._folder, lane, commit, source)
        if problem := self._lacks_memory(program.env.get(VISIBLE)):
            remove(self._folder)
            log.info("%s is not compiled ahead: %s", commit[:7], problem)
            return None
        return program

    def _give(self, lane: int, commit: str) -> None:
        cache = self._folder / CACHE
        if cache.is_dir():
            try:
                if not (problem := why_not_copied(cache, MOST_BYTES, MOST_FILES)):
                    self._trainings.give_compiled(lane, commit, cache)
            except (UserError, OSError) as error:
                problem = str(error)
            log.info("%s begins %s", commit[:7], problem or "with what was compiled ahead")

    def _lacks_memory(self, devices: str | None) -> str:
        state = look_at_gpus()
        gpus = state.of(devices).gpus if state else ()
        free = min((gpu.free_mb or 0.0 for gpu in gpus), default=0.0)
        used = max(((gpu.memory_mb or 0.0) - free for gpu in gpus), default=0.0)
        head = self._trainings.journal.best(self._trainings.folders.run_id)
        needed = PEAKS * ((1024 * head.memory_gb if head else 0.0) or used) + SPARE_MB
        return "" if free >= needed else f"{free:,.0f} MiB of the GPU are free, {needed:,.0f} may be needed"

    def _disk_is_full(self) -> bool:
        return any(disk.low for disk in disks(self._folder))


def _counts(training: LiveTraining) -> bool:
    """Tell whether a training says that a part of its budget is used up."""
    progress = read_progress(read_tail(training.folder / LOG))
    return progress is not None and bool(progress.percent)
