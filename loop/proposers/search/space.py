"""The search space: which constants may be changed, to which values, and a change of some of them in words.

Every axis is a finite ladder of values around the present one, so that proposals read well (`0.6 → 0.8`),
differ by more than the noise of a training, and run out instead of repeating.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from loop.experiment import Family
from loop.program.constants import (
    HORIZON,
    LAYERS,
    Constant,
    Value,
    find_constants,
    is_device_batch,
    is_protected,
    replace_constants,
    whole_name,
    words_of,
    write_value,
)
from loop.program.demands.requirements import Requirements, known_letters, read_requirements
from loop.proposers.search.memory import size_of

Scalar: TypeAlias = bool | int | float | str
Key: TypeAlias = tuple[str, int]

# Two neighbours differ by 10 to 25 %: a smaller step of a rate is lost in the noise.
_MANTISSAS = (1.0, 1.2, 1.5, 1.8, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)
_FLOAT_FACTOR = 3.0  # a ladder reaches from a third of its value to three times it
_INT_FACTOR = 2.0
_COUNT_REACH = 2
_FRACTION_STEP = 0.05
_FRACTION_REACH = 0.3
_LARGEST_HEAD = 256  # channels: attention kernels take no more
_PATTERN_LENGTH = 12
_PATTERN_LETTERS = 3
_MANY_LAYERS = 24  # where the program does not say how many there are

# Words of a name.
_RATES = frozenset({"LR", "RATE"})
_FRACTIONS = frozenset(
    {"RATIO", "FRAC", "FRACTION", "PROB", "PROBABILITY", "DROPOUT", "PERCENT", "THRESHOLD", "QUANTILE"}
)
_MEMORIES = frozenset({"BETA", "BETA1", "BETA2", "BETAS", "MOMENTUM", "EMA"})
_COUNTS = frozenset({"DEPTH", "LAYER", "LAYERS", "BLOCKS", "HEAD", "HEADS", "EXPERTS", "GROUPS"})
_SIZES = frozenset(
    {"BATCH", "DIM", "SIZE", "WIDTH", "EMBD", "HIDDEN", "SEQ", "LEN", "LENGTH", "CONTEXT", "WINDOW"}
    | {"CHANNELS", "BLOCK"}
)
_TINIEST, _LARGEST = 1e-30, 1e15  # beyond them a number is a marker, not an amount, and not exact


@dataclass(frozen=True, slots=True)
class Axis:
    """One thing to change: a constant, or one element of a constant that is a tuple.

    `ladder` holds the values it may take, the present one among them; they are in rising order where
    `ordered`, else without any.
    """

    constant: Constant
    index: int | None
    ladder: tuple[Scalar, ...]
    ordered: bool

    @property
    def key(self) -> Key:
        """What names the axis in every version of the program: the constant and the element, -1 for none."""
        return self.constant.name, -1 if self.index is None else self.index

    @property
    def current(self) -> Scalar:
        value = self.read({self.constant.name: self.constant.value})
        assert value is not None
        return value

    def read(self, constants: Mapping[str, object]) -> Scalar | None:
        """Return this axis's value among the constants of some version; None where there is none like it."""
        value = constants.get(self.constant.name)
        if self.index is not None:
            whole = value if isinstance(value, tuple | list) else ()  # a list: a tuple that went through JSON
            value = whole[self.index] if len(whole) > self.index else None
        return value if isinstance(value, bool | int | float | str) else None

    @property
    def is_amount(self) -> bool:
        """Whether more of it takes more memory and time: a whole number."""
        return isinstance(self.current, int) and not isinstance(self.current, bool)

    def place(self, value: Scalar) -> float | None:
        """Return the place of `value` on the ladder, fractional between two steps, at most an end.

        None for no number, or for an unknown value of an axis without order.
        """
        if not self.ordered:
            return float(self.ladder.index(value)) if value in self.ladder else None
        if isinstance(value, str) or value != value:
            return None
        ladder = [float(step) for step in self.ladder]
        above = bisect_left(ladder, value)
        if above == len(ladder):
            return above - 1.0
        if above == 0 or ladder[above] == value:
            return float(above)
        return above - (ladder[above] - value) / (ladder[above] - ladder[above - 1])

    def direction(self, before: Scalar | None, after: Scalar) -> int:
        """Return whether a value rises, 1, or falls, -1; 0 where there is no order."""
        if not self.ordered or not isinstance(before, int | float) or not isinstance(after, int | float):
            return 0
        return (after > before) - (after < before)

    def moved(self, value: Scalar, whole: Value) -> Value:
        """Return `whole`, a value of the constant, with this axis set to `value`."""
        if self.index is None or not isinstance(whole, tuple):
            return value
        assert not isinstance(value, str)
        return *whole[: self.index], value, *whole[self.index + 1 :]


