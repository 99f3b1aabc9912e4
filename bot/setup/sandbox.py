"""The sandbox that trainings get by the settings: found, and tried by what may not be done in it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from bot.setup.settings import Settings
from bot.setup.sources import SEARCH
from loop.errors import UserError
from loop.process.environment import data_folders, readable_for
from loop.sandbox.proof import Check, SandboxFacts, prove
from loop.sandbox.sandbox import SandboxKind, find_sandbox
from loop.sandbox.view import View, check_named


def examine_sandbox(settings: Settings, environment: Mapping[str, str]) -> SandboxFacts:
    """Find the sandbox that works here and try to break out of it, which takes a second.

    Raises:
        UserError: SANDBOX asks for what does not work here; or nothing works, and models write programs.
    """
    hidden = (settings.home,)
    check_named("SANDBOX_READ", settings.sandbox_read, hidden)
    check_named("SANDBOX_WRITE", settings.sandbox_write, hidden)
    kind = None if settings.sandbox == "auto" else SandboxKind(settings.sandbox)
    sandbox = find_sandbox(kind)
    if sandbox.kind is SandboxKind.NONE:
        if kind is None and any(choice.kind != SEARCH for choice in settings.proposer):
            raise UserError(
                f"No sandbox works here, and models write what is trained. {sandbox.reason} "
                "Or set SANDBOX=none to run it with your permissions."
            )
        return SandboxFacts(sandbox)
    view = View(
        settings.home,
        settings.home,
        environment,
        readable=(*readable_for(Path(sys.executable)), *what_trainings_read(settings, environment)),
        writable=settings.sandbox_write,
        hidden=hidden,
        network=settings.allow_network,
    )
    proof = prove(sandbox, view, sys.executable, state=settings.home, repository=settings.repository)
    wanted = (Check.TCP, Check.UDP) if settings.allow_network else ()
    return SandboxFacts(
        sandbox,
        leaks=tuple(check for check in proof.summary[1] if check not in wanted),
        reads=settings.sandbox_read,
        writes=settings.sandbox_write,
        network=settings.allow_network,
    )


def clear_left(home: Path, runs: Collection[int]) -> None:
    """Remove what bots that were killed left in a state directory, but for the trainings of these runs."""
    for folder in (home / "trainings").glob("*"):
        if folder.name not in map(str, runs):
            shutil.rmtree(folder, ignore_errors=True)  # of a run that is over, or of a proof of the sandbox
    for file in home.glob("proof-*"):
        file.unlink()


def what_trainings_read(settings: Settings, environment: Mapping[str, str]) -> tuple[Path, ...]:
    return (*data_folders(environment), *settings.data_paths, *settings.sandbox_read)
