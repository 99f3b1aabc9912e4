"""Which crash is worth mending: a pure function of a run's experiments, so that a restart changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from loop.experiment import Experiment, Status

MOST = 2
"""How often one idea is mended before it is dropped."""

_RECENT = 2  # the next experiment is proposed while one trains or after it: no crash is missed


def to_repair(experiments: Sequence[Experiment], dropped: Collection[int] = ()) -> Experiment | None:
    """Return the older of the two last decided experiments that crashed and may be mended.

    It may be unless it is among the `dropped`, a later experiment mends it already, or it is itself the last
    mending that its idea gets.
    """
    recent = [experiment for experiment in experiments if experiment.status is not None][-_RECENT:]
    done = {experiment.repairs for experiment in experiments}.union(dropped)
    crashes = (e for e in recent if e.status is Status.CRASH and e.number not in done)
    return next((crash for crash in crashes if _depth(crash, experiments) < MOST), None)


def _depth(experiment: Experiment, experiments: Sequence[Experiment]) -> int:
    """Return how many mendings in a row led to this experiment."""
    by_number = {other.number: other for other in experiments}
    depth = 0
    found: Experiment | None = experiment
    while found is not None and found.repairs is not None and depth < MOST:
        depth += 1
        found = by_number.get(found.repairs)
    return depth
