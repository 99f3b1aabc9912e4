"""An event as people may want to hear of it: what it is about, how much it matters, the buttons under it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from loop.experiment import Cause, Event, EventKind, Experiment, Run, RunState, Status
from loop.gain import gain
from loop.store.journal import Journal
from notifiers.message import Button, Buttons
from notifiers.text.certainty import is_told


class Topic(StrEnum):
    """What a notification is about; each can be on, silent or off. The first five are digests."""

    KEEP = "keep"
    DISCARD = "discard"
    CRASH = "crash"
    SKIP = "skip"
    QUARANTINE = "quarantine"
    RUN = "run"  # it started, paused, resumed, ended, has a new name
    RECOVERY = "recovery"  # something failed and was repaired without a person
    ATTENTION = "attention"  # only a person can help
    REPORT = "report"  # the wake-up report


@dataclass(frozen=True, slots=True)
class Notification:
    """An event that people are told of, with what it is about as that stands now."""

    event: Event
    run: Run
    experiment: Experiment | None
    topic: Topic
    crashed_again: bool = False  # the experiment before this one crashed too

    @property
    def is_digest(self) -> bool:
        return self.event.kind is EventKind.DECIDED

    @property
    def has_report(self) -> bool:
        return self.topic is Topic.REPORT or _state(self.event) in (RunState.DONE, RunState.STOPPED)

    @property
    def is_call(self) -> bool:
        """Whether it is a call for a person, and not the reminder of one."""
        return self.topic is Topic.ATTENTION and self.event.kind is not EventKind.REMINDED

    @property
    def is_pause(self) -> bool:
        return _state(self.event) is RunState.PAUSED

    @property
    def is_new_best(self) -> bool:
        """Whether the metric was never so good: true of the first number, not of a simplification."""
        experiment = self.experiment
        if experiment is None or experiment.status is not Status.KEEP or experiment.value is None:
            return False
        before = experiment.best_before
        return before is None or gain(before, experiment.value, self.run.goal) > 0

    @property
    def is_loud(self) -> bool:
        """Whether it is worth a sound where the channel has not chosen otherwise."""
        if self.topic is Topic.CRASH:
            return not self.crashed_again
        if self.is_pause:
            return True
        return self.topic in (Topic.KEEP, Topic.QUARANTINE, Topic.ATTENTION) or self.has_report

    @property
    def is_for_all(self) -> bool:
        return self.is_new_best or self.topic is Topic.ATTENTION or self.has_report


def read_notifications(journal: Journal, events: Sequence[Event]) -> list[Notification]:
    """Return the notifications among `events`, in order; all that they are about is read at once."""
    runs = {run.id: run for run in journal.runs()} if events else {}
    experiments = _read_experiments(journal, events)
    found = []
    for event in events:
        number = event.number if event.kind is EventKind.DECIDED else None
        experiment = None if number is None else experiments.get((event.run_id, number))
        topic = topic_of(event, experiment)
        if topic is not None:
            before = None if number is None else experiments.get((event.run_id, number - 1))
            again = all(one is not None and one.status is Status.CRASH for one in (experiment, before))
            found.append(Notification(event, runs[event.run_id], experiment, topic, again))
    return found


def _read_experiments(journal: Journal, events: Iterable[Event]) -> dict[tuple[int, int], Experiment]:
    """Return the experiments that events tell the verdicts of, and the ones before these."""
    numbers: dict[int, set[int]] = {}
    for event in events:
        if event.kind is EventKind.DECIDED and event.number is not None:
            numbers.setdefault(event.run_id, set()).update((event.number - 1, event.number))
    found = (journal.experiments_at(run_id, wanted) for run_id, wanted in numbers.items())
    return {(one.run_id, one.number): one for experiments in found for one in experiments}


def topic_of(event: Event, experiment: Experiment | None = None) -> Topic | None:
    """Return what an event is about; None where people are not told of it."""
    match event.kind:
        case EventKind.DECIDED:
            return Topic(experiment.status.value) if experiment and experiment.status else None
        case EventKind.RUN_STATE:
            # Told once it is paused; and a person who is called for the same cause is told by that.
            called = event.data.get("cause") in (Cause.BASELINE, Cause.BRANCH)
            return None if called or _state(event) is RunState.PAUSING else Topic.RUN
        case EventKind.REPEATED | EventKind.REPEAT_GIVEN_UP | EventKind.REPEAT_PUT_BACK if not is_told(event):
            return None
        case (
            EventKind.RUN_STARTED
            | EventKind.RUN_RETAGGED
            | EventKind.NOTED
            | EventKind.WISHED
            | EventKind.ACCEPTED
            | EventKind.REJECTED
            | EventKind.CERTIFIED
            | EventKind.PRUNED
            | EventKind.REPEATED
            | EventKind.REPEAT_GIVEN_UP
        ):
            return Topic.RUN
        case EventKind.INTERRUPTED:
            return Topic.RECOVERY if event.data.get("vanished") else None
        case EventKind.RUN_RECOVERED | EventKind.REPEAT_PUT_BACK:
            return Topic.RECOVERY
        case EventKind.NEEDS_ATTENTION | EventKind.REMINDED:
            return Topic.ATTENTION
        case EventKind.WAKE_UP:
            return Topic.REPORT
        case (
            EventKind.PROPOSED
            | EventKind.COMMITTED
            | EventKind.TRAINING
            | EventKind.SKIP_REQUESTED
            | EventKind.MEASURED
            | EventKind.EVALUATED
            | EventKind.RESTED
            | EventKind.RESOLVED
            | EventKind.REPEAT_ASKED
            | EventKind.REPEAT_TRAINING
            | EventKind.CERTIFYING
            | EventKind.PRUNING
        ):
            return None
        case _:
            assert_never(event.kind)


def _state(event: Event) -> RunState | None:
    return RunState(str(event.data["state"])) if event.kind is EventKind.RUN_STATE else None


_MOST_REMOVED = 8  # by one button, whose command may have 64 bytes
_PLOT = Button("Plot", "/plot")
_IN_REPORT = {"Pause": "Pause", "Resume": "Keep going"}  # what the buttons are called under a report


def buttons_under(news: Notification) -> tuple[Buttons, ...]:
    state = news.run.state
    if news.experiment is not None:
        return experiment_buttons(news.experiment, state)
    if news.event.kind is EventKind.REPEATED and news.event.number and state is not RunState.STOPPED:
        number = news.event.number
        return ((Button("Diff", f"/diff {number}"), _again(number), Button("Reject", f"/reject {number}")),)
    if news.event.data.get("cause") == Cause.QUARANTINE:
        number = int(str(news.event.data["key"]))
        looking = Button("Diff", f"/diff {number}"), Button("Log", f"/log {number}")
        return ((*_accept_or_reject(number), *looking),)
    if news.event.kind is EventKind.PRUNED and (removable := news.event.data["removable"]):
        assert isinstance(removable, list)
        found = removable[:_MOST_REMOVED]
        shown = ", ".join(f"#{number}" for number in found)
        return ((Button(f"Remove {shown}", f"/prune {' '.join(map(str, found))}"),),)
    if news.topic in (Topic.ATTENTION, Topic.RECOVERY):
        return ((Button("Status", "/status"), *_pause_or_resume(state)),)
    return (_pause_or_resume(state),) if state in (RunState.PAUSED, RunState.DONE) else ()


def experiment_buttons(experiment: Experiment, state: RunState) -> tuple[Buttons, ...]:
    """Return the rows under what is said of one experiment: to look at it, and to say what follows of it."""
    number, status = experiment.number, experiment.status
    steering: Buttons = ()
    looking: Buttons = (Button("Diff", f"/diff {number}"),) if number else ()  # the baseline changes nothing
    looking += (Button("Log", f"/log {number}"),) if experiment.attempt else ()  # else it was never trained
    if state is RunState.STOPPED:
        return (looking,) if looking else ()
    if status in (Status.KEEP, Status.DISCARD):
        looking += (_again(number),)
    if status is Status.KEEP and number:
        looking += (Button("Reject", f"/reject {number}"),)
    if number:
        more = () if status is Status.CRASH else (Button("More like this", f"/more {number}"),)
        steering = (*more, Button("Never again", f"/never {number}"))
    decision = _accept_or_reject(number) if status is Status.QUARANTINE else ()
    return tuple(filter(None, (decision, looking, steering)))


def named_buttons(experiment: Experiment, state: RunState) -> tuple[Buttons, ...]:
    """Return the same with its number, for where several experiments are shown."""

    def named(button: Button) -> Button:
        return replace(button, label=f"{button.label.removesuffix(' this')} #{experiment.number}")

    return tuple(tuple(map(named, row)) for row in experiment_buttons(experiment, state))


def summary_buttons(state: RunState) -> tuple[Buttons, ...]:
    return ((Button("Results", "/results"), _PLOT, *_pause_or_resume(state)),)


def report_buttons(state: RunState, *, changed: tuple[int, int] | None) -> tuple[Buttons, ...]:
    """Return the rows under a report: what more there is to see, and what to do now.

    `changed` are the numbers of the best experiments before and after, None where they are the same.
    """
    looking: Buttons = (Button("Details", "/results 20"), Button("Chart", "/plot"))
    if changed is not None:
        looking += (Button("Diff", f"/diff {changed[0]} {changed[1]}"),)
    doing = tuple(replace(button, label=_IN_REPORT[button.label]) for button in _pause_or_resume(state))
    if state is not RunState.STOPPED:
        doing += (Button("Stop", "/stop"),)
    if changed is not None:
        doing += (Button("Bundle", "/bundle"),)
    return (looking, doing) if doing else (looking,)


def card_buttons(state: RunState) -> tuple[Buttons, ...]:
    looking = (Button("Refresh", "/status"), _PLOT)
    if state is RunState.STOPPED:
        return (looking,)
    skip = (Button("Skip", "/skip"),) if state in (RunState.RUNNING, RunState.PAUSING) else ()
    return ((*_pause_or_resume(state), *skip, Button("Stop", "/stop")), looking)


def _accept_or_reject(number: int) -> Buttons:
    return Button("Accept", f"/accept {number}"), Button("Reject", f"/reject {number}")


def _again(number: int) -> Button:
    return Button("Again ×3", f"/rerun {number} 3")


def _pause_or_resume(state: RunState) -> Buttons:
    match state:
        case RunState.RUNNING:
            return (Button("Pause", "/pause"),)
        case RunState.PAUSING | RunState.PAUSED | RunState.DONE:
            return (Button("Resume", "/resume"),)
        case RunState.STOPPED:
            return ()
        case _:
            assert_never(state)
