"""An experiment's way from stage to stage, and its verdict: pure functions from one value to the next."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from loop.evaluation.noise import Noise
from loop.evaluation.plausibility import overrun
from loop.evidence import NO_DOUBT, Belief, Doubt, Invalidated
from loop.experiment import Ending, Experiment, Goal, Outcome, Proposal, Reason, Run, Stage, Status, Training
from loop.gain import gain, number, step
from loop.git.workspace import Commit
from loop.logs.summary import PAIRS
from loop.text import clauses

MIN_SLACK = 300.0
"""Seconds that any training has beyond its budget, for imports, compiling and evaluation.

On an H200 a cold `torch.compile` of the template alone took 20 s, whatever the budget.
"""


def usual_deadline(time_budget: float) -> float:
    """Return the seconds after which a training is killed: 10 minutes for 300 s, as in the practice."""
    return time_budget + max(time_budget, MIN_SLACK)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The status given to an experiment; `reason` says, in readable clauses, what its numbers do not."""

    status: Status
    reason: str = ""


@dataclass(frozen=True, slots=True)
class KeepRule:
    """When a measured experiment is kept; the defaults are the practice's.

    A gain below `simplicity_gain`, or below the noise where that is known, that adds `simplicity_lines` or
    more net lines is not worth its code; None is 0.001, by the metric's scale. Less code may be worse by
    `equal_within`; None is half the noise where that is known, else nothing. `pattern` is SUMMARY_PATTERN, by
    which the numbers were read.
    """

    metric: str = "val_bpb"
    goal: Goal = Goal.MINIMIZE
    simplicity_gain: float | None = None
    simplicity_lines: int = 20
    pattern: str = ""
    equal_within: float | None = None


def equal_within(rule: KeepRule, noise: Noise | None) -> float:
    """Return how much two results may differ and still count as equal."""
    if rule.equal_within is not None:
        return rule.equal_within
    return noise.sigma / 2 if noise else 0.0


def decide(
    rule: KeepRule,
    outcome: Outcome,
    *,
    best: float | None,
    net_lines: int = 0,
    tampered: tuple[str, ...] = (),
    seen: Collection[str] = (),
    noise: Noise | None = None,
    record: float | None = None,
) -> Verdict:
    """Judge `outcome` against the `best` value so far (None: there is none yet), that of the head.

    The program has `net_lines` more than the head's. `noise` is the run's. `record` is the best number of any
    keep: the head's is worse after one that was kept as equal, and a row of such must not lead downhill.

    A number counts whatever came after it; the reason says what did. `tampered` names fixed files that differ
    from the run's base commit; such a number is worth nothing. `seen` names the numbers that stand in the log
    of a training without a summary.
    """
    if tampered:
        return Verdict(Status.CRASH, f"{', '.join(tampered)} was changed during the training")
    value = measured_value(rule.metric, rule.goal, outcome)
    if value is None:
        return Verdict(Status.CRASH, _why_no_value(rule, outcome, seen))
    verdict = _compare(rule, value, best, net_lines, noise, record)
    return Verdict(verdict.status, clauses(verdict.reason, _afterwards(outcome)))


def measured_value(metric: str, goal: Goal, outcome: Outcome) -> float | None:
    value = outcome.numbers.get(metric)
    return None if value is None or _is_impossible(metric, goal, value) else value


def _is_impossible(metric: str, goal: Goal, value: float) -> bool:
    is_loss = goal is Goal.MINIMIZE and metric.endswith(("bpb", "loss"))
    return not math.isfinite(value) or (is_loss and value <= 0)


def _compare(
    rule: KeepRule,
    value: float,
    best: float | None,
    net_lines: int,
    noise: Noise | None,
    record: float | None,
) -> Verdict:
    if best is None:
        return Verdict(Status.KEEP)
    better = gain(best, value, rule.goal)
    if better <= 0:
        behind = -gain(best if record is None else record, value, rule.goal)
        if net_lines >= 0 or behind > equal_within(rule, noise):
            return Verdict(Status.DISCARD)
        equal = f"{number(-better, best)} worse, which counts as equal," if better else "equal"
        return Verdict(Status.KEEP, f"{equal} with {-net_lines} fewer line{'' if net_lines == -1 else 's'}")
    worth = step(best) if rule.simplicity_gain is None else rule.simplicity_gain
    too_small = noise.sigma if noise else worth
    if better < too_small and net_lines >= rule.simplicity_lines:
        small = f"a gain of {number(better, best)} is too small"
        return Verdict(Status.DISCARD, f"{small} for {net_lines} more lines")
    return Verdict(Status.KEEP)


