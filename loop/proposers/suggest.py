"""What to try next, from the trials so far: a pure function of a run's context.

A model of all constants wants to change all of them at once, and then no result tells which change it was.
So TPE (Bergstra et al. 2011; Optuna's, each constant independent of the others) is asked for a whole point,
and a proposal takes one step from it: the constant that has rested longest moves from the best program's
value to the nearest untried one towards the suggestion. On noisy bowls that beat uniform changes, TPE on the
gains of each constant alone, and steps of two constants, which wait until no single one is left.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import TypeAlias

from loop.constants import Constant, Value, find_constants, replace_constants, write_value
from loop.errors import LoopError
from loop.experiment import Experiment, Goal, Proposal, Status
from loop.proposers.protocol import Context
from loop.proposers.space import Axis, Key, Scalar, find_axes

NAME = "search"
"""Of the proposer, in results and digests."""

_FEW_RESULTS = 10  # up to here TPE knows next to nothing

Moves: TypeAlias = tuple[tuple[Axis, Scalar], ...]


def suggest(context: Context, frozen: Collection[str] = frozenset(), seed: int = 0) -> Proposal:
    """Return the next program to train: the best one so far with one constant changed, or two.

    Names in `frozen` stay as they are. The same arguments give the same proposal.

    Raises:
        LoopError: the program is not valid Python, has nothing to change, or all that is near was tried.
    """
    constants = find_constants(context.source)
    axes = find_axes(constants, frozen)
    if not axes:
        raise LoopError(
            "The search finds no constant that it may change: the program needs top-level lines such as "
            "LEARNING_RATE = 0.01 that are not in FROZEN_CONSTANTS."
        )
    history = _read_history(context.experiments, axes)
    chance = random.Random(f"{seed}/{len(context.experiments)}")  # noqa: S311 - no secret hangs on it
    wanted = _ask_tpe(axes, history, context.goal, seed=chance.randrange(2**32))
    present = {constant.name: constant.value for constant in constants}
    tried = {_fingerprint(trial.constants) for trial in context.experiments} | {_fingerprint(present)}
    for moves in _moves(axes, wanted, history, chance):
        changes = _changes(moves, present)
        if _fingerprint({**present, **changes}) not in tried:
            return Proposal(
                source=replace_constants(context.source, changes),
                description=_describe(constants, changes),
                rationale=_explain(moves, wanted, history),
                proposer=NAME,
                parent=context.parent,
            )
    raise LoopError(
        "The search has tried every change of one or two constants near the best program: send an idea of "
        "your own, or take names out of FROZEN_CONSTANTS."
    )


@dataclass(frozen=True, slots=True)
class _Result:
    """A training as TPE is told of it: its places on the ladders, and its value.

    A crash has no value and is held only against what it changed.
    """

    places: Mapping[Key, float]
    value: float | None


@dataclass(frozen=True, slots=True)
class _History:
    """The trials as the search reads them.

    `changed_at` is the number of the last trial that moved an axis away from the best of its time; `crashed`
    are the values of an axis at which a training crashed that had changed nothing else.
    """

    results: tuple[_Result, ...]
    changed_at: Mapping[Key, int]
    crashed: Mapping[Key, tuple[Scalar, ...]]

    def is_closed(self, axis: Axis, value: Scalar) -> bool:
        """Tell whether a training crashed at this value or, of an amount, at a smaller increase.

        Larger amounts need more memory: beyond one that did not fit, none will.
        """
        failures = self.crashed.get(axis.key, ())
        if value in failures or not axis.is_amount:
            return value in failures
        places = [axis.place(step) for step in (axis.current, value, *failures)]
        here, there, *others = (math.inf if place is None else place for place in places)
        return any(here < other < there for other in others)


def _read_history(trials: Sequence[Experiment], axes: Sequence[Axis]) -> _History:
    results: list[_Result] = []
    changed_at: dict[Key, int] = {}
    crashed: dict[Key, tuple[Scalar, ...]] = {}
    best: Mapping[str, object] | None = None
    for trial in sorted(trials, key=lambda trial: trial.number):
        values = {axis.key: value for axis in axes if (value := axis.read(trial.constants)) is not None}
        places = {axis.key: axis.place(values[axis.key]) for axis in axes if axis.key in values}
        known = {key: place for key, place in places.items() if place is not None}
        changed = {
            axis.key
            for axis in axes
            if best is not None and axis.key in values and values[axis.key] != axis.read(best)
        }
        changed_at.update(dict.fromkeys(changed, trial.number))
        if trial.status is Status.CRASH:
            results.append(_Result({key: place for key, place in known.items() if key in changed}, None))
            if len(changed) == 1:
                (key,) = changed
                crashed[key] = (*crashed.get(key, ()), values[key])
        elif trial.value is not None and math.isfinite(trial.value):
            results.append(_Result(known, trial.value))
        if trial.status is Status.KEEP:
            best = trial.constants
    return _History(tuple(results), changed_at, crashed)


def _ask_tpe(axes: Sequence[Axis], history: _History, goal: Goal, *, seed: int) -> Mapping[Key, float]:
    """Return the place on its ladder that TPE suggests for each axis."""
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    distributions: dict[str, BaseDistribution] = {
        _label(axis.key): FloatDistribution(0, len(axis.ladder) - 1)
        if axis.ordered
        else CategoricalDistribution(range(len(axis.ladder)))
        for axis in axes
    }
    values = [result.value for result in history.results if result.value is not None]
    worst = (max if goal is Goal.MINIMIZE else min)(values, default=0.0)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=0, multivariate=False)
    study = optuna.create_study(direction=goal.value, sampler=sampler)
    for result in history.results:
        params = {_label(key): place for key, place in result.places.items()}
        study.add_trial(
            optuna.trial.create_trial(
                params=params,
                distributions={label: distributions[label] for label in params},
                value=worst if result.value is None else result.value,
            )
        )
    asked = study.ask(distributions).params
    return {axis.key: float(asked[_label(axis.key)]) for axis in axes}


def _moves(
    axes: Sequence[Axis], wanted: Mapping[Key, float], history: _History, chance: random.Random
) -> Iterator[Moves]:
    """Yield the moves to make, the best first: all single ones, then all of two axes."""
    rested = sorted(chance.sample(axes, len(axes)), key=lambda axis: history.changed_at.get(axis.key, -1))
    options: dict[Key, list[tuple[Axis, Scalar]]] = {}
    for axis in rested:
        others = [value for value in axis.ladder if value != axis.current]
        chance.shuffle(others)  # the order among equally near ones, and among those without an order
        others.sort(key=lambda value, axis=axis: _distance(axis, value, wanted[axis.key]))  # type: ignore[misc]
        options[axis.key] = [(axis, value) for value in others if not history.is_closed(axis, value)]
    yield from ((move,) for moves in options.values() for move in moves)
    for first, second in combinations(options.values(), 2):
        yield from product(first, second)


def _distance(axis: Axis, value: Scalar, place: float) -> float:
    """How far `value` is from a place on the ladder; without an order everything else is equally far."""
    distance = abs(axis.ladder.index(value) - place)
    return distance if axis.ordered else float(distance > 0)


def _changes(moves: Moves, present: Mapping[str, Value]) -> dict[str, Value]:
    changes: dict[str, Value] = {}
    for axis, value in moves:
        name = axis.constant.name
        changes[name] = axis.moved(value, changes.get(name, present[name]))
    return changes


def _describe(constants: Sequence[Constant], changes: Mapping[str, Value]) -> str:
    return ", ".join(
        f"{constant.name} {_shown(constant.value, constant)} → {_shown(changes[constant.name], constant)}"
        for constant in constants
        if constant.name in changes
    )


def _shown(value: Value, constant: Constant) -> str:
    """Write a value as the program does, a string without quotes and on one line."""
    if isinstance(value, str):
        return value
    return write_value(value, like="" if isinstance(value, tuple) else constant.text)


def _explain(moves: Moves, wanted: Mapping[Key, float], history: _History) -> str:
    if len(moves) > 1:
        return "Every single change near the best program was tried, so two are made at once."
    ((axis, _),) = moves
    results = len(history.results)
    if results < _FEW_RESULTS:
        return (
            f"A step at random: TPE needs about {_FEW_RESULTS} results to expect anything, and has {results}."
        )
    favoured = _shown(axis.ladder[round(wanted[axis.key])], axis.constant)
    number = history.changed_at.get(axis.key)
    rest = "it was never changed before" if number is None else f"it was last changed in experiment #{number}"
    return f"From {results} results TPE expects the best {axis.constant.name} near {favoured}; {rest}."


def _fingerprint(constants: Mapping[str, object]) -> str:
    """Return what is the same for equal constants, as they are here or as they come from JSON."""
    return repr(sorted((name, _canonical(value)) for name, value in constants.items()))


def _canonical(value: object) -> str:
    if isinstance(value, list | tuple):
        return repr([_canonical(element) for element in value])
    return f"{value:.9g}" if isinstance(value, float) else repr(value)


def _label(key: Key) -> str:
    name, index = key
    return f"{name}[{index}]"
