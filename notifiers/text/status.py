"""How a run stands, in words: `/status`, the card, progress, `/runs`, `/ideas`, a new run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import assert_never

from loop.evidence import Wish
from loop.experiment import Actor, Cause, Experiment, Goal, RunState, Stage
from loop.gain import change, number, signed
from loop.lanes.status import LaneStatus
from loop.logs.progress import Progress
from loop.results.gains import FamilyRate, Lesson, effect
from loop.results.report import RunStatus
from loop.sandbox.proof import Check, SandboxFacts
from loop.sandbox.sandbox import SandboxKind
from loop.store.experiments import Idea, Wished
from loop.text import one_line
from notifiers.message import Button, Message
from notifiers.text.certainty import certified_line, effect_text
from notifiers.text.notification import card_buttons
from notifiers.text.words import (
    capital,
    duration,
    evaluator_text,
    family_text,
    look_at,
    money,
    plural,
    reason_text,
    tally,
)

_LINE = 60  # characters of a description in one line
_LANE = 40  # likewise where it stands beside others
_REASON = 300
_CELLS = 10
_ENOUGH = 5  # experiments from which a rate means something
_IDEA = 80  # characters of one, and of a description beside it
_LESSON_REASON = 60
_NAME = 24


def status_message(status: RunStatus, *, now: float, zone: tzinfo, waits_for: str = "") -> Message:
    lines = _lines(status, zone, waits_for)
    if status.dollars:
        lines.append(f"{money(status.dollars)} for models")
    last = [f"Started {datetime.fromtimestamp(status.started_at, zone):%Y-%m-%d %H:%M}"]
    hours = (now - status.started_at - status.away_seconds) / 3600
    own = status.experiments - status.taken_over
    if status.state is RunState.RUNNING and own >= _ENOUGH and hours > 0:
        last.append(f"{own / hours:.1f} experiments per hour")
    if status.heartbeat_at is not None:
        last.append(f"heartbeat {duration(now - status.heartbeat_at)} ago")
    look = [] if status.best is None else [f"Best: {look_at(status.tag)}"]
    return Message("\n".join([*lines, " · ".join(last), *look]))


def card(status: RunStatus, *, zone: tzinfo) -> Message:
    """Return the live card, without the line that says when it was made; no span in it grows by itself."""
    return Message("\n".join(_lines(status, zone)), buttons=card_buttons(status.state), silent=True)


def standing_text(status: RunStatus, *, since: float, zone: tzinfo) -> str:
    """Return, as a clause, that a run which was paused, done or stopped is found so, with its numbers."""
    at = _time(since, zone)
    if status.state is RunState.DONE:
        now, then = f"was done at {at}", "it continues now"
    elif status.state is RunState.STOPPED:
        now, then = f"was stopped at {at}", "/start_run starts another"
    else:
        why = one_line(reason_text(status.reason), _LINE)
        now = f"{status.state} since {at}{f' ({why})' if why else ''}"
        by_itself = status.reason is not None and status.reason.by is Actor.HEARTBEAT
        then = "" if by_itself else "/resume continues it"
    best = _best(status, zone)
    known = f"{plural(status.made, 'experiment')}, {best[0].lower()}{best[1:]}"
    return "; ".join(filter(None, (now, known, then)))


def progress_line(status: RunStatus, *, zone: tzinfo, waits_for: str = "") -> str:
    if status.stage is Stage.TRAINING:
        repeat = "" if status.repeat is None else f"{_repeat(status)} of "
        if len(status.lanes) > 1:
            return " | ".join(lane_line(lane, zone) for lane in status.lanes if lane.experiment is not None)
        return f"{repeat}#{status.experiment} {_description(status)} · {_progress(status, zone)}"
    return _waiting(status, waits_for)


def runs_message(statuses: Sequence[RunStatus], *, zone: tzinfo) -> Message:
    if not statuses:
        return Message("There is no run yet. Start one with /start_run.")
    lines = [
        f"{status.tag}  {status.state}  {plural(status.made, 'experiment')}  "
        f"{'-' if status.best is None else number(status.best)}  "
        f"{datetime.fromtimestamp(status.started_at, zone):%Y-%m-%d}"
        for status in statuses
    ]
    return Message(plural(len(statuses), "run"), "\n".join(lines))


def _lines(status: RunStatus, zone: tzinfo, waits_for: str = "") -> list[str]:
    lines = [_state(status)]
    if status.reason and status.reason.cause is Cause.BRANCH:
        lines.append(reason_text(status.reason))  # whole: the command that fixes it stands in it
    if len(status.lanes) > 1:
        lines += _lane_lines(status, zone, waits_for)
    elif status.stage is not None:
        what = "Experiment" if status.repeat is None else f"{_repeat(status)} of"
        lines.append(f"{what} #{status.experiment}: {_description(status)}")
        lines.append(_progress(status, zone))
    elif waiting := _waiting(status, waits_for):
        lines.append(waiting)
    gains = status.keep - 1  # the first number is none
    counts = [": ".join(filter(None, (f"{status.made:,} made", ", ".join(tally(status)))))]
    counts += [plural(gains, "improvement")] if gains > 0 else []
    certain = certified_line(status.certainty) if status.certainty else ""
    lines += [_best(status, zone), *([certain] if certain else []), " · ".join(counts)]
    said = reason_text(status.reason)
    return lines + [one_line(f"Needs you: {call}", _REASON) for call in status.calls if call != said]


def _lane_lines(status: RunStatus, zone: tzinfo, waits_for: str) -> list[str]:
    """Return a line for each lane, and what those without work wait for."""
    lines = [lane_line(lane, zone) for lane in status.lanes if lane.experiment is not None or lane.closed]
    idle = len(status.lanes) - len(lines)
    if idle and status.state is RunState.RUNNING:
        lines.append(one_line(waits_for, _REASON) or f"{plural(idle, 'lane')} without work")
    return lines


def lane_line(lane: LaneStatus, zone: tzinfo) -> str:
    name = lane.device or f"Lane {lane.lane}"
    parts = [f"closed, {lane.closed}"] if lane.closed else []
    if lane.experiment is not None and lane.stage is not None:
        again = "repeat of " if lane.repeat else ""
        what = f"{again}#{lane.experiment} {one_line(lane.description or '', _LANE)}"
        parts += [what, _progress(lane, zone)]
    return f"{name}: {' · '.join(parts)}"


def _state(status: RunStatus) -> str:
    state = "pausing after this experiment" if status.state is RunState.PAUSING else status.state.value
    reason = "" if status.state is RunState.RUNNING else one_line(reason_text(status.reason), _LINE)
    if status.reason and status.reason.cause is Cause.BRANCH:
        reason = "its branch was moved by hand"
    return f"Run {status.tag}: {state}{f' ({reason})' if reason else ''}"


def _description(status: RunStatus) -> str:
    return one_line(status.description or "", _LINE)


def _repeat(status: RunStatus) -> str:
    return f"Repeat {status.repeat} of {status.repeats}"


def _waiting(status: RunStatus, waits_for: str) -> str:
    if status.stage is not None or status.state is not RunState.RUNNING:
        return ""
    return one_line(waits_for, _REASON)


def _progress(of: RunStatus | LaneStatus, zone: tzinfo) -> str:
    assert of.stage is not None
    if of.progress is not None:
        return _bar_and_numbers(of.progress)
    since = "" if of.training_since is None else f" since {_time(of.training_since, zone)}"
    return f"{_stage(of.stage)}{since}"


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
    best = f"Best {status.metric}: {number(status.best, status.baseline)}"
    if status.best_number == 0 or status.baseline is None:
        return f"{best}, the baseline"
    at = "" if status.best_at is None else f" at {_time(status.best_at, zone)}"
    return f"{best} ({change(status.baseline, status.best)}), #{status.best_number}{at}"


def _time(seconds: float, zone: tzinfo) -> str:
    return f"{datetime.fromtimestamp(seconds, zone):%m-%d %H:%M}"


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run that could be started.

    `lacking` says what it cannot start without, `remarks` what people should know; `budget` is in seconds.
    The baseline is repeated `noise_runs` times. `evaluator` checks its numbers, empty for nothing. `lanes`
    are where several train at once, `chosen` by a person.
    """

    tag: str
    other_tag: str
    repository: Path
    base_branch: str
    base_commit: str
    subject: str
    device: str
    sandbox: str
    budget: float
    proposer: str
    noise_runs: int = 0
    evaluator: str = ""
    lanes: tuple[str, ...] = ()
    chosen: str = ""
    remarks: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()


