"""The command line `autoresearch`: one function a command, everything heavy imported when it is called.

Start at `main.py`. Nothing else imports this package. Here is what the commands share.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from typing import Annotated

import typer

from bot.local.wire import bot_answers
from bot.setup.settings import Settings
from loop.errors import UserError
from loop.experiment import Goal, Purpose, Run, RunState, Status
from loop.gain import gain, number
from loop.results.table import Results
from loop.shell import own_command
from loop.store.evidence.repeats import trainings_under_way
from loop.store.journal import Journal
from loop.text import clean, one_line
from notifiers.message import Message
from notifiers.text.words import duration, plural

Tag = Annotated[str | None, typer.Option(help="The run; default: the newest.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def open_run(settings: Settings, tag: str | None) -> Iterator[tuple[Journal, Run]]:
    """Open the journal for reading and find a run in it, the newest without a tag."""
    path = settings.home / "state.db"
    with ExitStack() as stack:
        journal = stack.enter_context(closing(Journal(path, read_only=True))) if path.exists() else None
        runs = journal.runs() if journal else []
        if journal is None or not runs:
            raise UserError(
                f"No run in {settings.home} yet: start one with `{own_command('up', settings.home)}`."
            )
        chosen = [run for run in runs if tag in (None, run.tag)]
        if not chosen:
            known = ", ".join(run.tag for run in runs)
            raise UserError(f"No run {tag} in {settings.home}; known runs: {known}.")
        yield journal, chosen[-1]


def not_running(settings: Settings, run: Run) -> str:
    under_way = run.state in (RunState.RUNNING, RunState.PAUSING)
    alone = under_way and bot_answers(settings.socket) is False
    return f"No bot is running: `{own_command('up', settings.home)}` continues it" if alone else ""


def what_goes_on(settings: Settings) -> str:
    """Say what goes on when the bot has ended, how to end that, and how to continue."""
    with closing(Journal(settings.home / "state.db", read_only=True)) as journal:
        runs = [run for run in journal.active_runs() if run.state is not RunState.DONE]
        lines = [line for run in runs for line in _training_lines(settings, journal, run)]
    for run in runs:
        then = ", then /resume" if run.is_paused else ""
        lines.append(f"To continue run {run.tag}: {own_command('up', settings.home)}{then}")
    return "\n".join(lines)


def _training_lines(settings: Settings, journal: Journal, run: Run) -> Iterator[str]:
    for experiment, training, _ in trainings_under_way(journal, run.id):
        repeat = "A repeat of experiment" if training.purpose is Purpose.REPEAT else "Experiment"
        left = (training.started_at or time.time()) + settings.deadline(run.time_budget) - time.time()
        end = f" To end it: kill {training.supervisor_pid}" if training.supervisor_pid else ""
        yield f"{repeat} #{experiment} trains on without the bot, for {duration(max(left, 0))} at most.{end}"


def renamed_text(found: Results) -> str:
    """Return how verdicts in words of others are read; empty where there are none."""
    read = [
        f"{plural(times, 'row')} {one_line(word, 20)!r} as {status.value}"
        for word, status, times in found.renamed
    ]
    return f"Read {', '.join(read)}." if read else ""


def goal_text(found: Results, goal: Goal) -> str:
    """Return what to do where keeps are more often worse than the one before than better; else nothing."""
    kept = [row.value for row in found.rows if row.status is Status.KEEP and row.value is not None]
    gains = [gain(before, after, goal) for before, after in pairwise(kept)]
    if sum(each < 0 for each in gains) <= sum(each > 0 for each in gains):
        return ""
    rises = goal is Goal.MINIMIZE
    way, right, end = ("rises", Goal.MAXIMIZE, max(kept)) if rises else ("falls", Goal.MINIMIZE, min(kept))
    first, last = number(kept[0]), number(end, kept[0])
    return f"{found.metric} {way} from keep to keep ({first} → {last}): set METRIC_GOAL={right.value}."


def say(text: str) -> None:
    """Print text that may come from anywhere."""
    write_out(clean(text).rstrip("\n") + "\n")


def print_message(message: Message) -> None:
    say("\n".join(filter(None, (message.text, message.block))))


def print_json(value: object) -> None:
    print_data(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_data(text: str) -> None:
    """Print what programs read, in UTF-8 whatever the terminal takes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    write_out(text)


def write_out(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise  # the reader has read enough
    except OSError as error:
        raise UserError(f"The output cannot be written: {error.strerror}.") from None
