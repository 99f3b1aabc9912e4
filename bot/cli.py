"""The command line `autoresearch`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Annotated, Literal

import typer

from bot.errors import BotError
from bot.settings import Settings, load_settings
from loop.errors import LoopError
from loop.experiment import Run
from loop.journal import Journal
from loop.ledger import Ledger
from loop.report import Report, make_report
from loop.results import Row, read_results, row_of
from notifiers.message import Message

app = typer.Typer(
    help="Hosts an overnight machine-learning research loop.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Home = Annotated[Path | None, typer.Option(help="The state directory.", envvar="AUTORESEARCH_HOME")]
Tag = Annotated[str | None, typer.Option(help="The run; without it the newest.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True, slots=True)
class _State:
    home: Path | None

    def settings(self) -> Settings:
        return load_settings(home=self.home)


@app.callback()
def _state(
    context: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help="The state directory.", envvar="AUTORESEARCH_HOME")
    ] = None,
) -> None:
    context.obj = _State(home)


@app.command()
def up(
    context: typer.Context,
    tag: Annotated[str | None, typer.Option(help="The run to start or to go on with.")] = None,
    experiments: Annotated[int | None, typer.Option(min=1, help="How many after the baseline.")] = None,
    exit_when_done: Annotated[bool, typer.Option(help="End after them, with the report.")] = False,
) -> None:
    """Run the bot: go on with the active run, or start one."""
    from bot.app import Order, serve, zone_of

    settings = context.obj.settings()
    asyncio.run(serve(settings, Order(tag, experiments, exit_when_done)))
    if exit_when_done:
        _print(_report(settings, tag).message(zone_of(settings)))


@app.command()
def chat(context: typer.Context) -> None:
    """Attach this terminal to the running bot."""
    from bot import terminal
    from bot.commands import COMMANDS

    settings = context.obj.settings()
    names = [command.name for command in COMMANDS]
    asyncio.run(terminal.chat(settings.socket, commands=names, history=settings.home / "history"))


@app.command()
def send(context: typer.Context, command: Annotated[str, typer.Argument(help='Such as "/status".')]) -> None:
    """Give the running bot one command; exit status 1 if it is refused."""
    from bot import client

    reply = asyncio.run(client.send(context.obj.settings().socket, command))
    _print(reply.message)
    raise typer.Exit(code=int(reply.refused))


@app.command()
def status(context: typer.Context, tag: Tag = None, as_json: Json = False) -> None:
    """Show how a run stands, whether the bot runs or not."""
    from bot.app import zone_of
    from loop.ledger import read_ledger
    from loop.status import run_status
    from notifiers.status_text import status_message

    settings = context.obj.settings()
    journal, run = _open(settings, tag)
    found = run_status(journal, run, worktree=settings.home / "worktrees" / run.tag)
    if as_json:
        ledger = read_ledger(journal, run, now=time.time())
        _print_json(found.to_json() | {"ledger": ledger.to_json()})
    else:
        _print(status_message(found, now=time.time(), zone=zone_of(settings)))


@app.command()
def results(context: typer.Context, tag: Tag = None, as_json: Json = False) -> None:
    """List the experiments of a run."""
    from notifiers.report_text import results_message

    journal, run = _open(context.obj.settings(), tag)
    rows = _decided(journal, run)
    if as_json:
        _print_json([row.to_json(run.metric) for row in rows])
    else:
        last = max(1, len(rows))
        _print(results_message(rows, metric=run.metric, goal=run.goal, last=last, tag=run.tag, width=100))


@app.command()
def report(
    context: typer.Context,
    tag: Tag = None,
    file: Annotated[Path | None, typer.Option("--results", help="Any results.tsv instead of a run.")] = None,
    picture: Annotated[Path | None, typer.Option("--chart", help="Write the progress as a PNG too.")] = None,
    as_json: Json = False,
) -> None:
    """Show what a run has brought."""
    from bot.app import zone_of

    settings = context.obj.settings()
    made = _report_of_file(settings, file) if file else _report(settings, tag)
    if picture is not None:
        made.draw(picture)
    if as_json:
        _print_json(made.to_json())
    else:
        _print(made.message(zone_of(settings)))


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    profile: Annotated[Literal["gpu", "cpu"], typer.Option(help="The constants to write.")] = "gpu",
    time_budget: Annotated[float | None, typer.Option(min=1, help="Seconds of a training.")] = None,
) -> None:
    """Write the training template as a new git repository."""
    from bot.template import init_repository

    commit = init_repository(folder, profile, time_budget)
    _print(Message(f"{folder} is ready at {commit[:7]}. Next: cd {folder} && python prepare.py"))


@app.command()
def doctor(context: typer.Context, as_json: Json = False) -> None:
    """Say what is missing, and the command that mends it; exit status 1 if something is."""
    from dataclasses import asdict

    from bot.app import zone_of
    from bot.doctor import examine, render
    from bot.health import health_checks, incident_lines

    settings = context.obj.settings()
    checks = examine(settings)
    incidents: list[str] = []
    state = settings.home / "state.db"
    if state.exists():
        journal = Journal(state)
        minutes = settings.heartbeat_minutes
        checks += health_checks(journal, home=settings.home, heartbeat_minutes=minutes, now=time.time())
        incidents = incident_lines(journal, zone=zone_of(settings))
    if as_json:
        _print_json([asdict(check) for check in checks])
    else:
        _print(Message("\n".join((render(checks), *incidents))))
    raise typer.Exit(code=int(any(check.ok is False for check in checks)))


@app.command()
def service(context: typer.Context) -> None:
    """Print a systemd user unit that keeps the bot running."""
    import os
    import shutil

    from bot.service import unit

    executable = Path(shutil.which(sys.argv[0]) or sys.argv[0]).absolute()
    settings = context.obj.settings()
    path = os.environ.get("PATH", os.defpath)
    sys.stdout.write(unit(executable=executable, working_directory=Path.cwd(), home=settings.home, path=path))


@app.command("slack-manifest")
def slack_manifest() -> None:
    """Print the manifest from which Slack makes the app."""
    from bot.commands import COMMANDS
    from bot.slack_manifest import manifest

    sys.stdout.write(manifest(command for command in COMMANDS if not command.hidden))


def main() -> None:
    """Run the command line; a mistake of the user's is one sentence on stderr and exit status 1."""
    try:
        app()
    except (BotError, LoopError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)