_LEAKS = {
    Check.PYTHON: "its Python does not start",
    Check.CUDA: "the GPU does not answer",
    Check.WORK: "its own folder cannot be written",
    Check.OUTSIDE: "writing elsewhere",
    Check.FIXED: "changing the fixed files",
    Check.SECRET: "reading the state directory",
    Check.GIT: "reading .git",
    Check.HOME: "listing the home directory",
    Check.TCP: "TCP",
    Check.UDP: "UDP",
    Check.VSOCK: "sockets to the host of a virtual machine",
    Check.SOCKET: "unix sockets",
    Check.PROCESSES: "seeing other processes",
    Check.ENVIRON: "reading their variables",
    Check.KERNEL: "changing kernel settings",
    Check.REMOUNT: "mounting",
    Check.SIGNAL: "signals to other processes",
    Check.NAMESPACE: "new namespaces",
}
BREAKS = (Check.PYTHON, Check.CUDA, Check.WORK)
"""What no training can do without, so that it is no leak where the sandbox has it not."""
_SANDBOXES = {SandboxKind.BWRAP: "bubblewrap", SandboxKind.LANDLOCK: "Landlock"}


def sandbox_text(facts: SandboxFacts) -> str:
    """Return what confines trainings, what it leaves open, and what was opened by a setting."""
    if facts.sandbox.kind is SandboxKind.NONE:
        return "none, trainings run with your permissions"
    open_ones = [_LEAKS[check] for check in facts.leaks if check not in BREAKS]
    if facts.network:
        network = ["network allowed"]
    else:
        network = [] if {Check.TCP, Check.UDP} & {*facts.leaks} else ["no network"]
    named = [f"may read {path}" for path in facts.reads] + [f"may write {path}" for path in facts.writes]
    parts = [", ".join((_SANDBOXES[facts.sandbox.kind], *network, *named))]
    parts += [f"does not stop {', '.join(open_ones)}"] if open_ones else []
    return "; ".join((*parts, *(_LEAKS[check] for check in facts.leaks if check in BREAKS)))


