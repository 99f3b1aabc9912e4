"""`autoresearch report`: what a run has brought, from the journal or from any results.tsv."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Annotated

import typer

from bot.cli_common import Json, Tag, open_run, print_json, print_message
from bot.errors import BotError
from bot.settings import Settings
from loop.experiment import Run
from loop.ledger import Ledger
from loop.report import Report, make_report
from loop.results import Row, read_results, read_rows
from notifiers.message import Message


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
        print_json(made.to_json())
    else:
        print_message(made.message(zone_of(settings)))


@dataclass(frozen=True, slots=True)
class FullReport:
    """A report with what only the journal can add to it."""

    numbers: Report
    rows: Sequence[Row]
    run: Run | None = None
    ledger: Ledger | None = None

    def to_json(self) -> dict[str, object]:
        """Return all numbers, and the ledger where there is one."""
        spent = {"ledger": self.ledger.to_json()} if self.ledger else {}
        return self.numbers.to_json() | spent

    def draw(self, path: Path) -> None:
        """Write the chart.

        Raises:
            BotError: it cannot be made or written.
        """
        from notifiers.chart import ChartError, chart

        report = self.numbers
        title = report.tag or path.stem
        try:
            png = asyncio.run(chart(self.rows, metric=report.metric, goal=report.goal, title=title))
            path.write_bytes(png)
        except (ChartError, OSError) as error:
            raise BotError(f"The chart {path} cannot be made: {error}") from None

    def write_page(self, path: Path, settings: Settings, zone: tzinfo) -> None:
        """Write the page.

        Raises:
            BotError: it cannot be written.
        """
        from bot.page_content import details_of, provenance_of
        from notifiers.page import Content, page

        run = self.run
        content = Content(
            report=self.numbers,
            rows=self.rows,
            details=details_of(settings, run) if run else {},
            title=run.tag if run else path.stem,
            ledger=self.ledger,
            provenance=provenance_of(settings, run) if run else None,
        )
        try:
            path.write_text(page(content, made_at=datetime.now(zone)), encoding="utf-8")
        except OSError as error:
            raise BotError(f"The page {path} cannot be written: {error.strerror}.") from None

    def message(self, zone: tzinfo) -> Message:
        """Return the report in words."""
        from notifiers.report_text import report_message

        return report_message(self.numbers, self.run, ledger=self.ledger, zone=zone)


def report_of_run(settings: Settings, tag: str | None) -> FullReport:
    """Return the report on a run in the journal."""
    from loop.ledger import read_ledger
    from loop.spending import Purse

    journal, run = open_run(settings, tag)
    rows = read_rows(journal, run.id)
    spent = Purse(journal).of_run(run.id)
    numbers = make_report(rows, metric=run.metric, goal=run.goal, tag=run.tag, spent=spent)
    return FullReport(numbers, rows, run, read_ledger(journal, run, now=time.time()))


def report_of_file(settings: Settings, file: Path) -> FullReport:
    """Return the report on a `results.tsv` of whoever wrote it."""
    found = read_results(file, settings.metric)
    numbers = make_report(found.rows, metric=found.metric, goal=settings.metric_goal)
    return FullReport(numbers, found.rows)
