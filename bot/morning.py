"""Makes the report on a run as a message: what it brought, its chart, and what can be done now."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import tzinfo

from bot.runs import Host
from bot.setup.settings import Settings
from loop.errors import LoopError
from loop.experiment import Event, EventKind, Run
from loop.process.threads import in_thread
from loop.results.wakeup_report import Night, read_night
from loop.store.journal import StoreError
from notifiers.charts.chart import ChartError, alt_text, chart
from notifiers.message import Attachment, Message
from notifiers.text.buttons import report_buttons
from notifiers.text.digest import message_of
from notifiers.text.report import report_message

log = logging.getLogger(__name__)


class Reporter:
    """Reports on the runs of `host`; `now` gives seconds since the epoch, `zone` is for the times shown."""

    def __init__(self, host: Host, settings: Settings, *, zone: tzinfo, now: Callable[[], float]) -> None:
        self._host = host
        self._journal = host.journal
        self._settings = settings
        self._zone = zone
        self._now = now
        self._drawn: tuple[int, tuple[Attachment, ...]] = (0, ())  # an event and its chart

    async def summary(self, run: Run, *, with_chart: bool) -> Message:
        """Return the report on the whole run until now."""
        night = await in_thread(self._read, run, None, self._now())
        return await self._message(night, with_chart=with_chart)

    async def told(self, event: Event) -> Message | None:
        """Return the report that `event` is told with in a chat; None where it cannot be made."""
        return await self._told(event, with_chart=True)

    async def told_here(self, event: Event) -> Message | None:
        """Return the same for a terminal: in the morning, and without the chart.

        The end of a run is told there by the command that waited for it.
        """
        return await self._told(event, with_chart=False) if event.kind is EventKind.WAKE_UP else None

    async def _told(self, event: Event, *, with_chart: bool) -> Message | None:
        morning = event.kind is EventKind.WAKE_UP
        since = float(str(event.data["since"])) if morning else None
        try:
            run = await in_thread(self._journal.run_by_id, event.run_id)
            night = await in_thread(self._read, run, since, event.at)
        except (LoopError, StoreError):
            log.exception("the report on run %d cannot be made", event.run_id)
            return None
        ending = None if morning else message_of(event, run)
        charted = with_chart and event.id != self._drawn[0]
        message = await self._message(night, with_chart=charted, heading=ending.text if ending else "")
        if charted:
            self._drawn = (event.id, message.attachments)
        return replace(message, attachments=self._drawn[1]) if with_chart else message

    def _read(self, run: Run, since: float | None, until: float) -> Night:
        return read_night(
            self._journal,
            run,
            since=since,
            until=until,
            gpu_price=self._settings.gpu_dollars_an_hour,
            stuck_after=self._settings.stuck_after,
            ready=self._host.coming(run),
        )

    async def _message(self, night: Night, *, with_chart: bool, heading: str = "") -> Message:
        assert night.run is not None
        best = night.report.best_number
        changed = (night.start, best) if best is not None and best != night.start else None
        return replace(
            report_message(night, zone=self._zone, heading=heading),
            buttons=report_buttons(night.run.state, changed=changed),
            attachments=await _chart(night, night.run) if with_chart and night.rows else (),
        )


async def _chart(night: Night, run: Run) -> tuple[Attachment, ...]:
    """Return the chart of the whole run as a picture; a report can do without."""
    try:
        picture = await chart(night.rows, metric=run.metric, goal=run.goal, title=run.tag)
    except ChartError as error:
        log.warning("%s", error)
        return ()
    alt = alt_text(night.rows, metric=run.metric, goal=run.goal, title=run.tag)
    return (Attachment(f"{run.tag}.png", picture, alt),)
