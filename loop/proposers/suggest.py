"""The next thing that search tries: a pure function of what was tried, and the worker process around it.

Every training is judged against the best, and one run against one run tells little: so a proposal moves one
constant, sometimes two, from where the best has it. Which one, and where to, comes in this order: a move that
was kept is taken further in its direction; constants that were hardly tried get a neighbouring value; then
Optuna's TPE, fed with every training so far, says where good values lie, and the least tried of its
differences is taken.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loop.constants import Value, find_constants, replace_constants, write_value
from loop.errors import LoopError
from loop.experiment import Goal, Proposal, Status
from loop.proposers.protocol import Context, Trial
from loop.proposers.space import Axis, Scalar, find_axes

STARTUP_TRIALS = 10
"""Judged trainings before TPE is asked: fewer tell it nothing."""

ASKS = 24
"""How often TPE is asked for something that was not tried yet."""

PAIR_CHANCE = 0.2
"""How often two constants are moved at once."""

Target = Mapping[Axis, Scalar]


@dataclass(frozen=True, slots=True)
class _Move:
    target: Target
    rationale: str


def suggest(context: Context, frozen: Collection[str] = frozenset(), seed: int = 0) -> Proposal:
    """Return the next proposal; equal arguments give an equal one.

    Raises:
        LoopError: the program has no constant to vary, or everything near the best was tried.
    """
    constants = find_constants(context.source)
    axes = find_axes(constants, frozen)
    if not axes:
        raise LoopError("There is no constant to vary: train.py needs top-level NAME = number lines.")
    present: dict[str, Value] = {constant.name: constant.value for constant in constants}
    names = sorted({axis.constant.name for axis in axes})
    tried = {_signature(trial.constants, names) for trial in context.trials} | {_signature(present, names)}
    chance = random.Random(f"{seed}/{len(context.trials)}")  # noqa: S311 - no secret hangs on it
    for move in _moves(axes, context, chance):
        changed = dict(present)
        for axis, value in move.target.items():
            changed[axis.constant.name] = axis.moved(value, changed[axis.constant.name])
        if _signature(changed, names) not in tried:
            return _proposal(context, changed, present, move.rationale)
    raise LoopError("Search has tried everything near the best: give it ideas by hand, or another proposer.")


def _moves(axes: Sequence[Axis], context: Context, chance: random.Random) -> Iterator[_Move]:
    trials = [trial for trial in context.trials if trial.status is not Status.SKIP]
    yield from _further(axes, trials)
    judged = [trial for trial in trials if trial.status is not None]
    tries = _tries(axes, trials)
    if len(judged) < max(STARTUP_TRIALS, len(axes) // 2):
        yield from _neighbours(axes, tries, chance)
    else:
        yield from _expected(axes, judged, context.goal, tries, chance)
        yield from _neighbours(axes, tries, chance)
    yield from _anything(axes, chance)


def _further(axes: Sequence[Axis], trials: Sequence[Trial]) -> Iterator[_Move]:
    """Go on in the direction of the last keep."""
    keeps = [trial for trial in trials if trial.status is Status.KEEP]
    if len(keeps) < 2:
        return
    before, after = keeps[-2].constants, keeps[-1].constants
    for axis in axes:
        old, new = axis.read(before), axis.read(after)
        if old is None or new is None or old == new or new != axis.current or not axis.ordered:
            continue
        step = 1 if float(new) > float(old) else -1
        place = axis.ladder.index(new) + step
        if 0 <= place < len(axis.ladder):
            yield _Move({axis: axis.ladder[place]}, "the last step in this direction was kept")


def _neighbours(axes: Sequence[Axis], tries: Counter[Axis], chance: random.Random) -> Iterator[_Move]:
    """Move the least tried constants by one or two steps, either way."""
    for axis in sorted(axes, key=lambda axis: (tries[axis], chance.random())):
        place = axis.ladder.index(axis.current)
        if axis.ordered:
            steps = [(1, -1), (-1, 1)][chance.randrange(2)] + [(2, -2), (-2, 2)][chance.randrange(2)]
            near = [axis.ladder[place + s] for s in steps if 0 <= place + s < len(axis.ladder)]
        else:
            near = chance.sample([value for value in axis.ladder if value != axis.current], 1)
        for value in near:
            yield _Move({axis: value}, "a neighbouring value of a constant that was hardly tried")


def _expected(
    axes: Sequence[Axis],
    judged: Sequence[Trial],
    goal: Goal,
    tries: Counter[Axis],
    chance: random.Random,
) -> Iterator[_Move]:
    """Ask TPE where good values lie, and take one or two of the differences to the best."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = {_label(axis): _distribution(axis) for axis in axes}
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=1, n_ei_candidates=48, seed=chance.randrange(2**31), constant_liar=False
    )
    study = optuna.create_study(direction=goal.value, sampler=sampler)
    values = [trial.value for trial in judged if trial.value is not None]
    worst = (max if goal is Goal.MINIMIZE else min)(values, default=0.0)
    for trial in judged:
        params = {_label(axis): place for axis in axes if (place := _place(axis, trial)) is not None}
        study.add_trial(
            optuna.trial.create_trial(
                params=params,
                distributions={name: distributions[name] for name in params},
                value=worst if trial.value is None else trial.value,
            )
        )
    rationale = f"TPE expects a good value here from {len(judged)} trainings"
    for _ in range(ASKS):
        asked = study.ask(distributions).params
        wanted = {axis: axis.ladder[asked[_label(axis)]] for axis in axes}
        different = [axis for axis in axes if wanted[axis] != axis.current]
        if not different:
            continue
        weights = [1 / (1 + tries[axis]) ** 2 for axis in different]
        chosen = set(chance.choices(different, weights, k=2 if chance.random() < PAIR_CHANCE else 1))
        yield _Move({axis: wanted[axis] for axis in axes if axis in chosen}, rationale)


