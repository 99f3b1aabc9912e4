"""How the bot, its runs and its messages are: what the journal says, for `doctor` and `/health`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, tzinfo
from pathlib import Path

from bot.setup.doctor import Check
from loop.experiment import Actor, Cause, EventKind, Purpose, Run, RunState
from loop.machine import GpuProcess, look_at_gpus
from loop.process.liveness import Marked, find_marked
from loop.shell import own_command
from loop.store.events import Call, last_incidents, open_calls
from loop.store.evidence.repeats import trainings_under_way
from loop.store.journal import Journal
from loop.store.lanes import lanes_of
from loop.text import one_line
from notifiers.delivery.delivery import Standing, standings
from notifiers.text.words import duration, state_text

INCIDENTS = 5
_LINE = 160
_WORDS = {
    EventKind.RUN_RECOVERED: "recovered",
    EventKind.NEEDS_ATTENTION: "needs a person",
    EventKind.INTERRUPTED: "trains again",
}


def health_checks(
    journal: Journal, *, home: Path, heartbeat_minutes: float, now: float, running: bool = True
) -> tuple[Check, ...]:
    """Check the heartbeat, the runs, deliveries, the state file and the GPUs' memory.

    It asks nvidia-smi, so it may take seconds. `now` is in seconds since the epoch; `running` tells whether
    the bot is.
    """
    beat, active = _heartbeat(journal.last_beat(), heartbeat_minutes, now), journal.active_runs()
    return (
        beat if running else _without_bot(active, home),
        *(_lane(journal, run, now) for run in active),
        *(check for run in active for check in _closed_lanes(journal, run)),
        *(_call(run, call) for run in active for call in open_calls(journal, run)),
        *(_delivered(standing, now) for standing in standings(journal)),
        _state_file(journal),
        _gpu_memory(home),
    )


def incident_lines(journal: Journal, *, zone: tzinfo) -> list[str]:
    return [
        one_line(
            f"{datetime.fromtimestamp(incident.at, zone):%Y-%m-%d %H:%M} run {incident.tag} "
            f"{_WORDS[incident.kind]}: {incident.reason}",
            _LINE,
        )
        for incident in last_incidents(journal, most=INCIDENTS)
    ]


def _without_bot(active: Sequence[Run], home: Path) -> Check:
    goes_on = any(run.state in (RunState.RUNNING, RunState.PAUSING) for run in active)
    fix = f"Start the bot: {own_command('up', home)}" if goes_on else ""
    return Check("heartbeat", None if goes_on else True, "none, the bot is not running", fix)


def _heartbeat(last: float | None, minutes: float, now: float) -> Check:
    if last is None:  # the bot has just started
        return Check("heartbeat", True, "none yet")
    age = now - last
    if age < 0:
        detail = f"dated {duration(-age)} in the future: the clock was set back"
        return Check("heartbeat", None, detail, "Wait for the next one.")
    late = age - 60 * minutes
    detail = f"{duration(age)} ago, {f'{duration(late)} late' if late > 0 else 'on time'}"
    if late < 60 * minutes:  # one beat may be missed
        return Check("heartbeat", True, detail)
    return Check("heartbeat", None, detail, "See bot.log in the state directory.")


def _lane(journal: Journal, run: Run, now: float) -> Check:
    training = [
        f"{'a repeat of ' * (training.purpose is Purpose.REPEAT)}#{number}"
        f"{f' on {training.device}' if training.device else ''} for "
        f"{duration(now - (training.started_at or now))}"
        for number, training, _ in trainings_under_way(journal, run.id)
    ]
    doing = f"trains {', '.join(training)}" if training else state_text(run.state, run.reason)
    waits = run.is_paused and run.state_by in (Actor.HEARTBEAT, Actor.LOOP)  # for a person to fix its reason
    return Check("lane", not waits, one_line(f"{run.tag} {doing}", _LINE))


def _closed_lanes(journal: Journal, run: Run) -> Iterator[Check]:
    for lane in lanes_of(journal, run.id):
        if lane.closed:
            detail = one_line(f"{run.tag} does not use {lane.device}: {lane.closed}", _LINE)
            shows = "ray status shows the nodes" if lane.cause is Cause.NODE else "nvidia-smi shows the GPU"
            yield Check("lane", False, detail, f"It goes on with the other lanes; {shows}.")


def loop_check(run: Run, error: str) -> Check:
    return Check("loop", False, one_line(f"{run.tag} failed and will be restarted: {error}", _LINE))


def _call(run: Run, call: Call) -> Check:
    return Check("needs you", None, one_line(f"run {run.tag}: {call.reason}", _LINE))


def _delivered(standing: Standing, now: float) -> Check:
    last, waiting = standing.last, f"{standing.waiting:,} undelivered"
    if (trouble := last.trouble) is not None:
        since = f"none delivered for {duration(now - trouble.since)}: {one_line(trouble.reason, _LINE)}"
        return Check(last.channel, False, f"{waiting}, {since}")
    if last.told_at is not None:
        return Check(last.channel, True, f"{waiting}, last delivery {duration(now - last.told_at)} ago")
    if standing.waiting or last.refused:
        return Check(last.channel, None, f"{waiting}, nothing was ever delivered")
    return Check(last.channel, True, "nothing to deliver yet")


def _state_file(journal: Journal) -> Check:
    path, blocked = journal.path, journal.blocked
    if blocked is not None:
        since = datetime.fromtimestamp(blocked.since).astimezone()
        detail = f"not writable since {since:%H:%M}, as {blocked.cause}"
        return Check("state file", False, detail, f"{blocked.fix.capitalize()}.")
    size = sum(file.stat().st_size for file in (path, path.with_name(f"{path.name}-wal")) if file.exists())
    return Check("state file", True, f"{path}, {size / 1e6:.1f} MB")


def _gpu_memory(home: Path) -> Check:
    name = "GPU memory"
    state = look_at_gpus()
    if state is None:
        return Check(name, True, "unknown: no nvidia-smi")
    marked = find_marked(home)
    held = [_process(process, marked) for process in state.processes]
    free = ", ".join(f"{gpu.free_mb / 1024:.1f}" for gpu in state.gpus if gpu.free_mb is not None)
    return Check(name, True, "; ".join((f"{free or '?'} GB free", *held)))


def _process(process: GpuProcess, marked: Collection[Marked]) -> str:
    ours = any(found.process.pid == process.pid for found in marked)
    memory = "?" if process.memory_mb is None else f"{process.memory_mb / 1024:.1f}"
    return f"{process.name} (pid {process.pid}{', ours' if ours else ''}) {memory} GB"
