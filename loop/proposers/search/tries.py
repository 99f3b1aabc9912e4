"""What a careful person would try first of each constant, and in which order; and what is like an experiment.

Order and directions are those of the gains in published logs of such searches: 126 experiments on karpathy's
program, and nanochat's two rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from loop.program.constants import words_of
from loop.proposers.search.space import Axis, Move, Moves, family_of
from loop.store.experiments import Wished

_SHARE = 0.55  # of the way to the end of the ladder: half a step there is lost in the noise, the end is far
_NEAREST = 2  # values of each constant that are tried for one wish
_OF_FAMILY = 2  # other constants of its family

_WEIGHTY = (
    frozenset({"BATCH"}),
    frozenset({"DEPTH", "LAYER", "LAYERS", "ASPECT", "WIDTH", "DIM", "EMBD", "HIDDEN"}),
    frozenset({"LR", "RATE"}),
    frozenset({"WARMDOWN", "COOLDOWN", "MOMENTUM", "BETAS"}),
    frozenset({"DECAY", "WD", "PATTERN", "WINDOW"}),
)
"""The constants that mattered most come first."""

_LIGHT = frozenset({"DEVICE", "HEAD", "SCALAR"})  # what mattered little, whatever its other words are
_LESS = frozenset({"BATCH", "WINDOW", "INIT", "SOFTCAP"})
"""Of these a smaller value is tried first; of rates, sizes, decays and lengths of a schedule a larger one."""


def first_tries(axes: Iterable[Axis]) -> list[Move]:
    """Return a change for each axis, the weightiest first."""
    return [(axis, _first_value(axis)) for axis in sorted(axes, key=_rank)]


def _rank(axis: Axis) -> int:
    words = words_of(axis.constant.name)
    ranks = (rank for rank, group in enumerate(_WEIGHTY) if words & group and not words & _LIGHT)
    return next(ranks, len(_WEIGHTY))


def _first_value(axis: Axis) -> bool | int | float | str:
    here, last = axis.ladder.index(axis.current), len(axis.ladder) - 1
    if not axis.ordered:
        return axis.ladder[0 if here else 1]
    down = here == last or (here > 0 and bool(words_of(axis.constant.name) & _LESS))
    reach = here if down else last - here
    step = max(1, round(_SHARE * reach))
    return axis.ladder[here - step if down else here + step]


def moves_like(wished: Wished, axes: Sequence[Axis]) -> Iterator[Moves]:
    """Yield what is like an experiment, the most alike first: its constants further the same way, together
    and one by one, then others of their family.
    """
    ways = [(axis, values) for axis in axes if (values := _nearest(axis, wished.changed))]
    if len(ways) > 1:
        yield tuple((axis, values[0]) for axis, values in ways)
    for place in range(_NEAREST):
        yield from (((axis, values[place]),) for axis, values in ways if place < len(values))
    names = wished.changed.keys()
    families = {family_of(name) for name in names} or {wished.family}
    others = [axis for axis in axes if axis.constant.name not in names]
    alike = [move for move in first_tries(others) if family_of(move[0].constant.name) in families - {None}]
    yield from ((move,) for move in alike[:_OF_FAMILY])


def _nearest(axis: Axis, changed: Mapping[str, tuple[object, object]]) -> list[bool | int | float | str]:
    """Return the values of an axis that lie where the experiment moved it, the nearest to its own first."""
    if axis.constant.name not in changed:
        return []
    old, new = (axis.read({axis.constant.name: value}) for value in changed[axis.constant.name])
    if old is None or new is None or old == new:
        return []
    others = [value for value in axis.ladder if value != axis.current]
    to = axis.place(new)
    if not axis.ordered or to is None:
        return sorted(others, key=lambda value: value != new)[:_NEAREST]
    sign = 1 if float(new) > float(old) else -1
    side = [value for value in others if sign * (float(value) - float(axis.current)) > 0]
    side.sort(key=lambda value: (abs(axis.ladder.index(value) - to), -sign * float(value)))
    return side[:_NEAREST]
