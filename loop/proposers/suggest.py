"""What to try next, from the experiments so far: a pure function of a run's context.

A model of all constants wants to change all of them at once, and then no result tells which change it was.
So one is changed at a time: the constant that has rested longest moves from the best program's value to the
nearest untried one towards what TPE suggests for it. Where nothing was kept for a while, changes that nearly
helped are made together, the more the longer it lasts: so a gain shows that chance hides in each of them, or
in a best that was lucky. A run that is stuck may ask for that, or for a simpler program.
`python -m tests.benchmarks.discovery` says what this is worth.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, combinations, product

from loop.errors import LoopError
from loop.experiment import Family, Proposal
from loop.fingerprint import fingerprint
from loop.memory import effect
from loop.proposers.changes import Change, Program, shown
from loop.proposers.combine import combined_misses
from loop.proposers.families import family_of
from loop.proposers.protocol import Context, Urge
from loop.proposers.simplify import simplifications
from loop.proposers.space import Axis, Scalar, find_axes
from loop.proposers.tpe import ask_tpe
from loop.proposers.trials import Trials, read_trials
from loop.stuck import idle

NAME = "search"
"""Of the proposer, in results and digests."""

_FEW_RESULTS = 10  # up to here TPE knows next to nothing
_PATIENCE = 6  # experiments without a keep, after which near misses have their turn; then one more at once
_TURN = 3  # experiments from one turn to the next
_MOST = 4  # near misses at once


def suggest(context: Context, frozen: Collection[str] = frozenset(), seed: int = 0) -> Proposal:
    """Return the next program to train: the best one so far with a change of which nothing is known yet.

    Names in `frozen` stay as they are, and what was refused in this asking is not proposed again. The same
    arguments give the same proposal.

    Raises:
        LoopError: the program is not valid Python, has nothing to change, or all that is near was tried.
    """
    program = Program.read(context.source)
    axes = find_axes(program.constants, frozen)
    if not axes:
        raise LoopError(
            "The search finds no constant that it may change: the program needs top-level lines such as "
            "LEARNING_RATE = 0.01 that are not in FROZEN_CONSTANTS."
        )
    known = _Known(context)
    for change in _changes(context, program, axes, frozen, known, seed):
        if not known.has(change):
            return Proposal(
                source=change.write(),
                description=change.description,
                rationale=change.rationale,
                proposer=NAME,
                parent=context.parent,
                expected=change.expected,
                family=change.family,
            )
    raise LoopError(
        "The search has tried every change of one or two constants near the best program: send an idea of "
        "your own, or take names out of FROZEN_CONSTANTS."
    )


def _changes(
    context: Context,
    program: Program,
    axes: Sequence[Axis],
    frozen: Collection[str],
    known: _Known,
    seed: int,
) -> Iterator[Change]:
    """Yield what may be done, the best first."""
    trials = read_trials(context.experiments, axes)
    number = context.experiments[-1].number + 1 if context.experiments else 0
    barren = idle(context.experiments)
    combined = _combined(context, program, axes, trials, most=min(_MOST, 2 + barren // _PATIENCE))
    simpler = _simpler(program, frozen)
    if context.urge is Urge.SIMPLIFICATION:
        yield from simpler
    if context.urge is Urge.COMBINATION or (barren >= _PATIENCE and barren % _TURN == 0):
        yield from combined
    chance = random.Random(f"{seed}/{number}")  # noqa: S311 - no secret hangs on it
    changed_at = trials.changed_at()
    for axis in sorted(chance.sample(axes, len(axes)), key=lambda axis: changed_at.get(axis.key, -1)):
        moves = [move for move in _moves(axis, trials) if not known.has(program.change((move,)))]
        if moves:
            wanted = ask_tpe(axis, trials.results, context.goal, seed=chance.randrange(2**32))
            rationale = _explain(axis, wanted, trials)
            chance.shuffle(moves)  # the order among equally near ones, and among those without an order
            for move in sorted(moves, key=partial(_distance, wanted)):
                yield program.change((move,), rationale, family_of(axis.constant.name))
    yield from chain(simpler, combined, _double(program, axes, trials))


def _moves(axis: Axis, trials: Trials) -> list[tuple[Axis, Scalar]]:
    """Return where an axis may go, as far as is known."""
    others = (value for value in axis.ladder if value != axis.current)
    return [(axis, value) for value in others if not trials.is_closed(axis, value)]


def _distance(place: float, move: tuple[Axis, Scalar]) -> float:
    """How far a move ends from a place on the ladder; without an order everything else is equally far."""
    axis, value = move
    distance = abs(axis.ladder.index(value) - place)
    return distance if axis.ordered else float(distance > 0)


def _double(program: Program, axes: Sequence[Axis], trials: Trials) -> Iterator[Change]:
    rationale = "Every single change near the best program was tried, so two are made at once."
    options = [
        sorted(_moves(axis, trials), key=partial(_distance, axis.ladder.index(axis.current))) for axis in axes
    ]
    for first, second in combinations(options, 2):
        for moves in product(first, second):
            yield program.change(moves, rationale, Family.COMBINATION)


def _combined(
    context: Context, program: Program, axes: Sequence[Axis], trials: Trials, *, most: int
) -> Iterator[Change]:
    for misses, moves in combined_misses(context.experiments, axes, trials, context.goal, most=most):
        numbers = ", ".join(f"#{miss.number}" for miss in misses)
        short = ", ".join(f"{-(effect(miss, context.goal) or 0.0):.6f}" for miss in misses)
        yield program.change(
            moves,
            f"Each of experiments {numbers} came close to the best of its time: together they may pass it.",
            Family.COMBINATION,
            expected=f"a gain, where alone they were {short} short of it",
        )


def _simpler(program: Program, frozen: Collection[str]) -> Iterator[Change]:
    for simpler in simplifications(program.source, frozen):
        yield Change(
            description=f"drop {simpler.name}: no {simpler.what}",
            rationale=f"The program is simpler without {simpler.name}: if it is as good, that is a gain.",
            family=Family.SIMPLIFICATION,
            constants={c.name: c.value for c in program.constants if c.name != simpler.name},
            write=partial(str, simpler.source),
            expected="about as good, from less code",
        )


def _explain(axis: Axis, wanted: float, trials: Trials) -> str:
    results = len(trials.results)
    if results < _FEW_RESULTS:
        return (
            f"A step at random: TPE needs about {_FEW_RESULTS} results to expect anything, and has {results}."
        )
    favoured = shown(axis.ladder[round(wanted)], axis.constant)
    number = trials.changed_at().get(axis.key)
    rest = "it was never changed before" if number is None else f"it was last changed in experiment #{number}"
    return f"From {results} results TPE expects the best {axis.constant.name} near {favoured}; {rest}."


class _Known:
    """What was trained in this run, whatever became of it, and what was refused in this asking.

    Programs are compared only where all constants are the same, because that takes a while.
    """

    def __init__(self, context: Context) -> None:
        self._refused = {refusal.description for refusal in context.refusals}
        self._programs: dict[str, set[str]] = {}
        for experiment in context.experiments:
            self._programs.setdefault(_written(experiment.constants), set()).add(experiment.program)

    def has(self, change: Change) -> bool:
        """Tell whether this is no news."""
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