def axis_values(axes: Iterable[Axis], constants: Mapping[str, object]) -> dict[Key, Scalar]:
    """Return the values of these axes in a version of the program, of those that it has."""
    return {axis.key: value for axis in axes if (value := axis.read(constants)) is not None}


def find_axes(
    constants: Sequence[Constant], frozen: Collection[str], letters: Collection[frozenset[str]] = ()
) -> tuple[Axis, ...]:
    """Return what may be varied. `letters` are sets of letters that the program tells apart."""
    depths = (constant.value for constant in constants if whole_name(constant.name) in LAYERS)
    layers = next((depth for depth in depths if isinstance(depth, int)), _MANY_LAYERS)
    axes = []
    for constant in constants:
        if constant.name in frozen or is_protected(constant.name):
            continue
        whole = constant.value
        parts = enumerate(whole) if isinstance(whole, tuple) else [(None, whole)]
        for index, value in parts:
            ladder = _ladder(constant, value, layers, letters)
            if len(ladder) > 1:
                axes.append(Axis(constant, index, ladder, ordered=not isinstance(value, bool | str)))
    return tuple(axes)


def _ladder(
    constant: Constant, value: Scalar, layers: int, letters: Collection[frozenset[str]]
) -> tuple[Scalar, ...]:
    words = words_of(constant.name)
    if isinstance(value, bool):
        return (False, True)
    if isinstance(value, str):
        is_pattern = "PATTERN" in words or len(set(value)) < len(value)
        return _pattern_ladder(value, layers, letters) if is_pattern else ()
    if value and not _TINIEST < abs(value) < _LARGEST:
        return ()
    if words & (_FRACTIONS | _RATES) and value <= 1:
        value = float(value)
    steps: Iterable[float]
    if value == 0:
        steps = _first_steps(value, words)
    elif isinstance(value, int):
        steps = _int_ladder(value, words, constant.text)
    elif words & _FRACTIONS and 0 < value <= 1:
        steps = _fraction_ladder(value)
    elif (words & _MEMORIES and 0.5 <= value < 1) or (not words & _RATES and 0.9 <= value < 1):
        steps = (round(1 - rest, 10) for rest in _preferred(1 - value, _FLOAT_FACTOR) if rest <= 0.5)
    else:
        sign = 1 if value > 0 else -1
        steps = (sign * step for step in _preferred(abs(value), _FLOAT_FACTOR))
    return tuple(sorted({*steps, value}))


def is_share(name: str) -> bool:
    return bool(words_of(name) & _FRACTIONS)


def is_size(name: str) -> bool:
    """Tell whether it counts or measures something that there must be."""
    return bool(words_of(name) & (_COUNTS | _SIZES))


def _first_steps(zero: float, words: frozenset[str]) -> tuple[float, ...]:
    """What to try instead of nothing: a little."""
    if words & _FRACTIONS:
        return (0.02, 0.05, 0.1)
    if isinstance(zero, int):
        return (10, 30, 100) if words & HORIZON else (1, 2)
    return (0.001, 0.01, 0.1)


