"""The buttons under messages: they follow what the run is doing when the message is sent."""

from __future__ import annotations

from loop.experiment import Experiment, RunState
from notifiers.message import Button
from notifiers.news import News, Topic

_PLOT = Button("Plot", "/plot")
_SKIP = Button("Skip", "/skip")
_STATUS = Button("Status", "/status")

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