def _why_no_value(rule: KeepRule, outcome: Outcome, seen: Collection[str]) -> str:
    value = outcome.numbers.get(rule.metric)
    if value is not None:
        return f"{rule.metric} is {value:g}, which cannot be"
    missing = _what_is_there(rule, outcome, seen)
    also = f"; {missing}" if missing and outcome.numbers else ""
    match outcome.ending:
        case Ending.DEADLINE:
            return f"still running after {_lasted(outcome)}: killed at the deadline{also}"
        case Ending.STALLED:
            return f"silent and idle for too long: killed after {_lasted(outcome)}{also}"
        case Ending.LIMIT:
            return f"used more than a training may: killed after {_lasted(outcome)}{also}"
        case Ending.EXITED | Ending.INTERRUPTED | Ending.VANISHED:
            well = " well but" if outcome.exit_code == 0 else ""
            return _exit(outcome.exit_code) or missing or f"ended{well} without {rule.metric}"
        case _:
            assert_never(outcome.ending)


_SHOWN = 4  # numbers that are named where the metric is missing
_MEASURE = re.compile(
    r"(?:^|[\W_])(?:(?P<higher>acc|accuracy|score|f1|auc|reward|precision|recall|r2|iou|miou|dice|bleu|psnr|ssim"
    r"|ndcg|mrr|sharpe)|val|valid|validation|eval|test|loss|nll|bpb|bpc|ppl|perplexity|err|error|mse|rmse|mae)"
    r"(?=$|[\W_])",
    re.IGNORECASE,
)


def _what_is_there(rule: KeepRule, outcome: Outcome, seen: Collection[str]) -> str:
    """Say what stands in the place of the metric, and which settings read it; empty where nothing does."""
    numbers = _decisive(rule, outcome.numbers, seen)
    keys = sorted(numbers or seen, key=lambda key: -_weight(key))
    if not keys:
        return "SUMMARY_PATTERN finds no number in the log" if rule.pattern else ""
    names = ", ".join(key[:40] for key in keys[:_SHOWN])
    if len(keys) > _SHOWN:
        names += f" and {len(keys) - _SHOWN} more"
    fix = f"set {missing_settings(rule, outcome.numbers, seen)}"
    if numbers and rule.pattern:
        return f"no {rule.metric} among what SUMMARY_PATTERN finds; it finds {names}: {fix}"
    if numbers:
        return f"no {rule.metric} in the summary; it has {names}: {fix}"
    if rule.pattern:
        return f"SUMMARY_PATTERN finds no number in the log, which has {names}: {fix}"
    fix += f", or print a line --- and then lines such as {rule.metric}: 1.0"
    if rule.metric in seen:
        return f"{rule.metric} is in the log but not in a summary: {fix}"
    return f"no summary in the log, which has {names}: {fix}"


def missing_settings(rule: KeepRule, numbers: Collection[str], seen: Collection[str]) -> str:
    """Return the settings that read the metric of a program that ends well without one.

    Empty where it has one, or nothing like it.
    """
    numbers = _decisive(rule, numbers, seen)
    keys = numbers or seen
    if rule.metric in numbers:
        return ""
    if not keys:
        return "another SUMMARY_PATTERN" if rule.pattern else ""
    settings = [] if numbers else [f"SUMMARY_PATTERN='{PAIRS}'"]
    if rule.metric not in keys:
        heaviest = max(map(_weight, keys))
        fit = [key[:40] for key in keys if _weight(key) == heaviest]
        if not heaviest:
            settings.append("METRIC to the one that decides")
        elif fit[1:]:  # a guess would decide what the whole run is about
            settings.append(f"METRIC to one of {', '.join(sorted(fit))}")
        else:
            settings.append(f"METRIC={fit[0]}")
        if heaviest and rule.goal is Goal.MINIMIZE and any(map(is_usually_maximized, fit)):
            settings.append(f"METRIC_GOAL=maximize{' if more of it is better' if fit[1:] else ''}")
    *others, last = settings
    return f"{', '.join(others)} and {last}" if others else last


