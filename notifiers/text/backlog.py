"""One message about many events: after an outage, in the morning, or of every N experiments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import assert_never

from loop.experiment import Experiment, Status
from loop.text import one_line
from notifiers.message import Message
from notifiers.text.notification import Notification, summary_buttons
from notifiers.text.words import change, number, period, plural

_LINES = 6  # of either kind: the message fits a phone's screen
_LINE = 60


def backlog_message(news: Sequence[Notification], *, title: str, zone: tzinfo) -> Message:
    """Return what `news`, in order, comes to: its counts, the best, and what else happened."""
    parts = []
    for run_id in dict.fromkeys(item.run.id for item in news):
        of_run = [item for item in news if item.run.id == run_id]
        lines = [f"{title}: {_counts(of_run)}", *_best(of_run), *_events(of_run, zone)]
        span = period(of_run[0].event.at, of_run[-1].event.at, zone)
        parts.append("\n".join([*lines, f"{span} · run {of_run[0].run.tag}"]))
    return Message("\n\n".join(parts), buttons=summary_buttons(news[-1].run.state))


def group_message(news: Sequence[Notification]) -> Message:
    """Return one message in the place of several digests of one run or more."""
    parts = []
    for run_id in dict.fromkeys(item.run.id for item in news):
        of_run = [item for item in news if item.run.id == run_id]
        numbers = [experiment.number for experiment in _experiments(of_run)]
        title = f"Experiments #{min(numbers)} – #{max(numbers)}"
        if len(numbers) == 1:
            title = f"Experiment #{numbers[0]}"
        lines = [f"{title}: {_statuses(of_run)}", *_best(of_run), *_kept(of_run), f"run {of_run[0].run.tag}"]
        parts.append("\n".join(lines))
    return Message("\n\n".join(parts), buttons=summary_buttons(news[-1].run.state))


def _experiments(news: Sequence[Notification]) -> list[Experiment]:
    return [item.experiment for item in news if item.experiment is not None]


def _counts(news: Sequence[Notification]) -> str:
    digests = _experiments(news)
    if not digests:
        return plural(len(news), "message")
    return f"{plural(len(digests), 'experiment')}, {_statuses(news)}"


def _statuses(news: Sequence[Notification]) -> str:
    counts = Counter(experiment.status for experiment in _experiments(news))
    return ", ".join(f"{counts[status]:,} {_word(status)}" for status in Status if counts[status])


def _word(status: Status) -> str:
    match status:
        case Status.KEEP:
            return "kept"
        case Status.DISCARD:
            return "discarded"
        case Status.CRASH:
            return "crashed"
        case Status.SKIP:
            return "skipped"
        case _:
            assert_never(status)


def _best(news: Sequence[Notification]) -> list[str]:
    """Return the line about the best value, before all of this and after."""
    digests = _experiments(news)
    kept = [experiment for experiment in digests if experiment.status is Status.KEEP]
    before = digests[0].best_before if digests else None
    metric = news[0].run.metric
    if not kept or kept[-1].value is None:
        return [] if before is None else [f"Best {metric}: {number(before)}, as before"]
    best = kept[-1].value
    if before is None:
        return [f"Best {metric}: {number(best)} (#{kept[-1].number})"]
    return [f"Best {metric}: {number(before)} → {number(best)} ({change(before, best)}, #{kept[-1].number})"]


def _kept(news: Sequence[Notification]) -> list[str]:
    lines = []
    for experiment in _experiments(news):
        if experiment.status is Status.KEEP and experiment.value is not None:
            before = experiment.best_before
            gain = "" if before is None else f" {change(before, experiment.value)}"
            lines.append(one_line(f"#{experiment.number}{gain} {experiment.description}", _LINE))
    return _few(lines)


def _events(news: Sequence[Notification], zone: tzinfo) -> list[str]:
    """Return a line, with its time, for each event that is no digest."""
    lines = [
        f"{datetime.fromtimestamp(item.event.at, zone):%H:%M} {item.message.text.splitlines()[0]}"
        for item in news
        if not item.is_digest
    ]
    return _few([one_line(line, 2 * _LINE) for line in lines])


def _few(lines: list[str]) -> list[str]:
    """Return the last of many lines, and how many came before."""
    if len(lines) <= _LINES:
        return lines
    return [f"({len(lines) - _LINES} earlier)", *lines[-_LINES:]]
