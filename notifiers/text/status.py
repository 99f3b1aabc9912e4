"""How a run stands, in words: a message, one line of progress, a table of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import assert_never

from loop.experiment import RunState, Stage
from loop.process.summary import Progress
from loop.results.status import RunStatus
from loop.text import one_line
from notifiers.message import Button, Message
from notifiers.text.notification import card_buttons
from notifiers.text.reasons import shown_reason
from notifiers.text.words import change, duration, money, number, plural

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


_CELLS = 10
_LINE_card = 60


def card(status: RunStatus, *, zone: tzinfo) -> Message:
    """Return the card, without the line that says when it was made; no span in it grows by itself."""
    state = "pausing after this experiment" if status.state is RunState.PAUSING else status.state.value
    lines = [f"Run {status.tag}: {state}"]
    if reason := shown_reason(status.state, status.reason):
        lines[0] += f" ({one_line(reason, _LINE_card)})"
    if status.stage is not None:
        lines.append(one_line(f"Experiment #{status.experiment}: {status.description or ''}", _LINE_card))
        lines.append(_progress_card(status, zone))
    lines.append(_best_card(status, zone))
    skipped = f", {status.skipped} skipped" if status.skipped else ""
    lines.append(f"{status.keep} keep, {status.discard} discard, {status.crash} crash{skipped}")
    return Message("\n".join(lines), buttons=card_buttons(status.state), silent=True)


def bar(percent: float) -> str:
    """Return a bar as wide as ten characters."""
    full = int(max(0.0, min(100.0, percent)) * _CELLS / 100)
    return "█" * full + "░" * (_CELLS - full)


def _progress_card(status: RunStatus, zone: tzinfo) -> str:
    """Return how far the experiment has come, with a bar if the training says so."""
    progress = status.progress
    if status.stage is Stage.TRAINING and progress is not None and progress.percent is not None:
        left = progress.remaining_seconds
        parts = [f"{bar(progress.percent)} {progress.percent:.0f} %"]
        return " · ".join(parts if left is None else [*parts, f"{duration(left)} left"])
    if status.stage is Stage.TRAINING and progress is not None:
        return f"step {progress.step:,}"
    assert status.stage is not None
    since = "" if status.training_since is None else f" since {_at(status.training_since, zone)}"
    return f"{_stage_card(status.stage)}{since}"


def _stage_card(stage: Stage) -> str:
    match stage:
        case Stage.PROPOSED:
            return "proposed"
        case Stage.COMMITTED:
            return "waits for its training"
        case Stage.TRAINING:
            return "training"
        case Stage.MEASURED | Stage.EVALUATED:
            return "being judged"
        case Stage.DECIDED:
            return "decided"
        case _:
            assert_never(stage)


def _best_card(status: RunStatus, zone: tzinfo) -> str:
    if status.best is None:
        return f"No {status.metric} yet"
    best = f"Best {status.metric}: {number(status.best)}"
    if status.best_number == 0 or status.baseline is None:
        return f"{best}, the baseline"
    at = "" if status.best_at is None else f" at {_at(status.best_at, zone)}"
    return f"{best} ({change(status.baseline, status.best)}), #{status.best_number}{at}"


def _at(seconds: float, zone: tzinfo) -> str:
    return f"{datetime.fromtimestamp(seconds, zone):%H:%M}"


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
        f"Budget: {duration(plan.budget)} a training",
        f"Ideas from: {plan.proposer}",
    ]
    if plan.dirty:
        lines.append(f"Not committed, so not in the run: {', '.join(plan.dirty[:5])}")
    other = Button("Other tag", f"/start_run {plan.other_tag}")
    cancel = Button("Cancel", "/cancel")
    if plan.missing:
        lines.append(f"Missing of DATA_PATHS: {', '.join(map(str, plan.missing))}")
        lines.append(f"First run: {plan.preparation}")
        lines.append("Or set DATA_PATHS to where the data is.")
        return Message("\n".join(lines), buttons=((cancel,),))
    lines.append(f"Data: found. Press Start, or type /start_run {plan.tag} go.")
    return Message("\n".join(lines), buttons=((Button("Start", f"/start_run {plan.tag} go"), other, cancel),))
