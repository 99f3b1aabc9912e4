"""How the bot and its machine have been: for `/health` and `autoresearch doctor`, bot running or not."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, tzinfo
from pathlib import Path

from bot.setup.doctor import Check, render
from loop.experiment import EventKind, Run, Stage
from loop.process.liveness import Marked, find_marked
from loop.process.machine import GpuProcess, look_at_gpus
from loop.store.events import last_incidents
from loop.store.journal import Journal
from loop.text import one_line
from notifiers.delivery.delivery import Standing, standings
from notifiers.text.reasons import state_text
from notifiers.text.words import duration

INCIDENTS = 5
_LINE = 160
_WAIT = "Wait for the next one, or look whether the bot runs: autoresearch up"
_WORDS = {
    EventKind.RUN_RECOVERED: "recovered",
    EventKind.NEEDS_ATTENTION: "needs a person",
    EventKind.INTERRUPTED: "trains again",
}


def health_lines(
    journal: Journal, *, home: Path, heartbeat_minutes: float, now: float, zone: tzinfo
) -> list[str]:
    """Return the checks and the last incidents, a line each; asks nvidia-smi, so it may take seconds."""
    checks = health_checks(journal, home=home, heartbeat_minutes=heartbeat_minutes, now=now)
    return [*render(checks).splitlines(), *incident_lines(journal, zone=zone)]


def health_checks(journal: Journal, *, home: Path, heartbeat_minutes: float, now: float) -> tuple[Check, ...]:
    """Look at the heartbeat, the runs, what waits to be told, the state file and the GPUs' memory.

    `now` is in seconds since the epoch.
    """
    return (
        _heartbeat(journal.last_beat(), heartbeat_minutes, now),
        *(_lane(journal, run, now) for run in journal.active_runs()),
        *(_told(standing, now) for standing in standings(journal)),
        _state_file(journal.path),
        _gpu_memory(home),
    )


def incident_lines(journal: Journal, *, zone: tzinfo, last: int = INCIDENTS) -> list[str]:
    """Return what went wrong or was put in order lately, the newest last."""
    return [
        one_line(
            f"{datetime.fromtimestamp(incident.at, zone):%Y-%m-%d %H:%M} run {incident.tag} "
            f"{_WORDS[incident.kind]}: {incident.reason}",
            _LINE,
        )
        for incident in last_incidents(journal, most=last)
    ]


def _heartbeat(last: float | None, minutes: float, now: float) -> Check:
    if last is None:
        return Check("heartbeat", None, "none yet", "Start the bot: autoresearch up")
    age = now - last
    if age < 0:
        detail = f"by the clock only in {duration(-age)}: the clock was set back"
        return Check("heartbeat", None, detail, _WAIT)
    late = age - 60 * minutes
    detail = f"{duration(age)} ago, {f'{duration(late)} late' if late > 0 else 'on time'}"
    if late < 60 * minutes:  # one beat may be missed
        return Check("heartbeat", True, detail)
    return Check("heartbeat", None, detail, "Look whether the bot runs: autoresearch up")


def _lane(journal: Journal, run: Run, now: float) -> Check:
    """Say what trains on this machine's lanes for a run, or what the run does instead."""
    training = [
        f"#{experiment.number} for {duration(now - experiment.started_at)}"
        for experiment in journal.undecided(run.id)
        if experiment.stage is Stage.TRAINING and experiment.started_at is not None
    ]
    doing = f"trains {', '.join(training)}" if training else state_text(run.state, run.reason)
    return Check("lane", True, one_line(f"{run.tag} {doing}", _LINE))


def _told(standing: Standing, now: float) -> Check:
    told = "never told" if standing.told_at is None else f"last told {duration(now - standing.told_at)} ago"
    return Check(standing.channel, True, f"{standing.waiting:,} undelivered, {told}")


def _state_file(path: Path) -> Check:
    size = sum(file.stat().st_size for file in (path, path.with_name(f"{path.name}-wal")) if file.exists())
    return Check("state file", True, f"{path}, {size / 1e6:.1f} MB")


def _gpu_memory(home: Path) -> Check:
    name = "GPU memory"
    state = look_at_gpus()
    if state is None:
        return Check(name, True, "not known without nvidia-smi")
    marked = find_marked(home)
    held = [_process(process, marked) for process in state.processes]
    free = ", ".join(f"{gpu.free_mb / 1024:.1f}" for gpu in state.gpus if gpu.free_mb is not None)
    return Check(name, True, "; ".join((f"{free or '?'} GB free", *held)))


def _process(process: GpuProcess, marked: Collection[Marked]) -> str:
    ours = any(found.process.pid == process.pid for found in marked)
    memory = "?" if process.memory_mb is None else f"{process.memory_mb / 1024:.1f}"
    return f"{process.name} (pid {process.pid}{', ours' if ours else ''}) {memory} GB"