START_MODES = {"all": "Start: all", "hourly": "Start: keeps + hourly", "morning": "Start: morning only"}
"""Buttons that start a run and choose what the chat is sent of it, by the mode of `/notify`."""


def start_card(plan: RunPlan) -> Message:
    times = plan.noise_runs + 1
    repeated = f", the baseline {times} times to learn the noise" if plan.noise_runs else ""
    lines = [
        f"Start run {plan.tag}?",
        f"Repository: {plan.repository}",
        f"Base: {plan.base_branch} at {plan.base_commit[:7]}, {plan.subject}",
        f"Branch: autoresearch/{plan.tag}",
        f"Device: {plan.device}",
        *([f"Lanes: {len(plan.lanes)} at once ({', '.join(plan.lanes)})"] if plan.lanes else []),
        f"Sandbox: {plan.sandbox}",
        f"Budget: at most {duration(plan.budget)} per training{repeated}",
        evaluator_text(plan.evaluator),
        f"Ideas from: {plan.proposer}",
    ]
    lines += map(capital, plan.remarks)
    cancel = Button("Cancel", "/cancel")
    lanes = f" lanes={plan.chosen}" if plan.chosen else ""
    start = f"/start_run {plan.tag} go{lanes}"
    if plan.lacking:
        return Message("\n".join((*lines, *plan.lacking)), buttons=((cancel,),))
    lines.append(f"Press Start or send {start}. /notify changes later what is sent here.")
    other = Button("Other tag", f"/start_run {plan.other_tag}{lanes}")
    modes = tuple(
        Button(label, f"/start_run {plan.tag} {mode} go{lanes}") for mode, label in START_MODES.items()
    )
    return Message("\n".join(lines), buttons=((Button("Start", start), other, cancel), modes))


