"""The commands that read a run, whether the bot runs or not."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from bot.cli.common import Json, Tag, open_run, ownerless, print_json, print_message
from bot.cli.report import report
from loop.errors import UserError
from loop.store.experiments import read_rows
from loop.store.journal import Journal
from notifiers.message import Message
from notifiers.text.words import plural

app = typer.Typer()
app.command()(report)


@app.command()
def status(context: typer.Context, tag: Tag = None, as_json: Json = False) -> None:
    """Show how a run stands, whether the bot runs or not."""
    from bot.app import zone_of
    from bot.local.wire import bot_answers
    from loop.results.ledger import read_ledger
    from loop.results.report import to_json
    from loop.results.status import run_status
    from notifiers.text.reasons import reason_text
    from notifiers.text.status import status_message

    settings = context.obj.settings()
    with open_run(settings, tag) as (journal, run):
        found = run_status(journal, run, worktree=settings.home / "worktrees" / run.tag)
        ledger = read_ledger(journal, run, now=time.time()) if as_json else None
    if ledger is not None:
        answers = bot_answers(settings.socket)
        told = {"state_reason": reason_text(found.reason), "bot_answers": answers}
        print_json(to_json(found) | told | {"ledger": ledger.to_json()})
    else:
        message = status_message(found, now=time.time(), zone=zone_of(settings))
        lines = (message.text, ownerless(settings, run))
        print_message(Message("\n".join(filter(None, lines))))


@app.command()
def results(context: typer.Context, tag: Tag = None, as_json: Json = False) -> None:
    """List the experiments of a run."""
    from notifiers.text.report import results_message

    with open_run(context.obj.settings(), tag) as (journal, run):
        rows = read_rows(journal, run.id)
    if as_json:
        print_json([row.to_json(run.metric) for row in rows])
    else:
        total = len(rows)
        print_message(
            results_message(rows, metric=run.metric, goal=run.goal, total=total, tag=run.tag, width=100)
        )


@app.command()
def export(
    context: typer.Context,
    tag: Tag = None,
    jsonl: Annotated[Path | None, typer.Option(help="Write JSON lines; - for stdout.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write a Parquet file.")] = None,
) -> None:
    """Write all experiments of a run, with everything that is known of them."""
    from loop.results.export import json_lines, write_parquet

    if jsonl is None and parquet is None:
        raise UserError("Say where to: --jsonl FILE, --jsonl - or --parquet FILE.")
    with open_run(context.obj.settings(), tag) as (journal, run):
        experiments = journal.experiments(run.id)
    if parquet is not None:
        write_parquet(parquet, run, experiments)
    if jsonl is not None:
        text = json_lines(run, experiments)
        if str(jsonl) == "-":
            sys.stdout.write(text)
            return
        try:
            jsonl.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{jsonl} cannot be written: {error.strerror}.") from None
    files = " and ".join(str(file) for file in (jsonl, parquet) if file)
    print_message(Message(f"{plural(len(experiments), 'experiment')} of run {run.tag}: in {files}."))


@app.command()
def bundle(
    context: typer.Context,
    tag: Tag = None,
    squash: Annotated[bool, typer.Option("--squash", help="One commit instead of one a keep.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the files go.")] = None,
) -> None:
    """Make a tidy branch of what was kept, and the files for a pull request; nothing is pushed."""
    from bot.bundling import bundle_folder, make_bundle, open_workspace

    settings = context.obj.settings()
    with open_run(settings, tag) as (journal, run):
        workspace = open_workspace(settings, run)
        folder = out or bundle_folder(settings, run)
        made = asyncio.run(
            make_bundle(journal, run, workspace, settings=settings, folder=folder, squash=squash)
        )
    print_message(Message(made.message().text))


@app.command()
def adopt(
    context: typer.Context,
    repo: Annotated[Path, typer.Option(metavar="DIR", help="The training repository.")],
    branch: Annotated[str, typer.Option(help="Such as autoresearch/mar5.")],
    file: Annotated[Path | None, typer.Option("--results", help="Its results.tsv; none: no results.")] = None,
    tag: Annotated[str | None, typer.Option(help="Go on under another name, on a new branch.")] = None,
) -> None:
    """Take over a night that was begun by hand or by an agent; the next `up` goes on from there."""
    from bot.cli.adoption import adopt as take_over

    settings = context.obj.settings()
    with closing(Journal(settings.home / "state.db")) as journal:
        run = take_over(
            settings, journal, repository=repo, branch=branch, results=file, tag=tag, now=time.time()
        )
        best = journal.best(run.id)
        count = plural(len(journal.experiments(run.id)), "experiment")
    known = f"the best is #{best.number}, {best.value:z.6f}" if best else "its head becomes the baseline"
    print_message(
        Message(f"Run {run.tag} has {count}, {known}. `autoresearch up --tag {run.tag}` goes on from there.")
    )
