"""Changes that nearly helped, made together on the best program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from loop.experiment import Experiment, Goal
from loop.memory import near_misses
from loop.proposers.changes import Moves
from loop.proposers.space import Axis, Key
from loop.proposers.trials import Trials

_NEAREST = 8
_AXES = 2  # that a near miss may have moved: more at once say little about each


def combined_misses(
    experiments: Sequence[Experiment], axes: Sequence[Axis], trials: Trials, goal: Goal, *, most: int
) -> Iterator[tuple[tuple[Experiment, ...], Moves]]:
    """Yield near misses that can be made together on the best program, with what they moved.

    First `most` at once, then fewer, down to two; the nearest first.
    """
    by_key = {axis.key: axis for axis in axes}
    misses = [
        (miss, moves)
        for miss in near_misses(experiments, goal, most=_NEAREST)
        if (moves := _moves(miss, by_key, trials))
    ]
    for size in range(most, 1, -1):
        for places in sorted(combinations(range(len(misses)), size), key=sum):
            moves = tuple(move for place in places for move in misses[place][1])
            if len({axis.key for axis, _ in moves}) == len(moves):
                yield tuple(misses[place][0] for place in places), moves


def _moves(miss: Experiment, axes: Mapping[Key, Axis], trials: Trials) -> Moves:
    """Return the change that missed; nothing unless what it moved has the value that it was moved from."""
    changed = trials.changes[miss.number]
    fits = all(
        before == axes[key].current and not trials.is_closed(axes[key], after)
        for key, (before, after) in changed.items()
    )
    return (
        tuple((axes[key], after) for key, (_, after) in changed.items())
        if fits and len(changed) <= _AXES
        else ()
    )
