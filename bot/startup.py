"""What a start of the bot is ordered to do, and which run it sets going."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from bot.errors import BotError
from bot.runs import Host
from bot.setup.settings import Settings
from loop.errors import LoopError
from loop.experiment import Actor, Cause, Reason, Run, RunState
from loop.process.threads import in_thread
from loop.store.notes import Notes

FEW = 4
"""How many experiments `--exit-when-done` makes where no number is given."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line asks of a bot process beyond the settings."""

    tag: str | None = None
    experiments: int | None = None
    exit_when_done: bool = False


async def set_going(host: Host, settings: Settings, order: Order) -> asyncio.Task[None] | None:
    """Go on with the run that was under way, or begin the one that is ordered; return its task.

    None where people are to say what goes on: they can reach the bot from elsewhere and nothing is ordered
    here, or the run under way is of another repository than the one that is set now.

    Raises:
        BotError: there is no run that the order could mean.
        LoopError: a new run cannot be made.
    """
    for stopped in await in_thread(_half_stopped, host):
        host.conduct(stopped)  # the bot before this one died over the /stop: end what it had under way
    experiments = order.experiments or settings.experiments or (FEW if order.exit_when_done else None)
    ordered = order.tag or order.experiments or order.exit_when_done
    if settings.has_chat and not ordered and not await in_thread(host.journal.active_runs):
        return None
    strange = await in_thread(_strange_run, host, settings) if order.tag is None else None
    if strange is not None and order.exit_when_done:
        raise BotError(
            f"{_strangeness(host, strange)}: `autoresearch up --tag {strange.tag}` goes on with it; "
            "`autoresearch up` and then /stop ends it."
        )
    if strange is not None and not await in_thread(_is_told, host, strange):
        with suppress(LoopError):  # it is paused for that already
            await host.pause(strange, Reason(Actor.STARTUP, cause=Cause.REPOSITORY))
        await in_thread(_tell, host, strange)
        host.conduct(strange)
        return None
    run = await in_thread(_choose_run, host, settings, order.tag) if strange is None else strange
    if run.state is RunState.DONE:
        await host.engine(run).resume()
    if order.exit_when_done and run.state is RunState.PAUSED:
        raise BotError(f"Run {run.tag} is paused: start without --exit-when-done and give /resume.")
    return host.conduct(run, experiments)


def _half_stopped(host: Host) -> list[Run]:
    """Return the stopped runs that still have an experiment under way."""
    stopped = (run for run in host.journal.runs() if run.state is RunState.STOPPED)
    return [run for run in stopped if host.journal.undecided(run.id)]


def _strange_run(host: Host, settings: Settings) -> Run | None:
    """Return the run under way if it is of another repository than the one that is set."""
    going = (run for run in host.journal.active_runs() if run.state is not RunState.DONE)
    return next((run for run in going if not _is_at_home(host, settings, run)), None)


def _is_at_home(host: Host, settings: Settings, run: Run) -> bool:
    """Tell whether a run may go on by itself; where no repository is set, any may, such as an adopted one."""
    return settings.repository is None or run.repository.resolve() == host.repository.resolve()


def _strangeness(host: Host, run: Run) -> str:
    return f"Run {run.tag} is of {run.repository}, and REPOSITORY is {host.repository}"


def _is_told(host: Host, run: Run) -> bool:
    """Tell whether people know: a run that they wanted to go on with goes on after the next start as well."""
    return Notes(host.journal).state(run.id, Cause.REPOSITORY) == str(host.repository)


def _tell(host: Host, run: Run) -> None:
    # What to do comes first: paths may be long, and are cut.
    reason = f"/resume goes on with it, /stop and /start_run begin another. {_strangeness(host, run)}"
    Notes(host.journal).tell(run.id, Cause.REPOSITORY, str(host.repository), reason, urgent=True)


def _choose_run(host: Host, settings: Settings, tag: str | None) -> Run:
    """Return the run of that tag, else the newest active one, else a new one."""
    if tag is None:
        active = [run for run in host.journal.active_runs() if _is_at_home(host, settings, run)]
        return active[-1] if active else host.start_run()
    run = host.journal.run(tag)
    if run is not None and run.state is RunState.STOPPED:
        raise BotError(f"Run {tag} is stopped: choose another tag.")
    return run or host.start_run(tag)