def _int_ladder(value: int, words: frozenset[str], text: str) -> Iterable[int]:
    if value < 0:
        return ()  # a marker such as -1, not an amount
    sizes = (value * 2, value // 2) if value % 2 == 0 else (value * 2,)
    if not words & _COUNTS or words & {"DIM", "SIZE"}:
        power = value & (value - 1) == 0 and (value >= 256 or "**" in text)
        if words & _SIZES or power:
            return [size for size in sizes if "HEAD" not in words or size <= _LARGEST_HEAD]
        if value >= 10:
            factor = _INT_FACTOR if value < 1000 else _FLOAT_FACTOR
            return (round(step) for step in _preferred(float(value), factor))
    near = range(max(1, value - _COUNT_REACH), value + _COUNT_REACH + 1)
    return (*near, *sizes) if words & {"HEAD", "HEADS"} else near  # few near it divide a width


def _fraction_ladder(value: float) -> Iterable[float]:
    if value < 2 * _FRACTION_STEP:
        return (0.0, *_preferred(value, _FLOAT_FACTOR))
    grid = (round(count * _FRACTION_STEP, 10) for count in range(round(1 / _FRACTION_STEP)))  # below 1
    return (step for step in grid if abs(step - value) <= _FRACTION_REACH + 1e-9)


def _preferred(value: float, factor: float) -> list[float]:
    low, high = value / factor * (1 - 1e-9), value * factor * (1 + 1e-9)
    exponent = int(f"{low:e}".partition("e")[2])
    steps = []
    while float(f"1e{exponent}") <= high:
        steps += [step for m in _MANTISSAS if low <= (step := float(f"{m}e{exponent}")) <= high]
        exponent += 1
    return steps


def _pattern_ladder(pattern: str, layers: int, letters: Collection[frozenset[str]]) -> tuple[str, ...]:
    """Return `pattern` and its neighbours: one letter changed, added or left out.

    A pattern is a short word of few capital letters, one a layer, repeated; words that give the same layers
    are one. The last layer does not count: programs of this kind make it a full one. Letters that the
    program tells apart from those of the pattern may come in.
    """
    own = set(pattern)
    few = len(own) <= _PATTERN_LETTERS and len(pattern) <= _PATTERN_LENGTH
    if not (pattern.isascii() and pattern.isalpha() and pattern.isupper() and few):
        return ()
    alphabet = sorted(own.union(*(known for known in letters if known >= own)))
    words = [pattern]
    for place in range(len(pattern) + 1):
        before, after = pattern[:place], pattern[place:]
        words += [before + letter + after for letter in alphabet]
        if after:
            words += [before + letter + after[1:] for letter in alphabet]
            words.append(before + after[1:])
    programs: dict[str, str] = {}
    for word in sorted(words, key=lambda word: (word != pattern, len(word))):
        if 0 < len(word) <= _PATTERN_LENGTH:
            programs.setdefault((word * layers)[: max(layers - 1, 0)], word)
    return tuple(programs.values())


# Changes

Move: TypeAlias = tuple[Axis, Scalar]  # an axis and the value to set it to
Moves: TypeAlias = tuple[Move, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A change with its words. `constants` are those of the program that `write` returns."""

    description: str
    constants: Mapping[str, Value]
    write: Callable[[], str]


@dataclass(frozen=True, slots=True)
class BestProgram:
    """The best program so far, and its constants.

    `requirements` is what its text demands of them, None where that is not known; `followers` are batch sizes
    of the device, which are lowered where a batch that is moved demands it. `letters` is for `find_axes`.
    """

    source: str
    constants: tuple[Constant, ...]
    requirements: Requirements | None = None
    followers: tuple[str, ...] = ()
    letters: tuple[frozenset[str], ...] = ()

    @property
    def present(self) -> dict[str, Value]:
        return {constant.name: constant.value for constant in self.constants}

    def after(self, moves: Moves) -> Mapping[str, Value] | None:
        """Return all constants after these moves, with those that follow.

        None where the program's text forbids the moves, or one of them changes nothing.
        """
        values = self._moved(moves)
        if self.requirements is None:
            return values
        followed = self._followed(values, self.requirements)
        names = {axis.constant.name for axis, _ in moves}
        if followed is None or not all(self.requirements.has_effect(name, followed) for name in names):
            return None
        return followed

    def _moved(self, moves: Moves) -> dict[str, Value]:
        values = self.present
        for axis, value in moves:
            values[axis.constant.name] = axis.moved(value, values[axis.constant.name])
        return values

    def _followed(self, values: dict[str, Value], requirements: Requirements) -> dict[str, Value] | None:
        broken = requirements.broken(values)
        for name in self.followers:
            rows = values[name] if name in broken else None
            while isinstance(rows, int) and rows > 1:
                rows //= 2
                lowered = {**values, name: rows}
                if not requirements.broken(lowered):
                    return lowered
        return None if broken else values

    def size(self, values: Mapping[str, Value]) -> float:
        """Return what a training's memory grows with when the constants have these values."""
        return size_of(self.requirements, values) if self.requirements else 1.0

    def size_then(self, constants: Mapping[str, object]) -> float:
        """Return the size of this program with an experiment's constants, as far as it has them."""
        values = self.present
        for name, then in constants.items():
            value = tuple(then) if isinstance(then, list) else then  # it went through JSON
            if name in values and isinstance(value, type(values[name])):
                values[name] = value
        return self.size(values)

    def change(self, moves: Moves) -> Change:
        present, values = self.present, self.after(moves) or self._moved(moves)
        after = {name: value for name, value in values.items() if value != present[name]}
        return Change(
            description=_describe(self.constants, after),
            constants=values,
            write=partial(replace_constants, self.source, after),
        )


def read_program(source: str, files: Mapping[str, str], frozen: Collection[str]) -> BestProgram:
    """Return a program with what its text tells. `files` are others by their path, `frozen` names stay."""
    constants = find_constants(source)
    followers = (each.name for each in constants if is_device_batch(each.name) and each.name not in frozen)
    requirements = read_requirements(source, files)
    return BestProgram(source, constants, requirements, tuple(followers), known_letters(source))


def _shown(value: Value, constant: Constant) -> str:
    if isinstance(value, str):
        return value
    return write_value(value, like="" if isinstance(value, tuple) else constant.text)


def _describe(constants: Sequence[Constant], after: Mapping[str, Value]) -> str:
    return ", ".join(
        f"{constant.name} {_shown(constant.value, constant)} → {_shown(after[constant.name], constant)}"
        for constant in constants
        if constant.name in after
    )


# The first family that knows one of the words: `EMBEDDING_LR` is about steps, `MOMENTUM_WARMUP` about time.
_WORDS: tuple[tuple[Family, frozenset[str]], ...] = (
    (Family.PRECISION, frozenset({"PRECISION", "BF16", "FP16", "FP8", "TF32", "AMP"})),
    (Family.DATA_ORDER, frozenset({"SHUFFLE", "ORDER", "CURRICULUM", "PACKING"})),
    (Family.BATCH, frozenset({"BATCH", "ACCUM", "ACCUMULATION"})),
    (
        Family.SCHEDULE,
        frozenset({"WARMUP", "WARMDOWN", "COOLDOWN", "SCHEDULE", "RAMP", "ANNEAL", "FINAL", "PHASE"}),
    ),
    (
        Family.REGULARISATION,
        frozenset({"DECAY", "WD", "DROPOUT", "SMOOTHING", "PENALTY", "JITTER", "REGULARISATION"}),
    ),
    (
        Family.OPTIMIZER,
        frozenset({"LR", "RATE", "BETA", "BETA1", "BETA2", "BETAS", "MOMENTUM", "EPS", "EPSILON", "CLIP"})
        | {"ADAM", "ADAMW", "MUON", "SGD", "LION", "OPTIMIZER", "NESTEROV", "EMA"},
    ),
    (
        Family.ARCHITECTURE,
        frozenset({"DEPTH", "LAYER", "LAYERS", "BLOCK", "BLOCKS", "DIM", "WIDTH", "ASPECT", "EMBD", "HIDDEN"})
        | {"HEAD", "HEADS", "KV", "WINDOW", "PATTERN", "CONTEXT", "ROTARY", "ROPE", "THETA", "SOFTCAP", "CAP"}
        | {"INIT", "NORM", "BIAS", "GATE", "MLP", "EXPERTS", "EXPANSION", "EMBEDDING", "ACTIVATION", "SKIP"}
        | {"QK", "NGRAM", "NGRAMS"},
    ),
)


def family_of(name: str) -> Family | None:
    words = words_of(name)
    return next((family for family, known in _WORDS if words & known), None)
