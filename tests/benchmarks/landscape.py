"""A training that takes no time: a score over the constants of the training template, and noise.

It is made as such programs were found to be. Most constants hardly matter and a few do; rates, sizes and what
is left of a memory act by their logarithm, with one best place off the default; some depend on each other (a
larger batch wants larger steps); too large a model does not fit, and that is a crash. The gains are of the
size of those in a public log of 126 five-minute trainings, of which the best saved 0.028 of 0.998.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from loop.program.constants import find_constants

START = 0.9979
"""What the program scores as it is, without noise."""

_MEMORY = 1.8  # times what the program takes as it is: beyond it a training does not fit


@dataclass(frozen=True, slots=True)
class _Slope:
    """How a constant (or an element of one) acts.

    Measured by `scale` it is best about `distance` off its default, which is worth about `gain`.
    """

    name: str
    index: int | None
    scale: Callable[[float], float]
    gain: float
    distance: float


def _rest(value: float) -> float:
    return -math.log2(1 - value)


def _fifths(value: float) -> float:
    return 5 * value


def _little(value: float) -> float:
    return math.log2(1 + value / 0.002)


_SLOPES = (
    _Slope("ROTARY_BASE", None, math.log2, 0.0008, 1.5),
    _Slope("SHORT_WINDOW", None, math.log2, 0.0010, 1.5),
    _Slope("HEAD_DIM", None, math.log2, 0.0005, 0.8),
    _Slope("LOGIT_SOFTCAP", None, math.log2, 0.0008, 1.0),
    _Slope("RECALL_INIT", None, math.log2, 0.0008, 1.2),
    _Slope("TOTAL_BATCH_SIZE", None, math.log2, 0.0080, 1.3),
    _Slope("EMBEDDING_LR", None, math.log2, 0.0035, 1.0),
    _Slope("UNEMBEDDING_LR", None, math.log2, 0.0020, 1.2),
    _Slope("SCALAR_LR", None, math.log2, 0.0004, 1.5),
    _Slope("MATRIX_LR", None, math.log2, 0.0040, 1.0),
    _Slope("WEIGHT_DECAY", None, math.log2, 0.0010, 1.3),
    _Slope("EMBEDDING_DECAY", None, _little, 0.0015, 1.2),
    _Slope("ADAM_BETAS", 0, _rest, 0.0006, 1.0),
    _Slope("ADAM_BETAS", 1, _rest, 0.0012, 1.2),
    _Slope("MUON_MOMENTUM", None, _rest, 0.0020, 0.9),
    _Slope("MOMENTUM_WARMUP", None, math.log2, 0.0003, 1.0),
    _Slope("WARMUP_RATIO", None, _fifths, 0.0008, 0.3),
    _Slope("WARMDOWN_RATIO", None, _fifths, 0.0015, 1.2),
    _Slope("FINAL_LR_FRAC", None, _fifths, 0.0008, 0.3),
)


class Landscape:
    """One such score over the program `source`.

    `seed` says on which side of its default each constant is best and how far off, and seeds the noise, whose
    standard deviation is `noise`.
    """

    def __init__(self, source: str, *, seed: int, noise: float) -> None:
        self._noise = noise
        self._chance = random.Random(f"noise {seed}")
        self._defaults = _values(source)
        places = random.Random(f"places {seed}")
        self._best: list[float] = []
        for slope in _SLOPES:
            start = slope.scale(_number(self._defaults, slope.name, slope.index))
            side = 1 if start == 0 else places.choice((-1, 1))
            self._best.append(start + side * slope.distance * places.uniform(0.5, 1.5))
        self._size = places.choice((-1, 1)) * places.uniform(0.3, 0.7)  # doublings of the arithmetic
        self._letters = places.choice((0.0, 0.4, 0.6))  # the share of layers that see all
        self._offset = START - self._loss(self._defaults)

    def measure(self, source: str) -> float | None:
        """Return what a training would print; None for a program that does not fit into the memory."""
        values = _values(source)
        if math.prod(_shape(values)) > _MEMORY * math.prod(_shape(self._defaults)):
            return None
        return round(self._offset + self._loss(values) + self._chance.gauss(0.0, self._noise), 6)

    def true(self, source: str) -> float:
        """Return the score without noise."""
        return self._offset + self._loss(_values(source))

    def _loss(self, values: Mapping[str, object]) -> float:
        batch = math.log2(_number(values, "TOTAL_BATCH_SIZE") / _number(self._defaults, "TOTAL_BATCH_SIZE"))
        warmdown = _fifths(_number(values, "WARMDOWN_RATIO") - _number(self._defaults, "WARMDOWN_RATIO"))
        shifts = {
            ("MATRIX_LR", None): 0.5 * batch,
            ("EMBEDDING_LR", None): 0.3 * batch,
            ("ADAM_BETAS", 1): -0.5 * batch,
            ("FINAL_LR_FRAC", None): 0.1 * warmdown,
        }
        loss = 0.0
        for slope, best in zip(_SLOPES, self._best, strict=True):
            place = slope.scale(_number(values, slope.name, slope.index))
            shift = shifts.get((slope.name, slope.index), 0.0)
            loss += slope.gain * ((place - best - shift) / slope.distance) ** 2
        arithmetic = math.log2(_arithmetic(values) / _arithmetic(self._defaults))
        loss += 0.0045 * ((arithmetic - self._size) / 0.5) ** 2
        pattern = str(values["WINDOW_PATTERN"])
        return loss + 0.02 * (pattern.count("L") / len(pattern) - self._letters) ** 2


def _values(source: str) -> dict[str, object]:
    return {constant.name: constant.value for constant in find_constants(source)}


def _number(values: Mapping[str, object], name: str, index: int | None = None) -> float:
    value = values[name]
    if index is not None:
        assert isinstance(value, tuple)
        value = value[index]
    assert isinstance(value, int | float)
    return value


def _shape(values: Mapping[str, object]) -> tuple[int, int]:
    """Return depth and width, which is rounded up to whole heads."""
    depth, head = int(_number(values, "DEPTH")), int(_number(values, "HEAD_DIM"))
    return depth, head * math.ceil(depth * _number(values, "ASPECT_RATIO") / head)


def _arithmetic(values: Mapping[str, object]) -> float:
    depth, width = _shape(values)
    return depth * width**2
