"""`autoresearch report`: the report on a run, or on any results.tsv, as text, JSON, chart or page."""

from __future__ import annotations

import os
import re
import sys
import time
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli import Json, Tag, goal_text, not_running, open_run, print_json, print_message, renamed_text, say
from bot.setup.settings import Settings
from loop.errors import UserError
from loop.experiment import Status
from loop.files import writing
from loop.folders import RunFolders
from loop.results.report import make_report
from loop.results.table import read_results
from notifiers.message import Message

if TYPE_CHECKING:
    from rich.console import Console

    from loop.experiment import Run
    from loop.results.report import WakeUpReport
    from notifiers.page import Content

_LOG_BYTES = 4000  # how much of each log's end is read
_VALUE = r"[\d.]+(?:e[+-]\d+)?"
_GAIN = re.compile(rf"^(#\d+) ([+-]{_VALUE})", re.MULTILINE)
_STYLES = (
    (r"^(Largest gains|Gain)$", "bold"),
    (rf"→ {_VALUE}(?= \()", "bold"),
    (rf"\([+-]{_VALUE}\)", "bold green"),
    (r"\d[\d,]* keep\b", "green"),
    (r"\d[\d,]* crash\b", "red"),
    (r"^(GPU busy|Training) <?\d+ %", "bold"),
    (r"^Needs you:.*", "bold yellow"),
    (r"^(Next|Now):", "cyan"),
)


def report(
    context: typer.Context,
    tag: Tag = None,
    file: Annotated[Path | None, typer.Option("--results", help="Any results.tsv, instead of a run.")] = None,
    picture: Annotated[Path | None, typer.Option("--chart", help="Also write the chart, as a PNG.")] = None,
    by_time: Annotated[bool, typer.Option("--by-time", help="Let the chart go by hours.")] = False,
    page: Annotated[Path | None, typer.Option("--html", help="Also write a page for a browser.")] = None,
    as_json: Json = False,
) -> None:
    settings = context.obj()
    made = report_of_file(settings, file) if file else report_of_run(settings, tag)
    if picture is not None:
        made.draw(picture, by_time=by_time)
    if page is not None:
        made.write_page(page, settings, settings.zone)
    if as_json:
        print_json(made.night.to_json())
    else:
        made.show(settings.zone)
        if page is not None:
            say(f"The page: {page} (open it in a browser)")
        if picture is not None:
            say(f"The chart: {picture}")


@dataclass(frozen=True, slots=True)
class FullReport:
    night: WakeUpReport
    state: str = ""  # what the run does now, where the state in the journal does not say it
    remarks: tuple[str, ...] = ()  # how a file of others was read
    title: str = ""

    @property
    def failed(self) -> bool:
        """Whether the baseline crashed, or all that was tried after it."""
        tried = [row.status for row in self.night.rows if row.number > 0]
        crashed = [row.status for row in self.night.rows if row.status is Status.CRASH]
        return bool(crashed) and len(crashed) >= len(tried)

    def draw(self, path: Path, *, by_time: bool = False) -> None:
        import asyncio

        from notifiers.charts import draw
        from notifiers.charts.scene import ChartError, make_scene

        report, rows = self.night.report, self.night.rows
        try:
            scene = make_scene(
                rows, metric=report.metric, goal=report.goal, title=self.title, by_time=by_time
            )
            png = asyncio.run(draw(scene))
        except ChartError as error:
            raise UserError(str(error)) from None
        with writing(path):
            path.write_bytes(png)

    def write_page(self, path: Path, settings: Settings, zone: tzinfo) -> None:
        from notifiers.page import Content, page

        night = self.night
        content = Content(
            report=night.report,
            rows=night.rows,
            details={},
            title=self.title,
            ledger=night.ledger,
            certainty=night.certainty,
        )
        if night.run:
            content = _completed(content, settings, night.run)
        with writing(path):
            path.write_text(page(content, made_at=datetime.now(zone)), encoding="utf-8")

    def show(self, zone: tzinfo) -> None:
        from notifiers.text.report import WIDTH, report_message

        width = max(WIDTH, min(100, get_terminal_size().columns) - 4)
        message = report_message(self.night, zone=zone, state=self.state, width=width)
        if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
            show_in_colour(self.night, message)
        else:
            print_message(message)
            if sys.stdout.isatty() and (line := _line_of(self.night)):
                say(f"\n{line}")
        for remark in filter(None, self.remarks):
            say(f"\n{remark}")


