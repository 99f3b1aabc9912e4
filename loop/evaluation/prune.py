"""Which keeps bring nothing: each is left out of the head in turn, and that program trained.

The program without keep N is `workspace.carry_over(workspace.source(N.parent), N.commit, head)`: its change
taken back from the head. None where later keeps changed the same lines; N cannot be left out alone then.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import fmean

from loop.evaluation.certification import Kept, own_gain, trainings_that_fit
from loop.evaluation.noise import Noise, read_noise
from loop.evidence import Certified
from loop.experiment import Experiment, Goal, Run
from loop.gain import gain
from loop.store.evidence.certifications import left_out_of
from loop.store.evidence.repeats import Repeats
from loop.store.experiments import largest_gains
from loop.store.journal import Journal


def first_to_leave_out(
    keeps: Iterable[Kept], left: float, seconds: float, lanes: int, *, repeats: int
) -> tuple[int, ...]:
    """Return the keeps to leave out, smallest recorded gain first, as many as fit the seconds `left`.

    Each takes `repeats` trainings of `seconds`; the head's are those of the certification. What was left out
    before, and has its own gain, is not again.
    """
    waiting = sorted((keep for keep in keeps if keep.own is None), key=lambda keep: (keep.gain, keep.number))
    return tuple(keep.number for keep in waiting)[: trainings_that_fit(left, seconds, lanes) // repeats]


def removable(own: Mapping[int, Certified], equal_within: float) -> tuple[int, ...]:
    """Return the keeps to be proposed for removal together, by their own gains, the smallest first.

    A keep without a measurable gain has
    an interval that reaches zero and a gain that counts as equal. All of them together may cost no more than
    that either: each alone is too small to see, their sum need not be.
    """
    chosen: list[int] = []
    cost = 0.0
    for number, found in sorted(own.items(), key=lambda item: (item[1].gain, item[0])):
        cost += max(0.0, found.gain)
        if found.low <= 0 and cost <= equal_within:
            chosen.append(number)
    return tuple(chosen)


def read_keeps(journal: Journal, run: Run) -> tuple[Kept, ...]:
    """Return the kept experiments that gained something, by number, each with its own gain if known."""
    head = journal.best(run.id)
    own = own_gains(journal, run, head) if head else {}
    rows = sorted(largest_gains(journal, run.id, most=-1), key=lambda row: row.number)
    return tuple(
        Kept(row.number, better, own.get(row.number))
        for row in rows
        if row.value is not None and row.best_before is not None
        # What was kept for its simplicity gained nothing, nor is there anything to remove.
        if (better := gain(row.best_before, row.value, run.goal)) > 0
    )


def own_gains(journal: Journal, run: Run, head: Experiment) -> dict[int, Certified]:
    """Return what keeps bring that were left out of the head: by new trainings of it, as far as known."""
    repeats = Repeats(journal)
    trained = repeats.values(run.id, run.metric)
    noise = read_noise(journal, run)
    found: dict[int, Certified] = {}
    for keep, numbers in left_out_of(journal, run.id, head.commit).items():
        firsts = {each.number: each.value for each in journal.experiments_at(run.id, numbers)}
        values: list[float] = []
        for number in numbers:
            first = firsts[number]
            values += trained.get(number, () if first is None else (first,))
        own = own_gain(values, trained.get(head.number, ())[1:], run.goal, noise)
        if own is not None:
            found[keep] = own
    return found


def first_look(
    without: float, head: tuple[float, ...], goal: Goal, noise: Noise | None
) -> tuple[float, float]:
    """Return what a keep seems to bring by one training without it, and the error of that; 0 if unknown.

    `head` are the numbers of the program with it, of new trainings if there are any.
    """
    better = goal.sign * (without - fmean(head))
    return better, noise.sigma * math.sqrt(1 + 1 / len(head)) if noise else 0.0
