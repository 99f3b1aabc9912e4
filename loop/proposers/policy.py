"""What the experiments of a run say: whether it is stuck, what to repair, what was trained already."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from loop.experiment import Experiment, Proposal, Status
from loop.program.fingerprint import fingerprint
from loop.proposers.protocol import Context, SearchMode
from loop.store.experiments import Row

AFTER = 15
"""Decided experiments without a keep after which a run is stuck. Published nights keep one of six."""

EVERY = 3
"""Experiments for which a search mode stays before the next one has its turn."""


def idle(experiments: Sequence[Experiment | Row]) -> int:
    """Return how many experiments got a verdict since the last that was kept."""
    count = 0
    for experiment in reversed(experiments):
        if experiment.status is Status.KEEP:
            break
        count += experiment.status in (Status.DISCARD, Status.CRASH)
    return count


def last_gain(experiments: Sequence[Experiment]) -> int | None:
    return next((e.number for e in reversed(experiments) if e.status is Status.KEEP), None)


def search_mode(experiments: Sequence[Experiment], *, after: int = AFTER) -> SearchMode | None:
    """Return what a stuck run tries now, None where it is not stuck; modes take turns until a keep."""
    over = idle(experiments) - after
    modes = tuple(SearchMode)
    return modes[over // EVERY % len(modes)] if over >= 0 else None


MOST = 2
"""Repairs of one idea before it is dropped."""

_RECENT = 2  # the next experiment is proposed while one trains or after it: no crash is missed


def crash_to_repair(experiments: Sequence[Experiment], dropped: Collection[int] = ()) -> Experiment | None:
    """Return the older of the two last decided experiments that crashed and may be repaired.

    It may not if it is among the `dropped`, was repaired already, or is the last repair of its idea.
    """
    recent = [experiment for experiment in experiments if experiment.status is not None][-_RECENT:]
    done = {experiment.repairs for experiment in experiments}.union(dropped)
    crashes = (e for e in recent if e.status is Status.CRASH and e.number not in done)
    return next((crash for crash in crashes if _depth(crash, experiments) < MOST), None)


def _depth(experiment: Experiment, experiments: Sequence[Experiment]) -> int:
    """Return how many repairs in a row led to this experiment."""
    by_number = {other.number: other for other in experiments}
    depth = 0
    found: Experiment | None = experiment
    while found is not None and found.repairs is not None and depth < MOST:
        depth += 1
        found = by_number.get(found.repairs)
    return depth


def trained_already(
    proposal: Proposal, context: Context, find: Callable[[str], Experiment | None] = lambda _: None
) -> str | None:
    """Return why a proposal is no new program, with the earlier result; None where it is one.

    `find` returns the experiment with a fingerprint, for those too old for a context. It may block.
    """
    program = fingerprint(proposal.source)
    recent = next((each for each in context.experiments if each.program == program), None)
    if experiment := recent or find(program):
        result = experiment.status or "under way"
        if experiment.value is not None:
            result = f"{result}, {context.run.metric} {experiment.value:.6f}"
        return f"Same program as experiment #{experiment.number} ({result}), {_BUT}."
    if program == fingerprint(context.source):
        return f"Same program as the best one, {_BUT}."
    return None


_BUT = "apart from layout, comments and seeds"
