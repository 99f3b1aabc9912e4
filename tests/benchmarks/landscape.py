"""Trainings that take no time: scores over the constants of a program, and noise.

They are made as such programs were found to be. Most constants hardly matter and a few do; rates, sizes and
what is left of a memory act by their logarithm, with one best place off the default; some depend on each
other (a larger batch wants larger steps); too large a model does not fit, and that is a crash. The gains
are of the size of those in a public log of 126 five-minute trainings, of which the best saved 0.028 of
0.998.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import training
from loop.program.constants import find_constants

START = 0.9979
"""What a program scores as it is, without noise."""

DEVICE = "NVIDIA H100, 81559 MiB"
_MEMORY = 81_000.0  # MiB; beyond them a training does not fit
_USED = 45_000.0  # by a program as it is

Values: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _Slope:
    """How a constant (or an element of one) acts.

    Measured by `scale` it is best about `distance` off its default, which is worth about `gain`; on either
    side unless the side is `known` from real trainings.
    """

    name: str
    index: int | None
    scale: Callable[[float], float]
    gain: float
    distance: float
    known: bool = False


def _rest(value: float) -> float:
    return -math.log2(1 - value)


def _fifths(value: float) -> float:
    return 5 * value


def _little(value: float) -> float:
    return math.log2(1 + value / 0.002)


_TEMPLATE = (
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

# As a public log of 126 trainings of five minutes has it; what it did not find is small and on either side.
_PUBLISHED = (
    _Slope("TOTAL_BATCH_SIZE", None, math.log2, 0.0100, -1.2, known=True),
    _Slope("EMBEDDING_LR", None, math.log2, 0.0030, 0.6, known=True),
    _Slope("UNEMBEDDING_LR", None, math.log2, 0.0010, 0.4, known=True),
    _Slope("WARMDOWN_RATIO", None, _fifths, 0.0009, 1.2, known=True),
    _Slope("FINAL_LR_FRAC", None, _fifths, 0.0006, 0.3, known=True),
    _Slope("MATRIX_LR", None, math.log2, 0.0008, 0.7),
    _Slope("SCALAR_LR", None, math.log2, 0.0003, 1.2),
    _Slope("WEIGHT_DECAY", None, math.log2, 0.0005, 1.0),
    _Slope("ADAM_BETAS", 0, _rest, 0.0003, 0.8),
    _Slope("ADAM_BETAS", 1, _rest, 0.0006, 1.0),
    _Slope("HEAD_DIM", None, math.log2, 0.0004, 0.8),
    _Slope("WARMUP_RATIO", None, _fifths, 0.0002, 0.05),
)

_MORE = (
    _Slope("ROTARY_BASE", None, math.log2, 0.0012, 4.0, known=True),
    _Slope("SHORT_WINDOW", None, math.log2, 0.0009, -2.0, known=True),
    _Slope("X0_INIT", None, math.log2, 0.0008, -1.0, known=True),
    _Slope("INIT_SCALE", None, math.log2, 0.0006, -0.6, known=True),
    _Slope("MOMENTUM_WARMUP", None, math.log2, 0.0003, -0.6, known=True),
    _Slope("VALUE_DECAY", None, _little, 0.0016, 1.2, known=True),
    _Slope("EMBEDDING_DECAY", None, _little, 0.0002, 0.6, known=True),
    _Slope("MUON_MOMENTUM", None, _rest, 0.0006, 0.6),
    _Slope("LOGIT_SOFTCAP", None, math.log2, 0.0004, 0.8),
    _Slope("QK_SCALE", None, math.log2, 0.0005, 0.3),
    _Slope("VALUE_LR_SCALE", None, math.log2, 0.0003, 0.8),
    _Slope("MLP_RATIO", None, math.log2, 0.0006, 0.5),
)

_CONSTANTS = """\
ASPECT_RATIO = 64
HEAD_DIM = 128
WINDOW_PATTERN = "SSSL"
TOTAL_BATCH_SIZE = 2**19
EMBEDDING_LR = 0.6
UNEMBEDDING_LR = 0.004
MATRIX_LR = 0.04
SCALAR_LR = 0.5
WEIGHT_DECAY = 0.2
ADAM_BETAS = (0.8, 0.95)
WARMUP_RATIO = 0.0
WARMDOWN_RATIO = 0.5
FINAL_LR_FRAC = 0.0
DEPTH = 8
DEVICE_BATCH_SIZE = 128
"""

_MORE_CONSTANTS = """\
ROTARY_BASE = 10_000
SHORT_WINDOW = 1024
X0_INIT = 0.1
INIT_SCALE = 1.0
MOMENTUM_WARMUP = 300
VALUE_DECAY = 0.0
EMBEDDING_DECAY = 0.0
MUON_MOMENTUM = 0.95
LOGIT_SOFTCAP = 15.0
QK_SCALE = 1.0
VALUE_LR_SCALE = 1.0
MLP_RATIO = 4.0
RESIDUAL_INIT = 1.0
NEWTON_STEPS = 5
MUON_BETA2 = 0.95
GATE_CHANNELS = 32
ADAM_EPS = 1e-10
"""


@dataclass(frozen=True, slots=True)
class _Kind:
    """What the seeds of a landscape have in common.

    `size` is how many doublings of the arithmetic are best, None for some on either side, worth `size_gain`.
    `ties` is how strongly each constant depends on two others, from 0 to 0.5, and `jitter` how much the gains
    differ from seed to seed. The constant `rows` multiplies the memory and has to divide the batch: the
    program asserts it. Rates are best as said at a batch of `batch` doublings, and a larger one moves them by
    `shift` times the usual.
    """

    program: str
    slopes: tuple[_Slope, ...]
    size: float | None = None
    size_gain: float = 0.0045
    ties: float = 0.0
    jitter: float = 0.0
    rows: str = ""
    batch: float = 0.0
    shift: float = 1.0


def _template() -> str:
    """Return only the constants: they are all that a landscape knows, and are read faster alone."""
    source = (Path(training.__file__).parent / "train.py").read_text(encoding="utf-8")
    return "".join(f"{constant.name} = {constant.text}\n" for constant in find_constants(source))


_HEAD = "from prepare import MAX_SEQ_LEN\n"
_BATCH = """\
model_dim = (DEPTH * ASPECT_RATIO + HEAD_DIM - 1) // HEAD_DIM * HEAD_DIM
tokens_per_fwdbwd = DEVICE_BATCH_SIZE * MAX_SEQ_LEN
assert TOTAL_BATCH_SIZE % tokens_per_fwdbwd == 0
grad_accum_steps = TOTAL_BATCH_SIZE // tokens_per_fwdbwd
"""
_CONTEXT = 2048
FILES = {"prepare.py": f"MAX_SEQ_LEN = {_CONTEXT}\n"}
"""What the programs import."""

_as_published = functools.partial(
    _Kind, size=0.6, size_gain=0.0043, jitter=0.2, rows="DEVICE_BATCH_SIZE", batch=-1.2, shift=0.3
)

_KINDS: Mapping[str, Callable[[], _Kind]] = {
    "template": lambda: _Kind(_template(), _TEMPLATE),
    "jittered": lambda: _Kind(_template(), _TEMPLATE, ties=0.4, jitter=0.5),
    "published": lambda: _as_published(_HEAD + _CONSTANTS + _BATCH, _PUBLISHED),
    "wide": lambda: _as_published(_HEAD + _CONSTANTS + _MORE_CONSTANTS + _BATCH, _PUBLISHED + _MORE),
}

NAMES = tuple(_KINDS)


class Landscape:
    """One such score over the constants of its `program`.

    `name` is one of `NAMES`:

    - `template`: the training template, in which few constants depend on each other;
    - `jittered`: the same with other gains, no parabolas, and each constant tied to two others;
    - `published`: karpathy's 15 constants, best where a public log found them to be;
    - `wide`: 17 more of the kind, most of which hardly matter.

    `seed` says on which side of its default each constant is best and how far off, and seeds the noise, whose
    standard deviation is `noise`.
    """

    def __init__(self, name: str, *, seed: int, noise: float) -> None:
        kind = _KINDS[name]()
        self.program = kind.program
        self._kind = kind
        self._noise = noise
        self._chance = random.Random(f"noise {seed}")
        self._defaults = _values(kind.program)
        places = random.Random(f"places {seed}")
        self._best: list[float] = []
        for slope in kind.slopes:
            start = slope.scale(_number(self._defaults, slope.name, slope.index))
            side = 1 if start == 0 or slope.known else places.choice((-1, 1))
            spread = 0.3 if slope.known else 0.5
            self._best.append(start + side * slope.distance * places.uniform(1 - spread, 1 + spread))
        if kind.size is None:
            self._size = places.choice((-1, 1)) * places.uniform(0.3, 0.7)  # doublings of the arithmetic
        else:
            self._size = kind.size * places.uniform(0.7, 1.3)
        self._letters = places.choice((0.0, 0.4, 0.6))  # the share of layers that see all
        self._jitter(random.Random(f"jitter {seed}"), kind)
        self._offset = START - self._loss(self._defaults)

    def _jitter(self, chance: random.Random, kind: _Kind) -> None:
        """Multiply gains, make one side of each constant steeper, and tie each to two others in a ring."""
        count = len(kind.slopes)
        gains = [slope.gain * math.exp(chance.gauss(0.0, kind.jitter)) for slope in kind.slopes]
        self._gains = gains
        self._skews = [chance.uniform(-kind.jitter, kind.jitter) if kind.ties else 0.0 for _ in gains]
        ring = chance.sample(range(count), count)
        self._ties = [
            (one, other, chance.choice((-1, 1)) * kind.ties * math.sqrt(gains[one] * gains[other]))
            for one, other in zip(ring, ring[1:] + ring[:1], strict=True)
            if kind.ties
        ]

    def measure(self, source: str) -> float | None:
        """Return what a training would print; None for a program that crashes."""
        values = _values(source)
        if not fits(self._memory(values)):
            return None
        if self._kind.rows:
            step = int(_number(values, self._kind.rows)) * _CONTEXT
            if step <= 0 or _number(values, "TOTAL_BATCH_SIZE") % step:
                return None
        return round(self._offset + self._loss(values) + self._chance.gauss(0.0, self._noise), 6)

    def true(self, source: str) -> float:
        """Return the score without noise."""
        return self._offset + self._loss(_values(source))

    def memory(self, source: str) -> float:
        """Return the MiB that a training would take."""
        return self._memory(_values(source))

    def _memory(self, values: Values) -> float:
        def size(values: Values) -> float:
            return math.prod(_shape(values)) * (_number(values, self._kind.rows) if self._kind.rows else 1)

        return _USED * size(values) / size(self._defaults)

    def _loss(self, values: Values) -> float:
        batch = math.log2(_number(values, "TOTAL_BATCH_SIZE") / _number(self._defaults, "TOTAL_BATCH_SIZE"))
        warmdown = _fifths(_number(values, "WARMDOWN_RATIO") - _number(self._defaults, "WARMDOWN_RATIO"))
        batch = self._kind.shift * (batch - self._kind.batch)
        shifts = {
            ("MATRIX_LR", None): 0.5 * batch,
            ("EMBEDDING_LR", None): 0.3 * batch,
            ("ADAM_BETAS", 1): -0.5 * batch,
            ("FINAL_LR_FRAC", None): 0.1 * warmdown,
        }
        offs = []
        for slope, best in zip(self._kind.slopes, self._best, strict=True):
            place = slope.scale(_number(values, slope.name, slope.index))
            shift = shifts.get((slope.name, slope.index), 0.0)
            offs.append((place - best - shift) / abs(slope.distance))
        loss = 0.0
        for off, gain, skew in zip(offs, self._gains, self._skews, strict=True):
            loss += gain * off**2 * (1 + skew * math.tanh(off))
        for one, other, strength in self._ties:
            loss += strength * math.tanh(offs[one]) * math.tanh(offs[other])
        arithmetic = math.log2(_arithmetic(values) / _arithmetic(self._defaults))
        loss += self._kind.size_gain * ((arithmetic - self._size) / (self._kind.size or 0.5)) ** 2
        pattern = str(values["WINDOW_PATTERN"])
        return loss + 0.02 * (pattern.count("L") / len(pattern) - self._letters) ** 2


def fits(memory: float) -> bool:
    """Whether so many MiB fit on the device."""
    return memory <= _MEMORY


def _values(source: str) -> dict[str, object]:
    return {constant.name: constant.value for constant in find_constants(source)}


def _number(values: Values, name: str, index: int | None = None) -> float:
    value = values[name]
    if index is not None:
        assert isinstance(value, tuple)
        value = value[index]
    assert isinstance(value, int | float)
    return value


def _shape(values: Values) -> tuple[int, int]:
    """Return depth and width, which is rounded up to whole heads."""
    depth, head = int(_number(values, "DEPTH")), int(_number(values, "HEAD_DIM"))
    return depth, head * math.ceil(depth * _number(values, "ASPECT_RATIO") / head)


def _arithmetic(values: Values) -> float:
    depth, width = _shape(values)
    return depth * width**2
