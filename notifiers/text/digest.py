"""The messages about events: a digest of one experiment or of several, a sentence about anything else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any, assert_never

from loop.evaluation.noise import Noise
from loop.evidence import Invalidated, Wish
from loop.experiment import Cost, Ending, Event, EventKind, Experiment, Family, Goal, Run, RunState, Status
from loop.gain import change, number
from loop.text import one_line
from notifiers.message import Message
from notifiers.text.certainty import certainty_text, sureness
from notifiers.text.notification import Notification, summary_buttons
from notifiers.text.words import (
    capital,
    changes_in,
    duration,
    family_text,
    money,
    period,
    plural,
    reason_in,
    state_text,
)

_DESCRIPTION = 240  # characters: with the limits of the others a digest fits a picture's caption
_SENTENCE = 240
_DOUBT = 100
_DOUBTS = 4  # that are shown
_LOCK_SCREEN, _FIRST_LINE = 60, 80
_NAMED = 2  # changes of constants that the first line names, where it has no room for all
_LINE = 60
_LINES = 6  # of either kind in a summary: it fits a phone's screen


def digest(experiment: Experiment, *, run: Run, noise: Noise | None = None) -> Message:
    """Return the message about a decided experiment; `noise` is the run's.

    Its first three lines have a fixed form: what was tried, what it did to the metric, the status.

    Raises:
        ValueError: it has no verdict yet.
    """
    if experiment.status is None:
        raise ValueError(f"experiment {experiment.number} is not decided")
    description = one_line(experiment.description, _DESCRIPTION)
    reason = one_line(experiment.reason, _SENTENCE)
    added, removed = experiment.lines_added, experiment.lines_removed
    why = [reason]
    if experiment.status is Status.CRASH:
        error = _last_line(experiment.error)
        why = [reason, error] if experiment.cause == experiment.reason else [error, reason]
    if experiment.ending is Ending.DEADLINE:
        why.append(f"Raise DEADLINE_MINUTES, or see what it did: /log {experiment.number}")
    lines = [
        *_head(experiment, run),
        sureness(experiment, noise, run.goal),
        "" if description in _head(experiment, run)[0] else description,
        *why,
        *_doubts(experiment),
        " · ".join(_costs(experiment)),
        " · ".join(_origin(experiment)),
        " · ".join((*([f"+{added} −{removed} lines"] if added or removed else []), f"run {run.tag}")),
    ]
    return Message("\n".join(filter(None, lines)))


def _head(experiment: Experiment, run: Run) -> tuple[str, str, str]:
    """Return the three lines that every message about an experiment has."""
    title = _title(experiment.number, one_line(experiment.description, _DESCRIPTION) or "no description")
    return title, f"{run.metric}: {_change(experiment)}", f"Status: {experiment.status}"


def _doubts(experiment: Experiment) -> list[str]:
    """Return what speaks against the number, a line each; what the reason says already is left out."""
    said = experiment.invalidated is Invalidated.NOT_BELIEVED
    lines = [] if said else [*experiment.doubts]
    lines += [f"line {found.line}: {found.message}" for found in experiment.findings]
    more = len(lines) - _DOUBTS
    shown = lines[: _DOUBTS if more > 0 else None]
    return [*(one_line(line, _DOUBT) for line in shown), *([f"and {more} more"] if more > 0 else [])]


def _title(index: int, description: str) -> str:
    """Return the first line, as long as a lock screen shows: of many constants two are named."""
    title = f"Experiment #{index}: {description}"
    changes = changes_in(description)
    of_constants = all(" → " in each for each in changes[:-1])  # the last may be cut
    if len(title) > _LOCK_SCREEN and len(changes) > _NAMED and of_constants:
        names = ", ".join(each.partition(" ")[0] for each in changes[:_NAMED])
        title = f"Experiment #{index}: {names} and {len(changes) - _NAMED} more"
    return one_line(title, _FIRST_LINE)


def message_of(event: Event, run: Run, experiment: Experiment | None = None) -> Message:
    """Return the message about an event that has a topic; `experiment` is the one that it decided.

    Raises:
        ValueError: people are not told of such an event.
    """
    if event.kind is EventKind.DECIDED and experiment is not None:
        known = event.data.get("noise")
        return digest(experiment, run=run, noise=Noise(*known) if isinstance(known, list) else None)
    return Message(_sentence(event, run))


_PREDICATES = {
    EventKind.NOTED: "",
    EventKind.RUN_RECOVERED: " recovered",
    EventKind.NEEDS_ATTENTION: " needs you",
    EventKind.REMINDED: " still needs you",
}


def _sentence(event: Event, run: Run) -> str:
    data, number = event.data, event.number or 0
    reason = one_line(str(data.get("reason", "")), _SENTENCE)
    match event.kind:
        case EventKind.RUN_STARTED:
            return started_text(run, _list(data.get("remarks", [])))
        case EventKind.RUN_STATE:
            return f"Run {run.tag} {_turn(data)}"
        case EventKind.INTERRUPTED:
            return _because(f"Experiment #{number} will be trained again", reason)
        case (
            EventKind.REPEATED
            | EventKind.REPEAT_GIVEN_UP
            | EventKind.REPEAT_PUT_BACK
            | EventKind.CERTIFIED
            | EventKind.PRUNED
        ):
            return certainty_text(event, run)
        case EventKind.ACCEPTED | EventKind.REJECTED:
            return corrected_text(event.kind, number, _list(data["retried"]), name=str(data["name"]))
        case EventKind.WISHED:
            return wish_text(number, Wish(str(data["wish"])) if data["wish"] else None, str(data["name"]))
        case EventKind.RUN_RETAGGED:
            return retagged_text(str(data["old"]), str(data["new"]))
        case EventKind.WAKE_UP:
            return f"Good morning. /summary reports on run {run.tag}"
        case EventKind.NOTED | EventKind.RUN_RECOVERED | EventKind.NEEDS_ATTENTION | EventKind.REMINDED:
            return _because(f"Run {run.tag}{_PREDICATES[event.kind]}", reason)
        case _:
            raise ValueError(f"no message about {event.kind}")


def _list(value: object) -> list[Any]:
    assert isinstance(value, list)
    return value


def corrected_text(kind: EventKind, number: int, retried: Sequence[int], *, name: str = "") -> str:
    """Return what became of a result by the decision of a person."""
    by = f" by {name}" if name else ""
    if kind is EventKind.ACCEPTED:
        again = "another one is the best meanwhile, so it is tried again on that"
        return f"#{number} accepted{by}: {again if retried else 'it is the best'}"
    if not retried:
        return f"#{number} rejected{by}"
    built = ", ".join(f"#{each}" for each in retried)
    return one_line(f"#{number} rejected{by}; tried again, as built on it: {built}", _SENTENCE)


def wish_text(number: int, wish: Wish | None, name: str = "") -> str:
    """Return what a person wants of further experiments like one; None: nothing any more."""
    by = f" (by {name})" if name else ""
    match wish:
        case Wish.MORE:
            return f"More like #{number} comes next{by}"
        case Wish.NEVER:
            return f"Nothing like #{number} again{by}"
        case None:
            return f"#{number} steers no longer{by}"
    assert_never(wish)


def started_text(run: Run, remarks: Sequence[str] = ()) -> str:
    better = "lower" if run.goal is Goal.MINIMIZE else "higher"
    lines = (
        f"Run {run.tag} started",
        f"Repository: {run.repository}",
        f"Branch: {run.branch}, from {run.base_branch} at {run.base_commit[:7]}",
        f"Goal: {better} {run.metric}, at most {duration(run.time_budget)} per training",
    )
    return "\n".join((*lines, *map(capital, remarks)))


def retagged_text(old: str, new: str) -> str:
    return f"Run {old} is now {new}\nBranch: autoresearch/{new}"


def _turn(data: Mapping[str, object]) -> str:
    """Return what became of a run: `paused by ada`."""
    match RunState(str(data["state"])):
        case RunState.RUNNING:
            word = "resumed"
        case RunState.PAUSING:
            word = "is about to pause"
        case RunState.PAUSED:
            word = "paused"
        case RunState.DONE:
            word = "is done"
        case RunState.STOPPED:
            word = "stopped"
        case state:
            assert_never(state)
    facts = reason_in(data)
    return one_line(
        state_text(word, facts) if facts else _because(word, str(data.get("reason", ""))), _SENTENCE
    )


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
        after = f"{number(value, before)} ({change(before, value)})"
    return after if before is None else f"{number(before)} → {after}"


def _last_line(error: str) -> str:
    lines = [line for line in map(str.strip, error.splitlines()) if line]
    return one_line(lines[-1], _SENTENCE) if lines else ""


def _costs(experiment: Experiment) -> list[str]:
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
    # Of several constants the description says as much.
    known = experiment.family not in (None, Family.COMBINATION)
    family = [f"idea: {family_text(experiment.family)}"] if known and experiment.family else []
    cost = experiment.cost
    if cost is None or cost == Cost():
        return family
    if cost.dollars is None:
        return [*family, f"{cost.tokens:,} tokens"] if cost.tokens else family
    return [*family, money(cost.dollars)] if cost.dollars else family


# Several in one message


def backlog_message(news: Sequence[Notification], *, title: str, zone: tzinfo) -> Message:
    """Return one message about many notifications, in order: counts, the best, and what else happened."""
    parts = []
    for of_run in _by_run(news):
        lines = [f"{title}: {_counts(of_run)}", *_best(of_run), *_events(of_run, zone)]
        span = period(of_run[0].event.at, of_run[-1].event.at, zone)
        parts.append("\n".join([*lines, f"{span} · run {of_run[0].run.tag}"]))
    return Message("\n\n".join(parts), buttons=summary_buttons(news[-1].run.state))


def group_message(news: Sequence[Notification]) -> Message:
    """Return one message about several digests: what they come to, then the three lines of each."""
    parts = []
    for of_run in _by_run(news):
        numbers = [experiment.number for experiment in _experiments(of_run)]
        title = f"Experiments #{min(numbers)} – #{max(numbers)}"
        if len(numbers) == 1:
            title = f"Experiment #{numbers[0]}"
        parts.append("\n".join([f"{title}: {_statuses(of_run)}", *_best(of_run), f"run {of_run[0].run.tag}"]))
        parts += ["\n".join(_head(each, of_run[0].run)) for each in _experiments(of_run)]
    silent = not any(one.is_loud for one in news)
    return Message("\n\n".join(parts), buttons=summary_buttons(news[-1].run.state), silent=silent)


def hour_message(news: Sequence[Notification], zone: tzinfo) -> Message:
    """Return a line about the digests that were not sent one by one, since the first of them."""
    since, goal = datetime.fromtimestamp(news[0].event.at, zone), news[0].run.goal
    believed = [each for each in _experiments(news) if each.is_believed]
    measured = [(each.value, each.number) for each in believed if each.value is not None]
    nearest = ""
    if measured:
        value, of = min(measured) if goal is Goal.MINIMIZE else max(measured)
        nearest = f" · nearest {number(value)} (#{of})"
    text = f"Since {since:%H:%M}: {_statuses(news)}{nearest}"
    return Message(text, buttons=summary_buttons(news[-1].run.state), silent=True)


def _by_run(news: Sequence[Notification]) -> list[list[Notification]]:
    runs = dict.fromkeys(item.run.id for item in news)
    return [[item for item in news if item.run.id == run_id] for run_id in runs]


def _experiments(news: Sequence[Notification]) -> list[Experiment]:
    return [item.experiment for item in news if item.experiment is not None]


def _counts(news: Sequence[Notification]) -> str:
    digests = _experiments(news)
    if not digests:
        return plural(len(news), "message")
    return f"{plural(len(digests), 'experiment')}, {_statuses(news)}"


def _statuses(news: Sequence[Notification]) -> str:
    counts = Counter(experiment.status for experiment in _experiments(news))
    return ", ".join(f"{counts[status]:,} {_participle(status)}" for status in Status if counts[status])


def _participle(status: Status) -> str:
    match status:
        case Status.KEEP:
            return "kept"
        case Status.DISCARD:
            return "discarded"
        case Status.CRASH:
            return "crashed"
        case Status.SKIP:
            return "skipped"
        case Status.QUARANTINE:
            return "in quarantine"
        case _:
            assert_never(status)


def _best(news: Sequence[Notification]) -> list[str]:
    """Return the line about the best value, before all of this and after."""
    digests = _experiments(news)
    kept = [experiment for experiment in digests if experiment.status is Status.KEEP]
    before = digests[0].best_before if digests else None
    metric = news[0].run.metric
    if not kept or kept[-1].value is None:
        return [] if before is None else [f"Best {metric}: {number(before)}, unchanged"]
    best = kept[-1].value
    if before is None:
        return [f"Best {metric}: {number(best)} (#{kept[-1].number})"]
    moved = f"{number(before)} → {number(best, before)} ({change(before, best)}"
    return [f"Best {metric}: {moved}, #{kept[-1].number})"]


def _events(news: Sequence[Notification], zone: tzinfo) -> list[str]:
    lines = []
    for item in news:
        if not item.is_digest:
            head = message_of(item.event, item.run).text.splitlines()[0]
            lines.append(one_line(f"{datetime.fromtimestamp(item.event.at, zone):%H:%M} {head}", 2 * _LINE))
    return _few(lines)


def _few(lines: list[str]) -> list[str]:
    if len(lines) <= _LINES:
        return lines
    return [f"({len(lines) - _LINES} earlier)", *lines[-_LINES:]]
