"""What the experiments so far teach the search: what each changed, what it came to, and what crashes.

Which part of a change is to blame for a crash? A part is one axis that was moved, with all values beyond it.
To blame is the smallest set of parts that no training that ran to its end had: of several as small the one
that more of the crashes share, and while these do not tell either, all of them together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import TypeAlias

from loop.evidence import Invalidated
from loop.experiment import Ending, Experiment, Status
from loop.logs.error_line import tells_of_full_memory
from loop.program.fingerprint import fingerprint
from loop.proposers.protocol import Context
from loop.proposers.search.memory import MemoryModel, MemoryUse, fit_memory
from loop.proposers.search.space import Axis, BestProgram, Change, Key, Scalar, axis_values

_MOST_SETS = 300  # of parts of one size that are looked at
_KILLED = (-9, 137)


@dataclass(frozen=True, slots=True)
class Part:
    """An axis at a value, and beyond it where `beyond` is 1 (larger) or -1."""

    key: Key
    value: Scalar
    beyond: int

    def holds(self, values: Mapping[Key, Scalar]) -> bool:
        value = values.get(self.key)
        if self.beyond and isinstance(value, int | float) and isinstance(self.value, int | float):
            return (value - self.value) * self.beyond >= 0
        return value == self.value


CrashRegion: TypeAlias = tuple[Part, ...]  # parts that crash together


@dataclass(frozen=True, slots=True)
class Crash:
    """A training that crashed: its values, what it moved, and the parts that are more likely to blame."""

    values: Mapping[Key, Scalar]
    parts: tuple[Part, ...]
    likely: tuple[Part, ...]


def read_crash(
    experiment: Experiment,
    axes: Sequence[Axis],
    values: Mapping[Key, Scalar],
    changed: Mapping[Key, tuple[Scalar | None, Scalar]],
) -> Crash:
    """Return what an experiment that crashed had moved: from which value to which.

    A full memory, or a program that was too slow, is because of amounts that were raised; an exception is
    because of a size, a switch or a pattern rather than a rate.
    """
    parts, raised, discrete = [], [], []
    for axis in axes:
        if axis.key not in changed:
            continue
        before, after = changed[axis.key]
        part = Part(axis.key, after, axis.direction(before, after))
        parts.append(part)
        if axis.is_amount and part.beyond > 0:
            raised.append(part)
        if not isinstance(after, float):
            discrete.append(part)
    likely = discrete if experiment.error and not _is_too_large(experiment) else raised or discrete
    return Crash(values, tuple(parts), tuple(likely))


def ran_out_of_memory(experiment: Experiment) -> bool:
    return tells_of_full_memory(experiment.error)


def _is_too_large(experiment: Experiment) -> bool:
    killed = experiment.ending in (Ending.DEADLINE, Ending.LIMIT) or experiment.exit_code in _KILLED
    return killed or ran_out_of_memory(experiment)


def crash_regions(
    crashes: Sequence[Crash], trained: Sequence[Mapping[Key, Scalar]]
) -> tuple[CrashRegion, ...]:
    """Return what to leave alone, given the values of all trainings that ran to their end."""
    ran: dict[Part, set[int]] = {}  # in which trainings it did, for all crashes at once
    for part in dict.fromkeys(part for crash in crashes for part in crash.parts):
        ran[part] = {n for n, values in enumerate(trained) if part.holds(values)}
    regions = (_region(crash, crashes, ran) for crash in crashes)
    return tuple(dict.fromkeys(region for region in regions if region is not None))


def _region(crash: Crash, crashes: Sequence[Crash], ran: Mapping[Part, set[int]]) -> CrashRegion | None:
    for parts in (crash.likely, crash.parts):
        for size in range(1, len(parts) + 1):
            if comb(len(parts), size) > _MOST_SETS:
                break
            sets = [
                each
                for each in combinations(parts, size)
                if not set.intersection(*(ran[part] for part in each))
            ]
            if sets:
                return _most_shared(sets, crashes)
    return None  # it ran another time


def _most_shared(regions: Sequence[CrashRegion], crashes: Sequence[Crash]) -> CrashRegion:
    shares = [sum(_lie_in(crash.values, region) for crash in crashes) for region in regions]
    top = [region for region, share in zip(regions, shares, strict=True) if share == max(shares)]
    return tuple(dict.fromkeys(part for region in top for part in region))


def _lie_in(values: Mapping[Key, Scalar], region: CrashRegion) -> bool:
    return all(part.holds(values) for part in region)


_LATEST = 300  # results, and peaks of memory, that are looked at: older programs are far from the best one


@dataclass(frozen=True, slots=True)
class TrialResult:
    """A training: the values of the axes that it had, and its number, None for a crash."""

    values: Mapping[Key, Scalar]
    value: float | None


@dataclass(frozen=True, slots=True)
class SearchHistory:
    """The experiments as the search reads them.

    `axes` are what may be changed in the best program, `present` their values in it. `changes` are the axes
    that each experiment, by number, moved from the best of its time: from which value to which.
    """

    program: BestProgram
    axes: tuple[Axis, ...]
    results: tuple[TrialResult, ...]
    changes: Mapping[int, Mapping[Key, tuple[Scalar | None, Scalar]]]
    crash_regions: tuple[CrashRegion, ...]
    present: Mapping[Key, Scalar]
    memory: MemoryModel

    def is_open(self, moves: Iterable[tuple[Axis, Scalar]]) -> bool:
        """Tell whether these moves can be trained, as far as is known, and each of them does something."""
        moves = tuple(moves)
        values = {**self.present, **{axis.key: value for axis, value in moves}}
        if any(_lie_in(values, region) for region in self.crash_regions):
            return False
        after = self.program.after(moves)
        unlimited = self.memory.limit == math.inf
        return after is not None and (unlimited or self.memory.fits(self.program.size(after)))


def read_history(
    experiments: Sequence[Experiment], axes: Sequence[Axis], program: BestProgram, device_mb: float | None
) -> SearchHistory:
    """Return what the experiments tell about these axes of a program, on a device with so many MiB.

    The gain of a kept change of code, which moved no axis, is taken off all results that follow.
    """
    present = {axis.key: axis.current for axis in axes}
    results: list[TrialResult] = []
    changes: dict[int, Mapping[Key, tuple[Scalar | None, Scalar]]] = {}
    crashes: list[Crash] = []
    trained = [present]
    best: Experiment | None = None
    best_values: Mapping[Key, Scalar] = {}
    kept: dict[str, Mapping[Key, Scalar]] = {}  # the values of each, by its commit
    level = 0.0
    for experiment in sorted(experiments, key=lambda experiment: experiment.number):
        origin = kept.get(experiment.parent, best_values)  # of several lanes not all begin at the best
        values = axis_values(axes, experiment.constants)
        changed = {
            key: (origin[key], value)
            for key, value in values.items()
            # Else it is new: no move, but other code, or a constant that older releases did not see.
            if key in origin and value != origin[key]
        }
        changes[experiment.number] = changed
        if experiment.value is not None:
            trained.append(values)
        # What another lane was ahead of is as true as ever of its constants.
        is_true = experiment.is_believed or experiment.invalidated is Invalidated.BEHIND
        value = experiment.value if is_true else None
        if experiment.status is Status.CRASH:
            if changed:
                results.append(TrialResult(values, None))
                crashes.append(read_crash(experiment, axes, values, changed))
        elif value is not None and math.isfinite(value):
            if experiment.status is Status.KEEP and best and best.value is not None and not changed:
                level += value - best.value
            if changed or experiment.status is Status.KEEP:
                results.append(TrialResult(values, value - level))
        if experiment.status is Status.KEEP:
            best = experiment
            best_values = kept[experiment.commit] = values
    regions = crash_regions(crashes, trained)
    memory = _read_memory(experiments, best, program, device_mb)
    latest = tuple(results[-_LATEST:])
    return SearchHistory(program, tuple(axes), latest, changes, regions, present, memory)


def _read_memory(
    experiments: Sequence[Experiment], best: Experiment | None, program: BestProgram, device_mb: float | None
) -> MemoryModel:
    def training(experiment: Experiment) -> MemoryUse:
        full = ran_out_of_memory(experiment)
        return MemoryUse(
            program.size_then(experiment.constants), None if full else 1024 * experiment.memory_gb
        )

    latest = [each for each in experiments[-_LATEST:] if each.memory_gb > 0]
    full = [each for each in experiments if each.memory_gb <= 0 and ran_out_of_memory(each)]
    told = [training(each) for each in (*full, *latest)]
    return fit_memory(told, training(best) if best and best.memory_gb > 0 else None, device_mb)


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
