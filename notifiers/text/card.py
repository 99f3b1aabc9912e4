"""The live card: one message a run and channel that always shows how the run stands."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import assert_never

from loop.experiment import RunState, Stage
from loop.results.status import RunStatus
from loop.text import one_line
from notifiers.message import Message
from notifiers.reasons import shown_reason
from notifiers.text.buttons import card_buttons
from notifiers.text.words import change, duration, number

_CELLS = 10
_LINE = 60


def card(status: RunStatus, *, zone: tzinfo) -> Message:
    """Return the card, without the line that says when it was made; no span in it grows by itself."""
    state = "pausing after this experiment" if status.state is RunState.PAUSING else status.state.value
    lines = [f"Run {status.tag}: {state}"]
    if reason := shown_reason(status.state, status.reason):
        lines[0] += f" ({one_line(reason, _LINE)})"
    if status.stage is not None:
        lines.append(one_line(f"Experiment #{status.experiment}: {status.description or ''}", _LINE))
        lines.append(_progress(status, zone))
    lines.append(_best(status, zone))
    skipped = f", {status.skipped} skipped" if status.skipped else ""
    lines.append(f"{status.keep} keep, {status.discard} discard, {status.crash} crash{skipped}")
    return Message("\n".join(lines), buttons=card_buttons(status.state), silent=True)


def bar(percent: float) -> str:
    """Return a bar as wide as ten characters."""
    full = int(max(0.0, min(100.0, percent)) * _CELLS / 100)
    return "█" * full + "░" * (_CELLS - full)


def _progress(status: RunStatus, zone: tzinfo) -> str:
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
    return f"{_stage(status.stage)}{since}"


def _stage(stage: Stage) -> str:
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


def _best(status: RunStatus, zone: tzinfo) -> str:
    if status.best is None:
        return f"No {status.metric} yet"
    best = f"Best {status.metric}: {number(status.best)}"
    if status.best_number == 0 or status.baseline is None:
        return f"{best}, the baseline"
    at = "" if status.best_at is None else f" at {_at(status.best_at, zone)}"
    return f"{best} ({change(status.baseline, status.best)}), #{status.best_number}{at}"


def _at(seconds: float, zone: tzinfo) -> str:
    return f"{datetime.fromtimestamp(seconds, zone):%H:%M}"
