"""Which keeps bring nothing: each is left out of the head in turn, and that program trained.

The program without keep N is `workspace.carry_over(workspace.source(N.parent), N.commit, head)`: its change
taken back from the head. None where later keeps changed the same lines; N cannot be left out alone then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from loop.evaluation.certification import Kept, trainings_that_fit
from loop.evidence import Certified


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
