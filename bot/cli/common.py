"""What the parts of the command line share: options, the state directory, and output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from bot.setup.settings import Settings, load_settings
from loop.errors import UserError
from loop.experiment import Run, RunState
from loop.store.journal import Journal
from notifiers.message import Message

Tag = Annotated[str | None, typer.Option(help="The run; without it the newest.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True, slots=True)
class State:
    """What comes before the command: `--home`, None where it was not given."""

    home: Path | None

    def settings(self) -> Settings:
        """Read the settings anew."""
        return load_settings(home=self.home)


@contextmanager
def open_run(settings: Settings, tag: str | None) -> Iterator[tuple[Journal, Run]]:
    """Open the journal for reading and find a run in it, the newest without a tag.

    Raises:
        UserError: there is none.
        UserError: the journal cannot be read.
    """
    path = settings.home / "state.db"
    with ExitStack() as stack:
        journal = stack.enter_context(closing(Journal(path, read_only=True))) if path.exists() else None
        runs = journal.runs() if journal else []
        if journal is None or not runs:
            raise UserError(f"There is no run in {settings.home} yet: start one with `autoresearch up`.")
        chosen = [run for run in runs if tag in (None, run.tag)]
        if not chosen:
            known = ", ".join(run.tag for run in runs)
            raise UserError(f"There is no run {tag} in {settings.home}; there are: {known}.")
        yield journal, chosen[-1]


def ownerless(settings: Settings, run: Run) -> str:
    """Say so where a run is under way but no bot is there to run it; else nothing."""
    from bot.local.wire import bot_answers

    under_way = run.state in (RunState.RUNNING, RunState.PAUSING)
    alone = under_way and bot_answers(settings.socket) is False
    return "Nobody runs it: `autoresearch up` goes on" if alone else ""


def print_message(message: Message) -> None:
    """Print what a chat would be told."""
    from bot.local.terminal import render

    sys.stdout.write(render(message) + "\n")


def print_json(value: object) -> None:
    """Print a value as JSON for people and programs."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
