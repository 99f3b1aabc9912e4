"""The command line `autoresearch`."""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from bot.cli import Json, Tag, not_running, open_run, print_data, print_json, print_message, say, what_goes_on
from bot.cli.report import report, report_of_run
from bot.setup.service import become_init, open_standard_streams, share_heap, unit
from bot.setup.settings import load_settings
from loop.errors import UserError
from loop.files import writing
from loop.folders import worktree
from loop.gain import number
from loop.shell import own_command
from loop.store.experiments import read_rows
from loop.store.journal import Journal, OlderStateError, StoreError
from notifiers.text.words import plural

app = typer.Typer(
    help="Hosts an overnight machine-learning research loop.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _state(
    context: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help="The state directory, instead of AUTORESEARCH_HOME.")
    ] = None,
) -> None:
    context.obj = partial(load_settings, home=home)  # read by each command


@app.command()
def up(
    context: typer.Context,
    tag: Annotated[str | None, typer.Option(help="The run to start or continue.")] = None,
    experiments: Annotated[int | None, typer.Option(min=1, help="How many after the baseline.")] = None,
    exit_when_done: Annotated[
        bool, typer.Option("--exit-when-done", help="End after them and print the report.")
    ] = False,
    certify: Annotated[bool, typer.Option("--certify", help="Certify their gain at the end.")] = False,
) -> None:
    """Run the bot: continue the active run, or start one."""
    import asyncio

    from bot.app import Order, serve
    from bot.local.terminal import Output

    settings = context.obj()
    become_init()
    share_heap()
    os.umask(0o077)
    done = asyncio.run(serve(settings, Order(tag, experiments, exit_when_done, certify)))
    if exit_when_done:
        made = report_of_run(settings, done or tag)
        with suppress(OSError, UserError):  # what was ordered is done, whatever became of the output
            made.show(settings.zone)
        raise typer.Exit(code=int(made.failed))
    with suppress(TimeoutError, UserError, StoreError):  # it is a courtesy, and nobody may read it
        text = what_goes_on(settings) or "The bot has ended."
        asyncio.run(asyncio.wait_for(Output(sys.stdout).write(f"{text}\n"), timeout=1))


@app.command()
def chat(context: typer.Context) -> None:
    """Attach this terminal to the running bot."""
    import asyncio

    from bot.local import terminal

    asyncio.run(terminal.chat(context.obj().socket))


@app.command()
def send(context: typer.Context, text: Annotated[list[str], typer.Argument(help="Such as /status.")]) -> None:
    """Send the running bot one command; exit status 1 if it is refused."""
    import asyncio

    from bot.local import wire

    reply = asyncio.run(wire.send(context.obj().socket, " ".join(text)))
    print_message(reply.message)
    raise typer.Exit(code=int(reply.refused))


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    profile: Annotated[
        Literal["gpu", "gpu8", "mps", "cpu"],
        typer.Option(help="The constants: for an H100, a GPU of 8 GB, Apple's, a CPU."),
    ] = "gpu",
    time_budget: Annotated[
        float | None, typer.Option(min=1, help="Seconds for each training, whatever it computes in them.")
    ] = None,
) -> None:
    """Write the training template as a new git repository."""
    from bot.setup.template import init_repository
    from loop.process.environment import prepare_line

    commit = init_repository(folder, profile, time_budget)
    say(
        f"{folder} is ready (commit {commit[:7]}). Next: {prepare_line(folder)}\n"
        f"Then put REPOSITORY={folder.expanduser().resolve()} into .env here, and run: {own_command('up')}"
    )


@app.command()
def check(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A train.py.")],
    repo: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The training repository to compare with, instead of REPOSITORY."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print what the guard finds in a train.py; exit status 1 if it would be refused."""
    from bot.cli.check import check_file

    settings = context.obj()
    raise typer.Exit(code=int(check_file(settings, file, repo or settings.repository, as_json=as_json)))


@app.command()
def doctor(
    context: typer.Context,
    as_json: Json = False,
    repo: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The training repository, instead of REPOSITORY.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="List all checks, also what is well.")] = False,
) -> None:
    """Check this machine and print what to fix; exit status 1 if a check fails."""
    from dataclasses import asdict

    from bot.heartbeat.health import health_checks, incident_lines
    from bot.local.wire import bot_answers
    from bot.platforms import chat_checks
    from bot.setup.doctor import Check, brief, examine_services, render
    from bot.setup.trainings import start_checks

    settings = context.obj()
    if repo is not None:
        settings = settings.model_copy(update={"repository": repo.expanduser().absolute()})
    checks = (*start_checks(settings, os.environ), *examine_services(settings), *chat_checks(settings))
    incidents: list[str] = []
    state = settings.home / "state.db"
    try:
        if state.exists():
            with closing(Journal(state, read_only=True)) as journal:
                minutes = settings.heartbeat_minutes
                running = bot_answers(settings.socket) is not False
                checks += health_checks(
                    journal, home=settings.home, heartbeat_minutes=minutes, now=time.time(), running=running
                )
                incidents = incident_lines(journal, zone=settings.zone)
    except OlderStateError as error:
        checks += (Check("state file", None, str(error)),)
    except UserError as error:
        checks += (Check("state file", False, str(error)),)
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        say("\n".join((render(checks), *incidents)) if everything else brief(checks, settings.home))
    raise typer.Exit(code=int(any(check.ok is False for check in checks)))