def _open(settings: Settings, tag: str | None) -> tuple[Journal, Run]:
    path = settings.home / "state.db"
    if not path.exists():
        raise BotError(f"There is no run in {settings.home} yet: start one with `autoresearch up`.")
    journal = Journal(path)
    runs = [run for run in journal.runs() if tag in (None, run.tag)]
    if not runs:
        known = ", ".join(run.tag for run in journal.runs()) or "none"
        raise BotError(f"There is no run {tag or ''} in {settings.home}; there are: {known}.")
    return journal, runs[-1]


def _decided(journal: Journal, run: Run) -> list[Row]:
    return [row_of(e) for e in journal.experiments(run.id) if e.status is not None]


@dataclass(frozen=True, slots=True)
class _Report:
    """A report with what only the journal can add to it."""

    numbers: Report
    rows: Sequence[Row]
    run: Run | None = None
    ledger: Ledger | None = None

    def to_json(self) -> dict[str, object]:
        spent = {"ledger": self.ledger.to_json()} if self.ledger else {}
        return self.numbers.to_json() | spent

    def draw(self, path: Path) -> None:
        from notifiers.chart import ChartError, chart

        report = self.numbers
        title = report.tag or path.stem
        try:
            png = asyncio.run(chart(self.rows, metric=report.metric, goal=report.goal, title=title))
            path.write_bytes(png)
        except (ChartError, OSError) as error:
            raise BotError(f"The chart {path} cannot be made: {error}") from None

    def message(self, zone: tzinfo) -> Message:
        from notifiers.report_text import report_message

        return report_message(self.numbers, self.run, ledger=self.ledger, zone=zone)


def _report(settings: Settings, tag: str | None) -> _Report:
    from loop.ledger import read_ledger

    journal, run = _open(settings, tag)
    rows = _decided(journal, run)
    numbers = make_report(rows, metric=run.metric, goal=run.goal, tag=run.tag)
    return _Report(numbers, rows, run, read_ledger(journal, run, now=time.time()))


def _report_of_file(settings: Settings, file: Path) -> _Report:
    found = read_results(file, settings.metric)
    numbers = make_report(found.rows, metric=found.metric, goal=settings.metric_goal)
    return _Report(numbers, found.rows)


def _print(message: Message) -> None:
    from bot.terminal import render

    sys.stdout.write(render(message) + "\n")


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
