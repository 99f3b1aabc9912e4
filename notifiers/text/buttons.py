"""The buttons under messages: they follow what the run is doing when the message is sent."""

from __future__ import annotations

from dataclasses import replace

from loop.experiment import Experiment, RunState
from notifiers.message import Button
from notifiers.text.notification import News, Topic

_PLOT = Button("Plot", "/plot")
_SKIP = Button("Skip", "/skip")
_STATUS = Button("Status", "/status")
_IN_REPORT = {"Pause": "Pause", "Resume": "Keep going"}

Row = tuple[Button, ...]


def buttons_under(news: News) -> tuple[Row, ...]:
    """Return the rows of buttons under the message about `news`."""
    state = news.run.state
    if news.experiment is not None:
        return ((*_about(news.experiment), _PLOT, *_going(state), *_skipping(state)),)
    if news.topic in (Topic.ATTENTION, Topic.RECOVERY):
        return ((_STATUS, *_going(state)),)
    return (_going(state),) if state in (RunState.PAUSED, RunState.DONE) else ()


def summary_buttons(state: RunState) -> tuple[Row, ...]:
    """Return the row under a message about several experiments."""
    return ((Button("Results", "/results"), _PLOT, *_going(state)),)


def report_buttons(state: RunState, *, changed: tuple[int, int] | None) -> tuple[Row, ...]:
    """Return the rows under a report: what more there is to see, and what to do now.

    `changed` are the numbers of the best experiments before and after, None where they are the same.
    """
    looking: Row = (Button("Details", "/results 20"), Button("Chart", "/plot"))
    if changed is not None:
        looking += (Button("Diff", f"/diff {changed[0]} {changed[1]}"),)
    doing = tuple(replace(button, label=_IN_REPORT[button.label]) for button in _going(state))
    if state is not RunState.STOPPED:
        doing += (Button("Stop", "/stop"),)
    if changed is not None:
        doing += (Button("Bundle", "/bundle"),)
    return (looking, doing) if doing else (looking,)


def card_buttons(state: RunState) -> tuple[Row, ...]:
    """Return the rows under the live card."""
    looking = (Button("Refresh", "/status"), _PLOT)
    if state is RunState.STOPPED:
        return (looking,)
    return ((*_going(state), *_skipping(state), Button("Stop", "/stop")), looking)


def _about(experiment: Experiment) -> Row:
    number = experiment.number
    diff = (Button("Diff", f"/diff {number}"),) if number else ()  # the baseline changes nothing
    log = (Button("Log", f"/log {number}"),) if experiment.attempt else ()  # skipped before it was trained
    return diff + log


def _going(state: RunState) -> Row:
    match state:
        case RunState.RUNNING:
            return (Button("Pause", "/pause"),)
        case RunState.PAUSING | RunState.PAUSED | RunState.DONE:
            return (Button("Resume", "/resume"),)
        case RunState.STOPPED:
            return ()


def _skipping(state: RunState) -> Row:
    return (_SKIP,) if state in (RunState.RUNNING, RunState.PAUSING) else ()