@app.command()
def service(context: typer.Context) -> None:
    """Print a systemd user unit for the bot."""
    import shutil

    executable = Path(shutil.which(sys.argv[0]) or sys.argv[0]).absolute()
    settings = context.obj()
    path = os.environ.get("PATH", os.defpath)
    print_data(unit(executable=executable, working_directory=Path.cwd(), home=settings.home, path=path))


@app.command("slack-manifest")
def slack_manifest() -> None:
    """Print the manifest for the Slack app."""
    from bot.slack import manifest

    print_data(manifest())


@app.command()
def status(context: typer.Context, tag: Tag = None, as_json: Json = False) -> None:
    """Print the state of a run; the bot need not be running."""
    from bot.local.wire import bot_answers
    from loop.results.ledger import read_ledger
    from loop.results.report import run_status, to_json
    from notifiers.text.status import status_message
    from notifiers.text.words import reason_text

    settings = context.obj()
    with open_run(settings, tag) as (journal, run):
        found = run_status(journal, run, worktree=worktree(settings.home, run.tag))
        ledger = read_ledger(journal, run, now=time.time()) if as_json else None
    if ledger is not None:
        answers = bot_answers(settings.socket)
        live = {"state_reason": reason_text(found.reason), "bot_answers": answers}
        print_json(to_json(found) | live | {"ledger": ledger.to_json()})
    else:
        message = status_message(found, now=time.time(), zone=settings.zone)
        lines = (message.text, not_running(settings, run))
        say("\n".join(filter(None, lines)))


@app.command()
def results(context: typer.Context, tag: Tag = None, as_json: Json = False) -> None:
    """Print the experiments of a run."""
    from loop.results.gains import reason_of
    from notifiers.text.results import results_message

    with open_run(context.obj(), tag) as (journal, run):
        rows = read_rows(journal, run.id)
    if as_json:
        shown = (replace(row, reason=reason_of(row, run.goal)) for row in rows)
        print_json([row.to_json(run.metric) for row in shown])
    else:
        total = len(rows)
        print_message(
            results_message(rows, metric=run.metric, goal=run.goal, total=total, tag=run.tag, width=100)
        )


app.command(help="Print the report on a run, or on any results.tsv.")(report)


@app.command()
def export(
    context: typer.Context,
    tag: Tag = None,
    jsonl: Annotated[Path | None, typer.Option(help="Write JSON lines; - for stdout.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write a Parquet file.")] = None,
) -> None:
    """Write all experiments of a run to a file, with every field."""
    from loop.results.export import json_lines, write_parquet

    if jsonl is None and parquet is None:
        raise UserError("No output given: use --jsonl FILE, --jsonl - or --parquet FILE.")
    with open_run(context.obj(), tag) as (journal, run):
        experiments = journal.experiments(run.id)
    if parquet is not None:
        write_parquet(parquet, run, experiments)
    if jsonl is not None:
        text = json_lines(run, experiments)
        if str(jsonl) == "-":
            print_data(text)
            return
        with writing(jsonl):
            jsonl.write_text(text, encoding="utf-8")
    files = " and ".join(str(file) for file in (jsonl, parquet) if file)
    say(f"{plural(len(experiments), 'experiment')} of run {run.tag} written to {files}.")


@app.command()
def bundle(
    context: typer.Context,
    tag: Tag = None,
    squash: Annotated[bool, typer.Option("--squash", help="A single commit, not one for each keep.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the files go.")] = None,
) -> None:
    """Make a clean branch of what was kept, and files for a pull request; nothing is pushed."""
    import asyncio

    from bot.reports.bundle import bundle_folder, make_bundle, open_workspace

    settings = context.obj()
    with open_run(settings, tag) as (journal, run):
        workspace = open_workspace(settings, run)
        folder = out or bundle_folder(settings, run)
        made = asyncio.run(
            make_bundle(journal, run, workspace, settings=settings, folder=folder, squash=squash)
        )
    say(made.message().text)


@app.command()
def adopt(
    context: typer.Context,
    repo: Annotated[Path, typer.Option(metavar="DIR", help="The training repository.")],
    branch: Annotated[str, typer.Option(help="For example autoresearch/mar5.")],
    file: Annotated[Path | None, typer.Option("--results", help="Its results.tsv, if elsewhere.")] = None,
    tag: Annotated[str | None, typer.Option(help="A new name, and with it a new branch.")] = None,
) -> None:
    """Take over a branch of experiments made by hand or by an agent; the next `up` continues it."""
    from bot.cli.adoption import adopt as take_over

    settings = context.obj()
    with closing(Journal(settings.home / "state.db")) as journal:
        run, read = take_over(
            settings, journal, repository=repo, branch=branch, results=file, tag=tag, now=time.time()
        )
        best = journal.best(run.id)
        count = plural(len(journal.experiments(run.id)), "experiment")
    known = "its head becomes the baseline"
    up = own_command(f"up --tag {run.tag}", settings.home)
    if best and best.value is not None:
        known = f"best #{best.number} {number(best.value)}"
    say(f"{read}\nRun {run.tag}: {count}, {known}. Continue it with `{up}`.")


def main() -> None:
    """Run the command line; a `UserError` is one sentence on stderr and exit status 1."""
    open_standard_streams()
    try:
        app()
    except UserError as error:
        status = _fail(str(error))
    except StoreError as error:
        fix = "close what else uses it, or free some disk space"
        status = _fail(f"The state file cannot be used ({error}): {fix}.")
    except SystemExit as ended:
        status = int(ended.code or 0)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(status)  # to take everything down one by one takes Python a second on a busy machine


def _fail(sentence: str) -> int:
    with suppress(OSError):
        sys.stderr.write(f"{sentence}\n")
    return 1
