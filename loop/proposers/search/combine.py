"""Changes that nearly helped, made together on the best program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, combinations

from loop.experiment import Experiment, Goal
from loop.proposers.search.changes import Moves
from loop.proposers.search.space import Axis, Key
from loop.proposers.search.trials import Trials
from loop.results.memory import near_misses

_NEAREST = 8
_AXES = 4  # that a near miss may have moved: more at once say little about each
_TOGETHER = 6  # that a combination may move: a description of more is hard to read


def combined_misses(
    experiments: Sequence[Experiment], axes: Sequence[Axis], trials: Trials, goal: Goal, *, most: int
) -> Iterator[tuple[tuple[Experiment, ...], Moves]]:
    """Yield near misses that can be made together on the best program, with what they moved.

    First `most` at once, then fewer, down to two; the nearest first. Two of them may have moved an axis to
    the same value.
    """
    by_key = {axis.key: axis for axis in axes}
    misses = [
        (miss, moves)
        for miss in near_misses(experiments, goal, most=_NEAREST)
        if (moves := _moves(miss, by_key, trials))
    ]
    for size in range(most, 1, -1):
        for places in sorted(combinations(range(len(misses)), size), key=sum):
            moves = tuple(dict.fromkeys(chain.from_iterable(misses[place][1] for place in places)))
            agree = len({axis.key for axis, _ in moves}) == len(moves)
            if agree and len(moves) <= _TOGETHER and trials.is_open(moves):
                yield tuple(misses[place][0] for place in places), moves


def _moves(miss: Experiment, axes: Mapping[Key, Axis], trials: Trials) -> Moves:
    """Return the change that missed; nothing unless what it moved has the value that it was moved from."""
    changed = trials.changes[miss.number]
    fits = len(changed) <= _AXES and all(before == axes[key].current for key, (before, _) in changed.items())
    return tuple((axes[key], after) for key, (_, after) in changed.items()) if fits else ()
