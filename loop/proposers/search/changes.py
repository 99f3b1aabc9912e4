"""Changes of the program: one that the search may make next, and what the trained ones taught."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from loop.experiment import Experiment, Family, Status
from loop.program.constants import Constant, Value, replace_constants, write_value
from loop.program.fingerprint import fingerprint
from loop.proposers.protocol import Context
from loop.proposers.search.space import Axis, Key, Scalar

Move: TypeAlias = tuple[Axis, Scalar]
"""An axis and the value to set it to."""

Moves: TypeAlias = tuple[Move, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A change with its words. `constants` are those of the program that `write` returns."""

    description: str
    rationale: str
    family: Family | None
    constants: Mapping[str, Value]
    write: Callable[[], str]
    expected: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """The best program so far, and its constants."""

    source: str
    constants: tuple[Constant, ...]

    def change(
        self, moves: Moves, rationale: str = "", family: Family | None = None, *, expected: str = ""
    ) -> Change:
        present = {constant.name: constant.value for constant in self.constants}
        after: dict[str, Value] = {}
        for axis, value in moves:
            name = axis.constant.name
            after[name] = axis.moved(value, after.get(name, present[name]))
        return Change(
            description=_describe(self.constants, after),
            rationale=rationale,
            family=family,
            constants={**present, **after},
            write=partial(replace_constants, self.source, after),
            expected=expected,
        )


def _shown(value: Value, constant: Constant) -> str:
    """Write a value as the program does, a string without quotes and on one line."""
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
    """Return the family of a constant, None where its name says nothing."""
    words = set(name.split("_"))
    return next((family for family, known in _WORDS if words & known), None)


_LATEST = 1000  # results that are looked at: older ones were of programs far from the best one


@dataclass(frozen=True, slots=True)
class Result:
    """A training: its places on all ladders, and its value, None for a crash.

    An unknown constant counts as being where it is now.
    """

    places: Mapping[Key, float]
    value: float | None


@dataclass(frozen=True, slots=True)
class CrashRegion:
    """What a training that crashed had changed.

    If it had raised `amounts`, they are the cause: larger ones need more memory, so beyond them none fits.
    """

    changed: Mapping[Key, Scalar]
    amounts: Mapping[Key, float]

    def holds(self, values: Mapping[Key, Scalar]) -> bool:
        """Return whether a program with these values must crash as well."""
        if self.amounts:
            return all(_number(values.get(key)) >= least for key, least in self.amounts.items())
        return all(values.get(key) == value for key, value in self.changed.items())


@dataclass(frozen=True, slots=True)
class SearchHistory:
    """The experiments as the search reads them.

    `changes` are the axes that each, by number, moved from the best of its time: from which value to which.
    `present` are the values of the best program now.
    """

    results: tuple[Result, ...]
    changes: Mapping[int, Mapping[Key, tuple[Scalar | None, Scalar]]]
    crash_regions: tuple[CrashRegion, ...]
    present: Mapping[Key, Scalar]

    def is_open(self, moves: Iterable[tuple[Axis, Scalar]]) -> bool:
        values = {**self.present, **{axis.key: value for axis, value in moves}}
        return not any(wall.holds(values) for wall in self.crash_regions)


def read_history(experiments: Sequence[Experiment], axes: Sequence[Axis]) -> SearchHistory:
    """Return what the experiments tell about these axes.

    The gain of a kept change of code, which moved no axis, is taken off all results that follow.
    """
    present = {axis.key: axis.current for axis in axes}
    results: list[Result] = []
    changes: dict[int, Mapping[Key, tuple[Scalar | None, Scalar]]] = {}
    crash_regions: list[CrashRegion] = []
    best: Experiment | None = None
    level = 0.0
    for experiment in sorted(experiments, key=lambda experiment: experiment.number):
        values = {axis.key: value for axis in axes if (value := axis.read(experiment.constants)) is not None}
        changed = {
            axis.key: (axis.read(best.constants), values[axis.key])
            for axis in axes
            if best and axis.key in values and values[axis.key] != axis.read(best.constants)
        }
        changes[experiment.number] = changed
        value = experiment.value
        if experiment.status is Status.CRASH:
            if changed:
                results.append(Result(_places(axes, values), None))
                crash_regions.append(_wall(axes, changed))
        elif value is not None and math.isfinite(value):
            if experiment.status is Status.KEEP and best and best.value is not None and not changed:
                level += value - best.value
            if changed or experiment.status is Status.KEEP:
                results.append(Result(_places(axes, values), value - level))
        if experiment.status is Status.KEEP:
            best = experiment
    # The best program is proof that a wall through it does not stand.
    standing = tuple(wall for wall in crash_regions if not wall.holds(present))
    return SearchHistory(tuple(results[-_LATEST:]), changes, standing, present)


def _places(axes: Sequence[Axis], values: Mapping[Key, Scalar]) -> dict[Key, float]:
    places = {}
    for axis in axes:
        place = axis.place(values[axis.key]) if axis.key in values else None
        places[axis.key] = float(axis.ladder.index(axis.current)) if place is None else place
    return places


def _wall(axes: Sequence[Axis], changed: Mapping[Key, tuple[Scalar | None, Scalar]]) -> CrashRegion:
    amounts = {
        axis.key: _number(after)
        for axis in axes
        if axis.is_amount and axis.key in changed
        for before, after in (changed[axis.key],)
        if _number(after) > _number(before)
    }
    return CrashRegion({key: after for key, (_, after) in changed.items()}, amounts)


def _number(value: Scalar | None) -> float:
    """Return a value as a number that compares with none where it is none."""
    return value if isinstance(value, int | float) else math.nan


class TrainedPrograms:
    """What was trained in this run, and what was rejected just now.

    Programs are compared only where all constants are the same, because that is slow.
    """

    def __init__(self, context: Context) -> None:
        self._refused = {refusal.description for refusal in context.rejections}
        self._programs: dict[str, set[str]] = {}
        for experiment in context.experiments:
            self._programs.setdefault(_written(experiment.constants), set()).add(experiment.program)

    def has(self, change: Change) -> bool:
        programs = self._programs.get(_written(change.constants), set())
        return (
            change.description in self._refused
            or "" in programs  # of an experiment whose program is not known
            or (bool(programs) and fingerprint(change.write()) in programs)
        )


def _written(constants: Mapping[str, object]) -> str:
    """Return what is the same for equal constants, as they are here or as they come from JSON."""
    return repr(sorted((name, _canonical(value)) for name, value in constants.items()))


def _canonical(value: object) -> str:
    if isinstance(value, list | tuple):
        return repr([_canonical(element) for element in value])
    return f"{value:.9g}" if isinstance(value, float) else repr(value)
