"""How a run stands, in words: `/status`, the live card, a line of progress, the runs, a new run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import assert_never

from loop.experiment import RunState, Stage
from loop.process.progress import Progress
from loop.results.status import RunStatus
from loop.text import one_line
from notifiers.message import Button, Message
from notifiers.text.notification import card_buttons
from notifiers.text.reasons import reason_text
from notifiers.text.words import change, duration, money, number, plural

_LINE = 60  # characters of a description in one line
_REASON = 300
_CELLS = 10
_ENOUGH = 5  # experiments from which a rate means something


def status_message(status: RunStatus, *, now: float, zone: tzinfo, lacks: str = "") -> Message:
    """Return the answer to `/status`; `lacks` says why there is no proposal to train next."""
    lines = _lines(status, zone, lacks)
    if status.dollars:
        lines.append(f"{money(status.dollars)} for models")
    last = [f"Started {datetime.fromtimestamp(status.started_at, zone):%Y-%m-%d %H:%M}"]
    hours = (now - status.started_at) / 3600
    if status.state is RunState.RUNNING and status.experiments >= _ENOUGH and hours > 0:
        last.append(f"{status.experiments / hours:.1f} experiments per hour")
    if status.heartbeat_at is not None:
        last.append(f"heartbeat {duration(now - status.heartbeat_at)} ago")
    return Message("\n".join([*lines, " · ".join(last)]))


def card(status: RunStatus, *, zone: tzinfo) -> Message:
    """Return the live card, without the line that says when it was made; no span in it grows by itself."""
    return Message("\n".join(_lines(status, zone)), buttons=card_buttons(status.state), silent=True)


def progress_line(status: RunStatus, *, zone: tzinfo, lacks: str = "") -> str:
    """Return the training under way in one line, or why there is no proposal for one; else nothing."""
    if status.stage is Stage.TRAINING:
        return f"#{status.experiment} {_description(status)} · {_progress(status, zone)}"
    return _waiting(status, lacks)


def runs_message(statuses: Sequence[RunStatus], *, zone: tzinfo) -> Message:
    if not statuses:
        return Message("There is no run yet. Start one with /start_run.")
    lines = [
        f"{status.tag}  {status.state}  {plural(status.experiments, 'experiment')}  "
        f"{'-' if status.best is None else number(status.best)}  "
        f"{datetime.fromtimestamp(status.started_at, zone):%Y-%m-%d}"
        for status in statuses
    ]
    return Message(plural(len(statuses), "run"), "\n".join(lines))


def _lines(status: RunStatus, zone: tzinfo, lacks: str = "") -> list[str]:
    lines = [_state(status)]
    if status.stage is not None:
        lines.append(f"Experiment #{status.experiment}: {_description(status)}")
        lines.append(_progress(status, zone))
    elif waiting := _waiting(status, lacks):
        lines.append(waiting)
    skipped = f", {status.skipped} skipped" if status.skipped else ""
    counts = f"{status.keep} keep, {status.discard} discard, {status.crash} crash{skipped}"
    return [*lines, _best(status, zone), counts]


def _state(status: RunStatus) -> str:
    state = "pausing after this experiment" if status.state is RunState.PAUSING else status.state.value
    reason = "" if status.state is RunState.RUNNING else one_line(reason_text(status.reason), _LINE)
    return f"Run {status.tag}: {state}{f' ({reason})' if reason else ''}"


def _description(status: RunStatus) -> str:
    return one_line(status.description or "", _LINE)


def _waiting(status: RunStatus, lacks: str) -> str:
    if not lacks or status.stage is not None or status.state is not RunState.RUNNING:
        return ""
    return f"Waiting for a proposal: {one_line(lacks, _REASON)}"


def _progress(status: RunStatus, zone: tzinfo) -> str:
    """Return how far the experiment under way has come, with a bar if the training says so."""
    assert status.stage is not None
    if status.progress is not None:
        return _bar_and_numbers(status.progress)
    since = "" if status.training_since is None else f" since {_time(status.training_since, zone)}"
    return f"{_stage(status.stage)}{since}"


def _bar_and_numbers(progress: Progress) -> str:
    parts = [f"step {progress.step:,}"]
    if progress.percent is not None:
        parts.insert(0, f"{bar(progress.percent)} {progress.percent:.0f} %")
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    if progress.remaining_seconds is not None:
        parts.append(f"{duration(progress.remaining_seconds)} left")
    return " · ".join(parts)


def bar(percent: float) -> str:
    full = int(max(0.0, min(100.0, percent)) * _CELLS / 100)
    return "█" * full + "░" * (_CELLS - full)


def _stage(stage: Stage) -> str:
    match stage:
        case Stage.PROPOSED:
            return "proposed"
        case Stage.COMMITTED:
            return "waiting to train"
        case Stage.TRAINING:
            return "training"
        case Stage.MEASURED | Stage.EVALUATED:
            return "being evaluated"
        case Stage.DECIDED:
            return "decided"
        case _:
            assert_never(stage)


def _best(status: RunStatus, zone: tzinfo) -> str:
    if status.best is None:
        return f"No {status.metric} yet"
    best = f"Best {status.metric}: {number(status.best)}"
    if status.best_number == 0 or status.baseline is None:
        return f"{best}, the baseline"
    at = "" if status.best_at is None else f" at {_time(status.best_at, zone)}"
    return f"{best} ({change(status.baseline, status.best)}), #{status.best_number}{at}"


def _time(seconds: float, zone: tzinfo) -> str:
    return f"{datetime.fromtimestamp(seconds, zone):%m-%d %H:%M}"


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run that could be started.

    `missing` are the data paths that do not exist, `preparation` what to type to make them; `budget` is in
    seconds.
    """

    tag: str
    other_tag: str
    repository: Path
    base_branch: str
    base_commit: str
    subject: str
    dirty: tuple[str, ...]
    missing: tuple[Path, ...]
    preparation: str
    device: str
    budget: float
    proposer: str


def start_card(plan: RunPlan) -> Message:
    """Return the answer to `/start_run`, with the buttons that start it."""
    lines = [
        f"Start run {plan.tag}?",
        f"Repository: {plan.repository}",
        f"Base: {plan.base_branch} at {plan.base_commit[:7]}, {plan.subject}",
        f"Branch: autoresearch/{plan.tag}",
        f"Device: {plan.device}",
        f"Budget: {duration(plan.budget)} per training",
        f"Ideas from: {plan.proposer}",
    ]
    if plan.dirty:
        lines.append(f"Uncommitted, so not part of the run: {', '.join(plan.dirty[:5])}")
    cancel = Button("Cancel", "/cancel")
    start = f"/start_run {plan.tag} go"
    if plan.missing:
        lines.append(f"Missing data: {', '.join(map(str, plan.missing))} (from DATA_PATHS)")
        lines.append(f"Run this first: {plan.preparation}")
        lines.append("Or set DATA_PATHS to where the data is.")
        return Message("\n".join(lines), buttons=((cancel,),))
    lines.append(f"Press Start or send {start}.")
    other = Button("Other tag", f"/start_run {plan.other_tag}")
    return Message("\n".join(lines), buttons=((Button("Start", start), other, cancel),))
