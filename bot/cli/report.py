"""`autoresearch report`: what a run has brought, from the journal or from any results.tsv."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli.common import Json, Tag, open_run, ownerless, print_json, print_message
from bot.setup.settings import Settings
from loop.errors import UserError
from loop.results.report import make_report
from loop.results.table import read_results

if TYPE_CHECKING:
    from loop.results.report import WakeUpReport


def report(
    context: typer.Context,
    tag: Tag = None,
    file: Annotated[Path | None, typer.Option("--results", help="Any results.tsv instead of a run.")] = None,
    picture: Annotated[Path | None, typer.Option("--chart", help="Write the progress as a PNG too.")] = None,
    page: Annotated[Path | None, typer.Option("--html", help="Write it as one page for a browser.")] = None,
    as_json: Json = False,
) -> None:
    """Show what a run has brought."""
    from bot.app import zone_of

    settings = context.obj.settings()
    made = report_of_file(settings, file) if file else report_of_run(settings, tag)
    if picture is not None:
        made.draw(picture)
    if page is not None:
        made.write_page(page, settings, zone_of(settings))
    if as_json:
        print_json(made.night.to_json())
    else:
        made.show(zone_of(settings))


@dataclass(frozen=True, slots=True)
class FullReport:
    """A report with its rows, and in every form that it can be had in."""

    night: WakeUpReport
    state: str = ""
    """What the run does now, where its own state does not tell it."""

    def draw(self, path: Path) -> None:
        """Write the chart.

        Raises:
            UserError: it cannot be made or written.
        """
        from notifiers.charts.chart import ChartError, chart

        report = self.night.report
        title = report.tag or path.stem
        try:
            png = asyncio.run(chart(self.night.rows, metric=report.metric, goal=report.goal, title=title))
            path.write_bytes(png)
        except ChartError as error:
            raise UserError(str(error)) from None
        except OSError as error:
            raise UserError(f"The chart {path} cannot be written: {error.strerror}.") from None

    def write_page(self, path: Path, settings: Settings, zone: tzinfo) -> None:
        """Write the page.

        Raises:
            UserError: it cannot be written.
        """
        from bot.bundling import details_of, provenance_of
        from notifiers.page import Content, page

        run = self.night.run
        content = Content(
            report=self.night.report,
            rows=self.night.rows,
            details=details_of(settings, run) if run else {},
            title=run.tag if run else path.stem,
            ledger=self.night.ledger,
            provenance=provenance_of(settings, run) if run else None,
        )
        try:
            path.write_text(page(content, made_at=datetime.now(zone)), encoding="utf-8")
        except OSError as error:
            raise UserError(f"The page {path} cannot be written: {error.strerror}.") from None

    def show(self, zone: tzinfo) -> None:
        """Print it, in colours where somebody looks at it in a terminal."""
        from notifiers.text.report import report_message

        message = report_message(self.night, zone=zone, state=self.state)
        if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
            from bot.cli.report_screen import show

            show(self.night, message)
        else:
            print_message(message)


def report_of_run(settings: Settings, tag: str | None) -> FullReport:
    """Return the report on a run in the journal."""
    from loop.results.report import read_wakeup_report

    price, stuck = settings.gpu_dollars_an_hour, settings.stuck_after
    with open_run(settings, tag) as (journal, run):
        night = read_wakeup_report(journal, run, until=time.time(), gpu_price=price, stuck_after=stuck)
    return FullReport(night, ownerless(settings, run))


def report_of_file(settings: Settings, file: Path) -> FullReport:
    """Return the report on a `results.tsv` of whoever wrote it."""
    from loop.results.report import WakeUpReport

    found = read_results(file, settings.metric)
    numbers = make_report(found.rows, metric=found.metric, goal=settings.metric_goal)
    return FullReport(WakeUpReport(report=numbers, rows=found.rows))