def _anything(axes: Sequence[Axis], chance: random.Random) -> Iterator[_Move]:
    """Every single move there is, in any order."""
    moves = [(axis, value) for axis in axes for value in axis.ladder if value != axis.current]
    for axis, value in chance.sample(moves, len(moves)):
        yield _Move({axis: value}, "little else is left to try")


def _tries(axes: Sequence[Axis], trials: Sequence[Trial]) -> Counter[Axis]:
    """Count how often each axis was moved away from what most trainings had."""
    counts: Counter[Axis] = Counter()
    for axis in axes:
        seen = [value for trial in trials if (value := axis.read(trial.constants)) is not None]
        counts[axis] = sum(value != axis.current for value in seen)
    return counts


def _label(axis: Axis) -> str:
    name, index = axis.key
    return name if index < 0 else f"{name}[{index}]"


def _distribution(axis: Axis) -> Any:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    places = range(len(axis.ladder))
    return IntDistribution(0, len(places) - 1) if axis.ordered else CategoricalDistribution(tuple(places))


def _place(axis: Axis, trial: Trial) -> int | None:
    value = axis.read(trial.constants)
    place = None if value is None else axis.position(value)
    return None if place is None else round(place)


def _signature(constants: Mapping[str, object], names: Sequence[str]) -> str:
    return json.dumps([constants.get(name) for name in names])


def _proposal(
    context: Context, changed: Mapping[str, Value], present: Mapping[str, Value], rationale: str
) -> Proposal:
    texts = {constant.name: constant.text for constant in find_constants(context.source)}
    changes = {name: value for name, value in changed.items() if value != present[name]}
    words = []
    for name, value in changes.items():
        before, after = (text.strip("\"'") for text in (texts[name], write_value(value, like=texts[name])))
        words.append(f"{name} {before} → {after}")
    return Proposal(
        source=replace_constants(context.source, changes),
        description=", ".join(words),
        rationale=f"{rationale[0].upper()}{rationale[1:]}.",
        proposer="search",
        parent=context.parent,
    )


def pack(context: Context, frozen: Collection[str], seed: int) -> bytes:
    """Return the worker's input."""
    return json.dumps({"context": asdict(context), "frozen": sorted(frozen), "seed": seed}).encode()


def main() -> None:
    """Read one request from stdin, write the proposal to stdout."""
    request = json.load(sys.stdin)
    given = request["context"]
    trials = tuple(
        Trial(
            number=trial["number"],
            description=trial["description"],
            constants={name: _hashable(value) for name, value in trial["constants"].items()},
            value=trial["value"],
            status=None if trial["status"] is None else Status(trial["status"]),
        )
        for trial in given["trials"]
    )
    context = Context(given["source"], given["parent"], Goal(given["goal"]), trials)
    try:
        proposal = suggest(context, frozenset(request["frozen"]), request["seed"])
        answer: dict[str, object] = {"proposal": asdict(proposal)}
    except LoopError as error:
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer))


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


if __name__ == "__main__":
    main()