def report_of_run(settings: Settings, tag: str | None) -> FullReport:
    from loop.results.report import read_wakeup_report

    price, stuck = settings.gpu_dollars_an_hour, settings.stuck_after
    with open_run(settings, tag) as (journal, run):
        night = read_wakeup_report(journal, run, until=time.time(), gpu_price=price, stuck_after=stuck)
    return FullReport(night, not_running(settings, run), title=run.tag)


def report_of_file(settings: Settings, file: Path) -> FullReport:
    from loop.results.report import WakeUpReport

    found = read_results(file, settings.metric)
    numbers = make_report(found.rows, metric=found.metric, goal=settings.metric_goal)
    remarks = (renamed_text(found), goal_text(found, settings.metric_goal))
    title = file.resolve().parent.name if file.stem == "results" else file.stem
    return FullReport(WakeUpReport(report=numbers, rows=found.rows), remarks=remarks, title=title)


def _completed(content: Content, settings: Settings, run: Run) -> Content:
    """Add the rationale, diff, log, loss and constants of what is listed, and where the best came from.

    There is no provenance while nothing was kept, or where git has lost the commit.
    """
    from bot.reports.bundle import open_workspace, provenance_of
    from loop.logs.progress import kept_curve
    from loop.logs.tail import read_tail
    from loop.results.constants import moves_of
    from loop.store.experiments import read_tried
    from notifiers.page import Detail, listed

    with open_run(settings, run.tag) as (journal, _):
        shown = journal.experiments_at(run.id, [row.number for row in listed(content.rows)])
        tried = read_tried(journal, run.id)
        best = journal.best(run.id)
    workspace = open_workspace(settings, run)
    diffs = workspace.diffs(e.commit for e in shown if e.number)
    details = {}
    for e in shown:
        log = RunFolders(settings.home, run.id).log(e.number)
        tail = read_tail(log, limit=_LOG_BYTES)
        details[e.number] = Detail(e.rationale, diffs.get(e.commit, ""), tail, kept_curve(log), e.constants)
    noise = content.certainty.noise if content.certainty else None
    content = replace(content, details=details, moves=moves_of(tried, run.goal, noise))
    try:
        provenance = provenance_of(settings, run, workspace, best.commit) if best else None
    except UserError:
        return content
    return replace(content, provenance=provenance)


def _line_of(night: WakeUpReport) -> str:
    from notifiers.charts.scene import sparkline
    from notifiers.text.report import WIDTH

    return sparkline(night.rows, metric=night.report.metric, goal=night.report.goal, width=WIDTH)


def show_in_colour(night: WakeUpReport, message: Message, *, console: Console | None = None) -> None:
    from rich.console import Console
    from rich.panel import Panel
    from rich.text import Text

    from bot.local.terminal import render

    first, _, rest = render(message).partition("\n")
    text = Text(rest)
    for pattern, style in _STYLES:
        text.highlight_regex(re.compile(pattern, re.MULTILINE), style)
    for found in _GAIN.finditer(rest):
        text.stylize("dim", *found.span(1))
        text.stylize("green", *found.span(2))
    if line := _line_of(night):
        text.append(f"\n\n{line}", "blue")
    crashed = night.report.best is None and night.report.crash > 0
    colour = "red" if crashed else "green" if night.report.gain else "blue"
    panel = Panel(text, title=Text(first, "bold"), title_align="left", border_style=colour, expand=False)
    (console or Console(highlight=False)).print(panel)
