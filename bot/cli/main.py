"""The command line `autoresearch`."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

import typer

from bot.cli.common import Json, State, print_json, print_message
from bot.cli.read import app as reading
from bot.cli.report import report_of_run
from loop.errors import UserError
from loop.store.journal import Journal, OlderStateError
from notifiers.message import Message

app = typer.Typer(
    help="Hosts an overnight machine-learning research loop.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(reading)


@app.callback()
def _state(
    context: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help="The state directory; it wins over AUTORESEARCH_HOME.")
    ] = None,
) -> None:
    context.obj = State(home)


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
        report_of_run(settings, tag).show(zone_of(settings))


@app.command()
def chat(context: typer.Context) -> None:
    """Attach this terminal to the running bot."""
    from bot.commands import COMMANDS
    from bot.local import terminal

    settings = context.obj.settings()
    names = [command.name for command in COMMANDS]
    asyncio.run(terminal.chat(settings.socket, commands=names, history=settings.home / "history"))


@app.command()
def send(context: typer.Context, command: Annotated[str, typer.Argument(help='Such as "/status".')]) -> None:
    """Give the running bot one command; exit status 1 if it is refused."""
    from bot.local import wire

    reply = asyncio.run(wire.send(context.obj.settings().socket, command))
    print_message(reply.message)
    raise typer.Exit(code=int(reply.refused))


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    profile: Annotated[Literal["gpu", "cpu"], typer.Option(help="The constants to write.")] = "gpu",
    time_budget: Annotated[float | None, typer.Option(min=1, help="Seconds of a training.")] = None,
) -> None:
    """Write the training template as a new git repository."""
    from bot.setup.template import init_repository
    from loop.process.trainer import prepare_line

    commit = init_repository(folder, profile, time_budget)
    print_message(Message(f"{folder} is ready at {commit[:7]}. Next: {prepare_line(folder)}"))


@app.command()
def doctor(context: typer.Context, as_json: Json = False) -> None:
    """Say what is missing, and the command that mends it; exit status 1 if something is."""
    from dataclasses import asdict

    from bot.app import zone_of
    from bot.health import health_checks, incident_lines
    from bot.setup.doctor import Check, examine, render

    settings = context.obj.settings()
    checks = examine(settings)
    incidents: list[str] = []
    state = settings.home / "state.db"
    try:
        if state.exists():
            with closing(Journal(state, read_only=True)) as journal:
                minutes = settings.heartbeat_minutes
                checks += health_checks(
                    journal, home=settings.home, heartbeat_minutes=minutes, now=time.time()
                )
                incidents = incident_lines(journal, zone=zone_of(settings))
    except OlderStateError as error:
        checks += (Check("state file", None, str(error)),)
    except UserError as error:
        checks += (Check("state file", False, str(error)),)
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        print_message(Message("\n".join((render(checks), *incidents))))
    raise typer.Exit(code=int(any(check.ok is False for check in checks)))


@app.command()
def service(context: typer.Context) -> None:
    """Print a systemd user unit that keeps the bot running."""
    import os
    import shutil

    from bot.setup.service import unit

    executable = Path(shutil.which(sys.argv[0]) or sys.argv[0]).absolute()
    settings = context.obj.settings()
    path = os.environ.get("PATH", os.defpath)
    sys.stdout.write(unit(executable=executable, working_directory=Path.cwd(), home=settings.home, path=path))


@app.command("slack-manifest")
def slack_manifest() -> None:
    """Print the manifest from which Slack makes the app."""
    from bot.commands import COMMANDS
    from bot.slack.manifest import manifest

    sys.stdout.write(manifest(command for command in COMMANDS if not command.hidden))


def main() -> None:
    """Run the command line; a mistake of the user's is one sentence on stderr and exit status 1."""
    try:
        app()
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
