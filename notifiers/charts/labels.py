"""Where labels go: boxes in pixels, placed near their points without covering anything.

What lies beyond the running best, towards better values, is empty by nature: labels go there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TypeAlias

_STEPS = 24  # how many distances from the point are tried
_SHIFTS = (0.5, 0.0, 1.0, 0.25, 0.75)  # how much of a label is left of its point
_SHORTER = 4.0  # a shorter text is chosen when the longer one would go more steps further away
_MISSING = 40.0  # any place is better than none
_MARGIN = (16.0, 2.0)  # pixels between two labels, beside and above each other


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle; y grows upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def grown(self, x: float, y: float) -> Box:
        """Return the rectangle with a margin on each side."""
        return Box(self.left - x, self.bottom - y, self.right + x, self.top + y)

    def meets(self, other: Box) -> bool:
        """Say whether the two overlap."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.bottom < other.top
            and other.bottom < self.top
        )

    def within(self, other: Box) -> bool:
        """Say whether it lies inside of `other`."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.bottom >= other.bottom
            and self.top <= other.top
        )


@dataclass(frozen=True, slots=True)
class Label:
    """A point, and the widths and heights of the texts that may stand for it, the longest first."""

    x: float
    y: float
    sizes: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a label goes: which of its texts, its box, and the line to its point unless it is beside it."""

    text: int
    box: Box
    leader: Box | None

    @property
    def boxes(self) -> tuple[Box, ...]:
        """All that it covers."""
        return (self.box,) if self.leader is None else (self.box, self.leader)

    def meets(self, other: Place) -> bool:
        """Say whether the two labels or their lines are too close."""
        return any(mine.grown(*_MARGIN).meets(box) for mine in self.boxes for box in other.boxes)


_Options: TypeAlias = list[tuple[float, Place]]


def place(
    labels: Sequence[Label], *, upwards: bool, inside: Box, taken: Sequence[Box], gap: float
) -> list[Place | None]:
    """Return the best places for a handful of labels, None for one that there is no room for.

    `upwards` is where better values are; `gap` is the distance from a point to a label next to it; nothing
    covers what is `taken`. Of all orders in which each label takes the best place that is left, the one is
    chosen with the most labels, the nearest to their points and the longest; the first labels count most.
    """
    options = [_options(label, upwards=upwards, inside=inside, taken=taken, gap=gap) for label in labels]
    results = (_in_order(order, options) for order in permutations(range(len(labels))))
    return min(results, key=lambda result: result[0])[1]


def _in_order(order: Sequence[int], options: Sequence[_Options]) -> tuple[float, list[Place | None]]:
    """Return what is against the places that labels find in an order, and the places."""
    places: list[Place | None] = [None] * len(options)
    against = 0.0
    for index in order:
        found = next(
            (
                (cost, option)
                for cost, option in options[index]
                if not any(other is not None and option.meets(other) for other in places)
            ),
            None,
        )
        weight = len(options) - index
        if found is None:
            against += weight * _MISSING
        else:
            against += weight * found[0]
            places[index] = found[1]
    return against, places


def _options(label: Label, *, upwards: bool, inside: Box, taken: Sequence[Box], gap: float) -> _Options:
    """Return the places where a label covers nothing, the best first, with what is against each."""
    candidates = [
        (cost + _SHORTER * text, Place(text, box, leader))
        for text, size in enumerate(label.sizes)
        for cost, box, leader in _candidates(label, size, upwards=upwards, gap=gap)
        if box.within(inside)
    ]
    free = _free([option for _, option in candidates], taken)
    return sorted((c for c, is_free in zip(candidates, free, strict=True) if is_free), key=lambda c: c[0])


def _free(places: Sequence[Place], taken: Sequence[Box]) -> list[bool]:
    """Say of each place whether it meets nothing; there may be ten thousand boxes to be met."""
    import numpy as np

    def edges(boxes: Sequence[Box]) -> np.ndarray:
        return np.array([(box.left, box.bottom, box.right, box.top) for box in boxes]).reshape(-1, 4).T

    left, bottom, right, top = edges(taken)
    free = []
    for one in places:
        met = [
            (box.left < right) & (left < box.right) & (box.bottom < top) & (bottom < box.top)
            for box in one.boxes
        ]
        free.append(not np.any(met))
    return free


def _candidates(
    label: Label, size: tuple[float, float], *, upwards: bool, gap: float
) -> Iterator[tuple[float, Box, Box | None]]:
    """Yield places with what is against each: left of the point, then further and further beyond it."""
    x, y = label.x, label.y
    width, height = size
    beside = y if upwards else y - height
    yield 0.0, Box(x - gap - width, beside, x - gap, beside + height), None
    for step in range(_STEPS):
        away = gap * (1 + step)
        bottom = y + away if upwards else y - away - height
        near, far = (y + gap / 2, bottom) if upwards else (bottom + height, y - gap / 2)
        leader = Box(x - 1, near, x + 1, far) if step else None
        for turn, shift in enumerate(_SHIFTS):
            left = x - shift * width
            yield 0.5 + step + turn / 10, Box(left, bottom, left + width, bottom + height), leader