def _decisive(rule: KeepRule, numbers: Collection[str], seen: Collection[str]) -> Collection[str]:
    """Return the numbers of a summary; none where the metric is beside it, which SUMMARY_PATTERN reads."""
    return () if rule.metric in seen and not rule.pattern else numbers


def is_usually_maximized(metric: str) -> bool:
    return any(found["higher"] for found in _MEASURE.finditer(metric))


def _weight(key: str) -> int:
    return len(_MEASURE.findall(key))


def _afterwards(outcome: Outcome) -> str:
    """Say what came after the number, empty where the training just ended."""
    match outcome.ending:
        case Ending.DEADLINE:
            return f"still running after its summary: killed after {_lasted(outcome)}"
        case Ending.STALLED:
            return f"hung after its summary: killed after {_lasted(outcome)}"
        case Ending.LIMIT:
            return "used more than a training may after its summary, and was killed"
        case Ending.INTERRUPTED:
            return "ended from outside after its summary"
        case Ending.EXITED | Ending.VANISHED:
            ended = _exit(outcome.exit_code)
            return f"{ended} after its summary" if ended else ""
        case _:
            assert_never(outcome.ending)


def _exit(code: int | None) -> str:
    if not code:
        return ""
    return f"killed by signal {-code}" if code < 0 else f"exit status {code}"


def _lasted(outcome: Outcome) -> str:
    seconds = outcome.seconds if outcome.seconds is not None else outcome.ended_at - outcome.started_at
    return f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.1f} s"


def is_same(old: Reason | None, new: Reason) -> bool:
    """Tell whether this is the order of before, for whatever facts."""
    return old is not None and (old.by, old.name, old.cause) == (new.by, new.name, new.cause)


RUN_STOPPED = "the run was stopped"  # why something was given up
BASELINE = Proposal("", "baseline", "the program as it is", "baseline")


@dataclass(frozen=True, slots=True)
class Ready:
    """A proposal with its commit, fit to be launched on top of `proposal.parent`.

    `waited` is for how many seconds the lane that took it had to wait, `made_as` the commit that it had
    before it was carried over.
    """

    proposal: Proposal
    commit: Commit
    constants: Mapping[str, object]
    program: str
    waited: float = 0.0
    made_as: str = ""


def proposed(
    run: Run, number: int, ready: Ready, now: float, *, lane: int = 0
) -> tuple[Experiment, Experiment]:
    proposal, commit = ready.proposal, ready.commit
    first = Experiment(
        run_id=run.id,
        number=number,
        stage=Stage.PROPOSED,
        description=proposal.description,
        rationale=proposal.rationale,
        proposer=proposal.proposer,
        parent=proposal.parent,
        lane=lane,
        constants=ready.constants,
        lines_added=commit.lines_added,
        lines_removed=commit.lines_removed,
        proposed_at=now,
        idea=proposal.idea,
        expected=proposal.expected,
        family=proposal.family,
        repairs=proposal.repairs,
        cost=proposal.cost,
        program=ready.program,
        waited=ready.waited,
        findings=proposal.findings,
        retry=proposal.retry,
        without=proposal.without,
    )
    return first, replace(first, stage=Stage.COMMITTED, commit=commit.sha)


def put_back(experiment: Experiment, outcome: Outcome) -> Experiment:
    return replace(experiment, stage=Stage.COMMITTED, training=ended(experiment.last_training, outcome))


def why_put_back(outcome: Outcome, *, ordered: bool, blocked: bool) -> str:
    """Say why a training is to be run again.

    It was `ordered` to end, or `blocked` by what else is on the machine.
    """
    if outcome.ending is Ending.VANISHED:
        return f"its training vanished: {outcome.error or 'the machine or its supervisor died'}"
    if blocked:
        return "it ran out of memory while the machine was not free for it"
    return "by command" if ordered else "something on the machine ended its training"