# Ideas: what waits to be tried, what was tried, and what it taught


def ideas_message(
    *,
    waiting: Sequence[Idea],
    wishes: Sequence[Wished] = (),
    present: Sequence[Experiment],
    made: Sequence[tuple[Idea, Experiment]],
    families: Iterable[FamilyRate],
    lessons: Iterable[Lesson],
    goal: Goal,
    most: int,
    like: float | None = None,
) -> Message:
    """Return the answer to `/ideas`, with `most` lines at most under each heading.

    `waiting` are the ideas of people still to be tried, the next first, and `made` those that became
    experiments, the newest first, among them perhaps those of `present`, which are under way. `wishes` are
    what people said of experiments.
    `like` is a number of the metric.
    """
    judged = [(idea, experiment) for idea, experiment in made if experiment.status is not None]
    parts = (
        _section("Waiting", [_said(idea) for idea in waiting], most),
        _section("Being tried", [_present(each, made) for each in present], most),
        _section("Steering", [_wished(wished) for wished in wishes], most),
        _section("What became of ideas", [_became(*pair, goal) for pair in judged[:most]], most),
        _section("Families", [_family(rate, goal, like) for rate in list(families)[:most]], most),
        _section("Lessons", [_lesson(lesson, goal, like) for lesson in list(lessons)[:most]], most),
    )
    nothing = [] if waiting else ["No ideas are waiting. Send one with /idea TEXT."]
    return Message("\n\n".join("\n".join(part) for part in (nothing, *parts) if part))


def _section(heading: str, lines: Sequence[str], most: int) -> list[str]:
    if not lines:
        return []
    left = len(lines) - most
    return [heading, *lines[:most], *([f"and {left:,} more"] if left > 0 else [])]


def _said(idea: Idea) -> str:
    return f"#{idea.id} {one_line(idea.text, _IDEA)} ({_author(idea)})"


def _wished(wished: Wished) -> str:
    wish = "more like" if wished.wish is Wish.MORE else "never again"
    by = f" ({one_line(wished.name, _NAME)})" if wished.name else ""
    what = f"#{wished.number} {one_line(wished.description, _IDEA)}"
    return f"{wish} {what}{by}; /{wished.wish} {wished.number} off"


def _author(idea: Idea) -> str:
    return one_line(idea.author, _NAME) or "unknown"


def _present(experiment: Experiment, made: Iterable[tuple[Idea, Experiment]]) -> str:
    line = f"Experiment #{experiment.number}: {one_line(experiment.description, _IDEA)}"
    for idea, other in made:
        if other.number == experiment.number:
            return f"{line} (idea #{idea.id}, {_author(idea)})"
    return line


def _became(idea: Idea, experiment: Experiment, goal: Goal) -> str:
    better = effect(experiment, goal)
    moved = [] if better is None else [signed(-goal.sign * better, experiment.value)]
    outcome = " ".join([str(experiment.status), *moved])
    return f"{_said(idea)}: {outcome}, experiment #{experiment.number}"


def _family(rate: FamilyRate, goal: Goal, like: float | None) -> str:
    best = f", best {signed(-goal.sign * rate.best_gain, like)}" if rate.best_gain else ""
    return f"{family_text(rate.family)}: {rate.kept:,} of {rate.tried:,} kept{best}"


def _lesson(lesson: Lesson, goal: Goal, like: float | None) -> str:
    description = one_line(lesson.description, _IDEA) or "no description"
    told = "" if lesson.effect is None else f"{effect_text(-goal.sign * lesson.effect, lesson.noise, like)}, "
    why = f", {one_line(lesson.reason, _LESSON_REASON)}" if lesson.reason else ""
    return f"{description}: {told}{lesson.status}{why} ({lesson.tag} #{lesson.number})"
