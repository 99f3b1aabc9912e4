"""The report on a run, on request or in the morning."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, replace
from datetime import tzinfo

from bot.runs import Runs
from bot.setup.settings import Settings
from loop.errors import UserError
from loop.experiment import Event, EventKind, Proposal, Run
from loop.process.worker import in_thread
from loop.proposers.people import ideas_in_prose
from loop.results.report import WakeUpReport, read_wakeup_report
from loop.store.experiments import Idea, IdeaBox
from loop.store.journal import StoreError
from notifiers.charts import WarmWorker, chart_of
from notifiers.charts.scene import ChartError
from notifiers.message import Attachment, Message
from notifiers.text.digest import message_of
from notifiers.text.notification import report_buttons
from notifiers.text.report import report_message

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Reporter:
    """Reports on the runs; `now` gives seconds since the epoch, `zone` is for the times shown.

    Charts are drawn by `drawing`.
    """

    runs: Runs
    settings: Settings
    _: KW_ONLY
    zone: tzinfo
    now: Callable[[], float]
    drawing: WarmWorker | None = None

    def __post_init__(self) -> None:
        self._journal = self.runs.journal
        self._one_draws = asyncio.Lock()
        self._drawn: tuple[int, tuple[Attachment, ...]] = (0, ())  # an event and its chart

    async def summary(self, run: Run, *, with_chart: bool) -> Message:
        night = await in_thread(self._read, run, None, self.now())
        message = self._message(night)
        return replace(message, attachments=await self._charts(night)) if with_chart else message

    async def for_terminal(self, event: Event) -> Message | None:
        """Return the same for a terminal: without the chart, and not at the end of a run, where the command
        that waited for it prints the report.
        """
        return await self.for_chat(event, with_chart=False) if event.kind is EventKind.WAKE_UP else None

    async def for_chat(self, event: Event, *, with_chart: bool = True) -> Message | None:
        morning = event.kind is EventKind.WAKE_UP
        since = float(str(event.data["since"])) if morning else None
        try:
            run = await in_thread(self._journal.run_by_id, event.run_id)
            night = await in_thread(self._read, run, since, event.at)
        except (UserError, StoreError):
            log.exception("the report on run %d cannot be made", event.run_id)
            return None
        message = self._message(night, "" if morning else message_of(event, run).text)
        if not with_chart:
            return message
        async with self._one_draws:  # for all chats, which ask at the same time
            if event.id != self._drawn[0]:
                self._drawn = (event.id, await self._charts(night))
            return replace(message, attachments=self._drawn[1])

    def _read(self, run: Run, since: float | None, until: float) -> WakeUpReport:
        engine = self.runs.engine_if_made(run)
        ready = engine.prefetch.ready if engine else None
        night = read_wakeup_report(
            self._journal,
            run,
            since=since,
            until=until,
            gpu_price=self.settings.gpu_dollars_an_hour,
            stuck_after=self.settings.stuck_after,
            ready=ready.description if ready else "",
        )
        idea = self._next_idea(run, ready) if night.outlook.idea else None
        return replace(night, outlook=replace(night.outlook, idea=idea))

    def _next_idea(self, run: Run, ready: Proposal | None) -> Idea | None:
        """Return the idea that the next experiment is made of; None where something else comes first."""
        waiting = IdeaBox(self._journal).waiting(run.id)
        if ready is not None:
            return next((idea for idea in waiting if idea.id == ready.idea), None)
        prose: tuple[Idea, ...] = ()
        if not self.settings.has_models:
            with suppress(UserError):  # a report is made even where the repository or the program is gone
                workspace = self.runs.workspace(run)
                prose = ideas_in_prose(workspace.source(workspace.head()), waiting)
        return next((idea for idea in waiting if idea.removes or idea not in prose), None)

    def _message(self, night: WakeUpReport, heading: str = "") -> Message:
        assert night.run is not None
        best = night.report.best_number
        changed = (night.start, best) if best is not None and best != night.start else None
        message = report_message(night, zone=self.zone, heading=heading)
        return replace(message, buttons=report_buttons(night.run.state, changed=changed))

    async def _charts(self, night: WakeUpReport) -> tuple[Attachment, ...]:
        assert night.run is not None
        try:
            return (await chart_of(night.run, night.rows, drawing=self.drawing),) if night.rows else ()
        except ChartError as error:  # the report is useful without
            log.warning("%s", error)
            return ()