def measured(experiment: Experiment, outcome: Outcome) -> Experiment:
    return replace(experiment, stage=Stage.MEASURED, training=ended(experiment.last_training, outcome))


def decided(
    experiment: Experiment,
    run: Run,
    rule: KeepRule,
    *,
    best: float | None,
    tampered: tuple[str, ...],
    now: float,
    seen: Collection[str] = (),
    noise: Noise | None = None,
    record: float | None = None,
    doubt: Doubt = NO_DOUBT,
) -> Experiment:
    """Return an experiment with its verdict; all but `run`, `now` and `doubt` is as in `decide`.

    `doubt` is of its number, if that would be kept. The baseline is a person's program, and the first head.
    """
    outcome = Outcome(
        ending=experiment.ending or Ending.EXITED,
        exit_code=experiment.exit_code,
        started_at=experiment.started_at or 0.0,
        ended_at=experiment.ended_at or 0.0,
        numbers=experiment.numbers,
        error=experiment.error,
    )
    verdict = decide(
        rule,
        outcome,
        best=best,
        net_lines=experiment.lines_added - experiment.lines_removed,
        tampered=tampered,
        seen=seen,
        noise=noise,
        record=record,
    )
    would_be_kept = verdict.status is Status.KEEP
    if experiment.number and would_be_kept:
        verdict = doubted(verdict, doubt)
    finite = {key: value for key, value in outcome.numbers.items() if math.isfinite(value)}
    seconds = overrun(outcome.numbers, run.time_budget)
    flag = f"anomalous: trained {seconds:.0f} s of a budget of {run.time_budget:.0f} s" if seconds else ""
    return replace(
        experiment,
        stage=Stage.DECIDED,
        decided_at=now,
        best_before=best,
        training=replace(experiment.last_training, numbers=finite),
        status=verdict.status,
        reason=clauses(verdict.reason, flag),
        value=None if verdict.status is Status.CRASH else outcome.numbers[rule.metric],
        doubts=doubt.reasons if would_be_kept else (),
        invalidated=Invalidated.NOT_BELIEVED if would_be_kept and verdict.status is Status.DISCARD else None,
    )


def doubted(keep: Verdict, doubt: Doubt) -> Verdict:
    match doubt.belief:
        case Belief.BELIEVED:
            return keep
        case Belief.UNSURE:
            return replace(keep, status=Status.QUARANTINE)
        case Belief.NOT_BELIEVED:
            reason = clauses(f"not believed: {clauses(*doubt.reasons)}", keep.reason)
            return Verdict(Status.DISCARD, reason)
        case _:
            assert_never(doubt.belief)


def alarm(crashed: Experiment, streak: int, *, every: int, lacks: str = "") -> str:
    """Return what a person must know of a crash, the last of a `streak`; empty if nothing.

    `lacks` says which setting gives its training what it lacked.
    """
    last = crashed.cause.partition(f": {lacks}")[0] if lacks else crashed.cause
    if late := crashed.ending is Ending.DEADLINE:
        last = f"{last}; raise DEADLINE_MINUTES or look at /log {crashed.number}"
    if crashed.number == 0:
        # What to do comes first: an error may be long, and is cut.
        fix = "" if late else f" ({f'{lacks}; restart' if lacks else 'fix and commit it'}, then /start_run)"
        return f"the baseline, your unchanged program, crashed{fix}: {last}{', then /start_run' * late}"
    also = f" ({lacks})" if lacks else ""
    return "" if streak % every else f"{streak} experiments crashed in a row{also}, the last with: {last}"


def skipped(experiment: Experiment, reason: str, best_before: float | None, *, now: float) -> Experiment:
    return replace(
        experiment,
        stage=Stage.DECIDED,
        decided_at=now,
        status=Status.SKIP,
        reason=reason,
        best_before=best_before,
    )


def ended(training: Training, outcome: Outcome) -> Training:
    return replace(
        training,
        started_at=outcome.started_at,
        ended_at=outcome.ended_at,
        ending=outcome.ending,
        exit_code=outcome.exit_code,
        numbers=outcome.numbers,
        error=outcome.error,
        cpu_seconds=outcome.cpu_seconds,
    )
