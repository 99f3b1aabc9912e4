"""What a careful person would try first of each constant, and in which order.

The words are those of names, split at underscores. Order and directions are those of the gains in published
logs of such searches: 126 experiments on karpathy's program, and nanochat's two rounds.
"""

from __future__ import annotations

from collections.abc import Iterable

from loop.proposers.search.space import Axis, Move

_SHARE = 0.55  # of the way to the end of the ladder: half a step there is lost in the noise, the end is far

_WEIGHTY = (
    frozenset({"BATCH"}),
    frozenset({"DEPTH", "LAYER", "LAYERS", "ASPECT", "WIDTH", "DIM", "EMBD", "HIDDEN"}),
    frozenset({"LR", "RATE"}),
    frozenset({"WARMDOWN", "COOLDOWN", "MOMENTUM", "BETAS"}),
    frozenset({"DECAY", "WD", "PATTERN", "WINDOW"}),
)
"""The constants that mattered most come first."""

_LIGHT = frozenset({"DEVICE", "HEAD", "SCALAR"})
"""They mattered little, whatever their other words are."""

_LESS = frozenset({"BATCH", "WINDOW", "INIT", "SOFTCAP"})
"""Of these a smaller value is tried first; of rates, sizes, decays and lengths of a schedule a larger one."""


def first_tries(axes: Iterable[Axis]) -> list[Move]:
    """Return a change for each axis, the weightiest first."""
    return [(axis, _first_value(axis)) for axis in sorted(axes, key=_rank)]


def _words(axis: Axis) -> frozenset[str]:
    return frozenset(axis.constant.name.split("_"))


def _rank(axis: Axis) -> int:
    words = _words(axis)
    ranks = (rank for rank, group in enumerate(_WEIGHTY) if words & group and not words & _LIGHT)
    return next(ranks, len(_WEIGHTY))


def _first_value(axis: Axis) -> bool | int | float | str:
    here, last = axis.ladder.index(axis.current), len(axis.ladder) - 1
    if not axis.ordered:
        return axis.ladder[0 if here else 1]
    down = here == last or (here > 0 and bool(_words(axis) & _LESS))
    reach = here if down else last - here
    step = max(1, round(_SHARE * reach))
    return axis.ladder[here - step if down else here + step]
