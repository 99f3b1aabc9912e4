"""What the commands mean: each is obeyed here, whatever front end it came from."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import tzinfo

from bot.commands import COMMANDS, Call, find_command, parse
from bot.doctor import examine, render
from bot.errors import BotError
from bot.host import Host
from bot.settings import Settings
from loop.errors import LoopError
from loop.experiment import Experiment, Run
from loop.report import make_report
from loop.results import Row, row_of
from loop.status import run_status
from loop.summary import read_tail
from notifiers.digest import digest
from notifiers.message import Message, Reply
from notifiers.report_text import report_message, results_message
from notifiers.status_text import progress_line, runs_message, status_message

log = logging.getLogger(__name__)

RESULTS_SHOWN = 10
LOG_BYTES = 3000
"""How much of a log's end is shown: about what one chat message holds."""


class Desk:
    """Answers commands about the runs of `host`; `now` gives seconds since the epoch."""

    def __init__(self, host: Host, settings: Settings, *, zone: tzinfo, now: Callable[[], float]) -> None:
        self._host = host
        self._journal = host.journal
        self._settings = settings
        self._zone = zone
        self._now = now
        self._handlers: Mapping[str, Callable[[Call], Awaitable[Message]]] = {
            "start_run": self._start_run,
            "status": self._status,
            "pause": self._pause,
            "resume": self._resume,
            "stop": self._stop,
            "retag": self._retag,
            "skip": self._skip,
            "summary": self._summary,
            "results": self._results,
            "best": self._best,
            "diff": self._diff,
            "log": self._log,
            "runs": self._runs,
            "health": self._health,
            "help": self._help,
        }

    async def answer(self, text: str) -> Reply:
        """Obey the command in `text`; one that is not understood or not possible is refused in the reply."""
        try:
            call = parse(text)
            return Reply(await self._handlers[call.command.name](call))
        except (BotError, LoopError) as error:
            log.info("refused %r: %s", text[:200], error)
            return Reply(Message(str(error)), refused=True)

    def progress(self) -> str:
        """Return the present training in one line, empty when nothing trains."""
        runs = self._journal.active_runs()
        if not runs:
            return ""
        status = run_status(self._journal, runs[-1], worktree=self._host.worktree(runs[-1].tag))
        return progress_line(status, now=self._now())

    # Control

    async def _start_run(self, call: Call) -> Message:
        run = await asyncio.to_thread(self._host.start_run, call.text("tag"))
        self._host.conduct(run)
        return Message(f"Run {run.tag} starts with its baseline.")

    async def _pause(self, call: Call) -> Message:
        run = self._host.current()
        await self._host.engine(run).pause(now=call.has("now"))
        if call.has("now"):
            return Message(f"Run {run.tag} is paused; the experiment under way is run again on /resume.")
        return Message(f"Run {run.tag} pauses when the experiment under way is decided.")

    async def _resume(self, _: Call) -> Message:
        run = self._host.current()
        await self._host.engine(run).resume()
        self._host.conduct(run)
        return Message(f"Run {run.tag} goes on.")

    async def _stop(self, _: Call) -> Message:
        run = self._host.current()
        await self._host.engine(run).stop()
        return Message(f"Run {run.tag} is stopped. Its branch {run.branch} and all results stay.")

    async def _retag(self, call: Call) -> Message:
        old, new = call.arguments["old"], call.arguments["new"]
        run = self._journal.run(old)
        if run is None:
            raise BotError(f"There is no run {old}: /runs lists them.")
        await self._host.engine(run).retag(new)
        return Message(f"Run {old} is now {new}, on branch autoresearch/{new}.")

    async def _skip(self, _: Call) -> Message:
        experiment = await self._host.engine(self._host.current()).skip()
        return Message(f"Experiment #{experiment.number} is given up: {experiment.description}")

    # Questions

    async def _status(self, _: Call) -> Message:
        run = self._host.current()
        status = run_status(self._journal, run, worktree=self._host.worktree(run.tag))
        return status_message(status, now=self._now(), zone=self._zone)

    async def _summary(self, _: Call) -> Message:
        run = self._host.current()
        rows = await asyncio.to_thread(self._rows, run)
        report = make_report(rows, metric=run.metric, goal=run.goal, tag=run.tag)
        return report_message(report, run, zone=self._zone)

    async def _results(self, call: Call) -> Message:
        run = self._host.current()
        rows = await asyncio.to_thread(self._rows, run)
        last = max(1, call.count("n", RESULTS_SHOWN))
        return results_message(rows, metric=run.metric, goal=run.goal, last=last, tag=run.tag)

    async def _best(self, _: Call) -> Message:
        run = self._host.current()
        best = self._journal.best(run.id)
        if best is None:
            raise BotError(f"Run {run.tag} has kept nothing yet.")
        return digest(best, run=run)

    async def _diff(self, call: Call) -> Message:
        run, experiment = self._experiment(call)
        if experiment.number == 0:
            return Message("Experiment #0 is the baseline: it changes nothing.")
        text = await asyncio.to_thread(self._host.workspace(run).diff, experiment.commit)
        return Message(f"Experiment #{experiment.number}: {experiment.description}", text)

    async def _log(self, call: Call) -> Message:
        run, experiment = self._experiment(call)
        kept = self._host.engine(run).log_of(experiment.number)
        path = kept if experiment.status else self._host.worktree(run.tag) / "run.log"
        text = await asyncio.to_thread(read_tail, path, limit=LOG_BYTES)
        return Message(f"The end of the log of experiment #{experiment.number}", text or "(nothing)")

    async def _runs(self, _: Call) -> Message:
        runs = self._journal.runs()
        worktree = self._host.worktree
        statuses = [run_status(self._journal, run, worktree=worktree(run.tag)) for run in runs]
        return runs_message(statuses, zone=self._zone)

    async def _health(self, _: Call) -> Message:
        return Message("Health", render(await asyncio.to_thread(examine, self._settings)))

    async def _help(self, call: Call) -> Message:
        name = call.text("command")
        if name is None:
            width = max(len(command.usage) for command in COMMANDS)
            lines = (f"{command.usage:{width}}  {command.help}" for command in COMMANDS)
            return Message("The commands:", "\n".join(lines))
        command = find_command(name)
        return Message(f"{command.usage}\n{command.help}.\nFor example: {command.example}")

    # Parts

    def _experiment(self, call: Call) -> tuple[Run, Experiment]:
        run, number = self._host.current(), call.count("n")
        experiment = self._journal.experiment(run.id, number)
        if experiment is None:
            raise BotError(f"Run {run.tag} has no experiment #{number}: /results lists them.")
        return run, experiment

    def _rows(self, run: Run) -> list[Row]:
        return [row_of(e) for e in self._journal.experiments(run.id) if e.status is not None]
