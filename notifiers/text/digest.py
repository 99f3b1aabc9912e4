"""What is said about one experiment, and about one event of a run."""

from __future__ import annotations

from typing import assert_never

from loop.experiment import Cost, Event, EventKind, Experiment, Goal, Run, RunState, Status
from loop.text import one_line
from notifiers.message import Message
from notifiers.text.reasons import reason_in, reason_text
from notifiers.text.words import change, duration, money, number

_DESCRIPTION = 160  # characters: with the limits of the others a digest fits a picture's caption
_SENTENCE = 240


def digest(experiment: Experiment, *, run: Run) -> Message:
    """Return the message about a decided experiment.

    Its first three lines have a fixed form: what was tried, what it did to the metric, the status.

    Raises:
        ValueError: it has no verdict yet.
    """
    if experiment.status is None:
        raise ValueError(f"experiment {experiment.number} is not decided")
    description = one_line(experiment.description, _DESCRIPTION) or "no description"
    lines = [
        f"Experiment #{experiment.number}: {description}",
        f"{run.metric}: {_change(experiment)}",
        f"Status: {experiment.status}",
    ]
    reason = one_line(experiment.reason, _SENTENCE)
    if experiment.status is Status.CRASH:
        error = _last_line(experiment.error)
        lines += [reason, error] if experiment.cause == experiment.reason else [error, reason]
    else:
        lines.append(reason)
    lines.append(" · ".join(_costs(experiment)))
    lines.append(" · ".join(_origin(experiment)))
    lines.append(" · ".join((*_size(experiment), f"run {run.tag}")))
    return Message("\n".join(filter(None, lines)))


def message_of(event: Event, run: Run, experiment: Experiment | None = None) -> Message | None:
    """Return the message about an event, None for one that says nothing to people.

    `experiment` is the one that the event tells of, if it tells of one.
    """
    reason = one_line(_reason(event), _SENTENCE)
    match event.kind:
        case EventKind.DECIDED:
            return digest(experiment, run=run) if experiment else None
        case EventKind.RUN_STARTED:
            return _started(run)
        case EventKind.RUN_STATE:
            return _turned(run, RunState(str(event.data["state"])), reason)
        case EventKind.INTERRUPTED:
            again = _because(f"Experiment #{event.number} will be trained again", reason)
            return Message(again) if event.data.get("vanished") else None
        case EventKind.RUN_RETAGGED:
            new = event.data["new"]
            return Message(f"Run {event.data['old']} is now {new}\nBranch: autoresearch/{new}")
        case EventKind.WAKE_UP:
            return Message(f"Good morning: /summary tells what run {run.tag} brought")
        case EventKind.NOTED | EventKind.RUN_RECOVERED | EventKind.NEEDS_ATTENTION:
            more = {EventKind.RUN_RECOVERED: " goes on again", EventKind.NEEDS_ATTENTION: " needs a person"}
            return Message(_because(f"Run {run.tag}{more.get(event.kind, '')}", reason))
        case (
            EventKind.RESOLVED
            | EventKind.RESTED
            | EventKind.PROPOSED
            | EventKind.COMMITTED
            | EventKind.TRAINING
            | EventKind.SKIP_REQUESTED
            | EventKind.MEASURED
            | EventKind.EVALUATED
        ):
            return None
        case _:
            assert_never(event.kind)


def _turned(run: Run, state: RunState, reason: str) -> Message | None:
    match state:
        case RunState.RUNNING:
            does = "goes on"
        case RunState.PAUSING:
            return None  # that it is paused is said when it is
        case RunState.PAUSED:
            does = "is paused"
        case RunState.DONE:
            does = "is done"
        case RunState.STOPPED:
            does = "is stopped"
        case _:
            assert_never(state)
    return Message(_because(f"Run {run.tag} {does}", reason))


def _started(run: Run) -> Message:
    better = "lower" if run.goal is Goal.MINIMIZE else "higher"
    return Message(
        f"Run {run.tag} started\n"
        f"Repository: {run.repository}\n"
        f"Branch: {run.branch}, from {run.base_branch} at {run.base_commit[:7]}\n"
        f"Goal: {better} {run.metric}, {duration(run.time_budget)} a training"
    )


def _reason(event: Event) -> str:
    """Return why something happened: of a new state its facts as a clause, of all else the clause it has."""
    facts = reason_in(event.data) if event.kind is EventKind.RUN_STATE else None
    return str(event.data.get("reason", "")) if facts is None else reason_text(facts)


def _because(sentence: str, reason: str) -> str:
    return f"{sentence}: {reason}" if reason else sentence


def _change(experiment: Experiment) -> str:
    """Return `before → after (change)`, or what there is of it."""
    before, value = experiment.best_before, experiment.value
    if experiment.status is Status.CRASH:
        after = "crash"
    elif experiment.status is Status.SKIP:
        after = "skipped"
    elif value is None:
        after = "no number"
    elif before is None:
        return f"{number(value)} ({'baseline' if experiment.number == 0 else 'the first'})"
    else:
        after = f"{number(value)} ({change(before, value)})"
    return after if before is None else f"{number(before)} → {after}"


def _last_line(error: str) -> str:
    lines = [line for line in map(str.strip, error.splitlines()) if line]
    return one_line(lines[-1], _SENTENCE) if lines else ""


def _costs(experiment: Experiment) -> list[str]:
    """Return what the experiment took: time, the training's part of it, memory, attempts."""
    costs = []
    training = experiment.training_seconds
    if experiment.started_at is not None and experiment.ended_at is not None:
        costs.append(duration(experiment.ended_at - experiment.started_at))
    if training is not None:
        costs.append(f"training {duration(training)}")
    if experiment.memory_gb:
        costs.append(f"{experiment.memory_gb:.1f} GB")
    if experiment.attempt > 1:
        costs.append(f"attempt {experiment.attempt}")
    return costs


def _origin(experiment: Experiment) -> list[str]:
    """Return of what family the idea is, and what its models cost."""
    family = [experiment.family.value] if experiment.family else []
    cost = experiment.cost
    if cost is None or cost == Cost():
        return family
    if cost.dollars is None:
        return [*family, f"{cost.tokens:,} tokens"] if cost.tokens else family
    return [*family, money(cost.dollars)] if cost.dollars else family


def _size(experiment: Experiment) -> list[str]:
    added, removed = experiment.lines_added, experiment.lines_removed
    return [f"+{added} −{removed} lines"] if added or removed else []
