"""An event as somebody may want to hear of it: what it is about, how much it matters, what it says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from loop.experiment import Event, EventKind, Experiment, Run, RunState, Status
from loop.results.gains import gain
from loop.store.journal import Journal
from notifiers.message import Message
from notifiers.text.digest import message_of

_ENDINGS = frozenset({RunState.DONE, RunState.STOPPED})


class Topic(StrEnum):
    """What news is about; each can be on, silent or off in a channel. The first four are digests."""

    KEEP = "keep"
    DISCARD = "discard"
    CRASH = "crash"
    SKIP = "skip"
    RUN = "run"  # it started, pauses, goes on, ended, has a new name
    RECOVERY = "recovery"  # something had broken and was put in order without anybody's help
    ATTENTION = "attention"  # only a person can help
    REPORT = "report"  # the morning


@dataclass(frozen=True, slots=True)
class News:
    """An event that says something to people, with what it tells of as that stands now."""

    event: Event
    run: Run
    experiment: Experiment | None
    topic: Topic
    message: Message
    crashed_again: bool = False  # the experiment before this one crashed too

    @property
    def is_digest(self) -> bool:
        """Say whether it tells of one decided experiment."""
        return self.event.kind is EventKind.DECIDED

    @property
    def has_report(self) -> bool:
        """Say whether it is told with a report: in the morning, and when a run has ended."""
        return self.topic is Topic.REPORT or self._state in _ENDINGS

    @property
    def is_new_best(self) -> bool:
        """Say whether the metric was never so good: true of the first number, not of a simplification."""
        experiment = self.experiment
        if experiment is None or experiment.status is not Status.KEEP or experiment.value is None:
            return False
        before = experiment.best_before
        return before is None or gain(before, experiment.value, self.run.goal) > 0

    @property
    def is_loud(self) -> bool:
        """Say whether it is worth a sound where nobody ordered otherwise."""
        if self.topic is Topic.CRASH:
            return not self.crashed_again
        if self._state is RunState.PAUSED:
            return True
        return self.topic in (Topic.KEEP, Topic.ATTENTION) or self.has_report

    @property
    def is_for_all(self) -> bool:
        """Say whether it is for everybody in the channel, not only for who follows the run."""
        return self.is_new_best or self.topic is Topic.ATTENTION or self.has_report

    @property
    def _state(self) -> RunState | None:
        state = self.event.data.get("state") if self.event.kind is EventKind.RUN_STATE else None
        return None if state is None else RunState(str(state))


def read_news(journal: Journal, events: Sequence[Event]) -> list[News]:
    """Return the news among `events`, in their order; all that they are about is read at once."""
    runs = {run.id: run for run in journal.runs()} if events else {}
    experiments = _read_experiments(journal, events)
    found = []
    for event in events:
        run = runs[event.run_id]
        number = event.number if event.kind is EventKind.DECIDED else None
        experiment = None if number is None else experiments.get((run.id, number))
        message = message_of(event, run, experiment)
        if message is not None:
            before = None if number is None else experiments.get((run.id, number - 1))
            again = all(one is not None and one.status is Status.CRASH for one in (experiment, before))
            found.append(News(event, run, experiment, _topic(event, experiment), message, again))
    return found


def _read_experiments(journal: Journal, events: Iterable[Event]) -> dict[tuple[int, int], Experiment]:
    """Return the experiments that events tell the verdicts of, and the ones before these."""
    numbers: dict[int, set[int]] = {}
    for event in events:
        if event.kind is EventKind.DECIDED and event.number is not None:
            numbers.setdefault(event.run_id, set()).update((event.number - 1, event.number))
    found = (journal.experiments_at(run_id, wanted) for run_id, wanted in numbers.items())
    return {(one.run_id, one.number): one for experiments in found for one in experiments}


def _topic(event: Event, experiment: Experiment | None) -> Topic:
    if experiment is not None and experiment.status is not None:
        return Topic(experiment.status.value)
    match event.kind:
        case EventKind.NEEDS_ATTENTION:
            return Topic.ATTENTION
        case EventKind.WAKE_UP:
            return Topic.REPORT
        case EventKind.RUN_RECOVERED | EventKind.INTERRUPTED:
            return Topic.RECOVERY
        case (
            EventKind.RUN_STARTED
            | EventKind.RUN_STATE
            | EventKind.RUN_RETAGGED
            | EventKind.RESOLVED
            | EventKind.NOTED
            | EventKind.RESTED
            | EventKind.PROPOSED
            | EventKind.COMMITTED
            | EventKind.TRAINING
            | EventKind.SKIP_REQUESTED
            | EventKind.MEASURED
            | EventKind.EVALUATED
            | EventKind.DECIDED
        ):
            return Topic.RUN
        case _:
            assert_never(event.kind)
