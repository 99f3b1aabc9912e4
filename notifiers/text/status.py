"""How a run stands, in words: a message, one line of progress, a table of runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import assert_never

from loop.experiment import RunState, Stage
from loop.process.progress import Progress
from loop.results.status import RunStatus
from loop.text import one_line
from notifiers.message import Message
from notifiers.reasons import shown_reason
from notifiers.text.words import duration, money, number, plural

_LINE = 60  # characters of a description in one line
_REASON = 300


def status_message(status: RunStatus, *, now: float, zone: tzinfo, lacks: str = "") -> Message:
    """Return the answer to `/status`.

    `now` is in seconds since the epoch, `lacks` why there is no idea of what to train next.
    """
    lines = [_state(status)]
    if status.stage is not None:
        description = one_line(status.description or "", _LINE)
        lines.append(f"Experiment #{status.experiment} {_stage(status.stage)}: {description}")
        lines.extend(_training(status, now))
    elif lacks and status.state is RunState.RUNNING:
        lines.append(_without_idea(lacks))
    lines.append(_best(status, now))
    lines.append(_counts(status, now))
    if status.dollars:
        lines.append(f"{money(status.dollars)} for models")
    lines.append(f"Started {datetime.fromtimestamp(status.started_at, zone):%Y-%m-%d %H:%M}")
    if status.heartbeat_at is not None:
        lines[-1] += f" · heartbeat {duration(now - status.heartbeat_at)} ago"
    return Message("\n".join(lines))


def progress_line(status: RunStatus, *, now: float, lacks: str = "") -> str:
    """Return the experiment under way in one line, or why there is no idea for one; else nothing."""
    if status.stage is not Stage.TRAINING:
        waits = status.stage is None and status.state is RunState.RUNNING
        return _without_idea(lacks) if lacks and waits else ""
    description = one_line(status.description or "", _LINE)
    return " · ".join([f"#{status.experiment} {description}", *_training(status, now)])


def runs_message(statuses: Sequence[RunStatus], *, zone: tzinfo) -> Message:
    """Return the answer to `/runs`, the newest last."""
    if not statuses:
        return Message("There is no run yet: start one with /start_run.")
    lines = [
        f"{status.tag}  {status.state}  {plural(status.experiments, 'experiment')}  "
        f"{'-' if status.best is None else number(status.best)}  "
        f"{datetime.fromtimestamp(status.started_at, zone):%Y-%m-%d}"
        for status in statuses
    ]
    return Message(plural(len(statuses), "run"), "\n".join(lines))


def _state(status: RunStatus) -> str:
    state = "pausing after this experiment" if status.state is RunState.PAUSING else status.state.value
    reason = shown_reason(status.state, status.reason)
    return f"Run {status.tag}: {state}{f' ({one_line(reason, _LINE)})' if reason else ''}"


def _stage(stage: Stage) -> str:
    match stage:
        case Stage.PROPOSED:
            return "is proposed"
        case Stage.COMMITTED:
            return "is about to train"
        case Stage.TRAINING:
            return "is training"
        case Stage.MEASURED | Stage.EVALUATED:
            return "is being judged"
        case Stage.DECIDED:
            return "is decided"
        case _:
            assert_never(stage)


def _without_idea(reason: str) -> str:
    return f"No idea yet: {one_line(reason, _REASON)}"


def _training(status: RunStatus, now: float) -> list[str]:
    if status.progress is not None:
        return [_progress(status.progress)]
    if status.training_since is not None:
        return [f"started {duration(now - status.training_since)} ago"]
    return []


def _progress(progress: Progress) -> str:
    parts = []
    if progress.step is not None:
        parts.append(f"step {progress.step:,}")
    if progress.percent is not None:
        parts.append(f"{progress.percent:.0f} %")
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    if progress.remaining_seconds is not None:
        parts.append(f"{duration(progress.remaining_seconds)} left")
    return " · ".join(parts)


def _best(status: RunStatus, now: float) -> str:
    if status.best is None:
        return f"No {status.metric} yet"
    best = f"Best {status.metric}: {number(status.best)}"
    if status.best_number == 0 or status.baseline is None:
        return f"{best}, the baseline"
    since = f", {duration(now - status.best_at)} ago" if status.best_at is not None else ""
    return f"{best} (#{status.best_number}{since}), from {number(status.baseline)}"


def _counts(status: RunStatus, now: float) -> str:
    counts = f"{status.keep} keep, {status.discard} discard, {status.crash} crash"
    if status.skipped:
        counts += f", {status.skipped} skipped"
    hours = (now - status.started_at) / 3600
    if status.experiments > 1 and hours > 0:
        counts += f" · {status.experiments / hours:.1f} an hour"
    return counts
