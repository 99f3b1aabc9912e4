"""What to try next, from the experiments so far: a pure function of a run's context.

One result is mostly chance, and most constants hardly matter. So up to four of them are changed together, and
what each is worth is learnt from all results together, kept or not. At first there are up to eight, those
before the others that were not changed yet: a constant that matters much should not wait for its turn. They
are the best moves on a response surface drawn from what the results leave possible, which finds slopes in the
noise. Where that has nothing new, single changes, near misses together and all other changes of a few
constants follow. A run that is stuck may ask for combinations of near misses.
`python -m tests.benchmarks.discovery` says what this is worth.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations, product

from loop.experiment import Experiment, Family, Goal, Proposal
from loop.gain import number
from loop.process.worker import run_worker
from loop.program.constants import find_constants
from loop.proposers.protocol import Context, ExhaustedError, SearchMode, idle
from loop.proposers.search.history import (
    ResponseSurface,
    SearchHistory,
    TrainedPrograms,
    fit_surface,
    read_history,
)
from loop.proposers.search.memory import memory_of
from loop.proposers.search.space import (
    Axis,
    Change,
    Key,
    Move,
    Moves,
    Program,
    family_of,
    find_axes,
    read_program,
)
from loop.results.gains import effect, near_misses

_NEAREST = 8
_AXES = 4  # that a near miss may have moved: more at once say little about each
_TOGETHER = 6  # that a combination may move: a description of more is hard to read


def combined_misses(
    experiments: Sequence[Experiment], axes: Sequence[Axis], trials: SearchHistory, goal: Goal, *, most: int
) -> Iterator[tuple[tuple[Experiment, ...], Moves]]:
    """Yield near misses that can be made together, with what they moved: `most` at once, then fewer."""
    by_key = {axis.key: axis for axis in axes}
    misses = [
        (miss, moves)
        for miss in near_misses(experiments, goal, most=_NEAREST)
        if (moves := _moves(miss, by_key, trials))
    ]
    for size in range(most, 1, -1):
        for places in sorted(combinations(range(len(misses)), size), key=sum):
            moves = tuple(dict.fromkeys(chain.from_iterable(misses[place][1] for place in places)))
            agree = len({axis.key for axis, _ in moves}) == len(moves)
            if agree and len(moves) <= _TOGETHER and trials.is_open(moves):
                yield tuple(misses[place][0] for place in places), moves


def _moves(miss: Experiment, axes: Mapping[Key, Axis], trials: SearchHistory) -> Moves:
    """Return the change that missed; nothing unless what it moved has the value that it was moved from."""
    changed = trials.changes[miss.number]
    fits = len(changed) <= _AXES and all(before == axes[key].current for key, (before, _) in changed.items())
    return tuple((axes[key], after) for key, (_, after) in changed.items()) if fits else ()


NAME = "search"
"""Of the proposer, in results and digests."""

_FEW_RESULTS = 10  # up to here next to nothing is known, and no rationale says otherwise
_MOST = 4  # constants at once
_MOST_AT_FIRST = 8
_FIRST = 15  # results, or experiments
_PATIENCE = 6  # experiments without a keep, for each of which one near miss more is combined
_SEEN = 6  # of the settings that are no constants
_DRAWS = 50  # surfaces that may have nothing new


def suggest(context: Context, frozen: Collection[str] = frozenset(), seed: int = 0) -> Proposal:
    """Return the next program to train: the best one so far with a change that was not tried yet.

    Names in `frozen` stay as they are. The same arguments give the same proposal.
    """
    program = read_program(context.source, context.files, frozen)
    axes = find_axes(program.constants, frozen, program.letters)
    if not axes:
        raise ExhaustedError(no_constant(context.source))
    known = TrainedPrograms(context)
    for change in _changes(context, program, axes, seed):
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
    raise ExhaustedError(
        f"The search tried every change of up to {_MOST} constants of the best program: send an /idea, "
        "or take names out of FROZEN_CONSTANTS."
    )


def no_constant(source: str) -> str:
    """Say that `source` has no constant to change, and what constants it has."""
    seen = [constant.name for constant in find_constants(source)]
    others = f"Seen: {', '.join(seen[:_SEEN])}{', …' if len(seen) > _SEEN else ''}. " if seen else ""
    return (
        f"The search finds no constant that it may change. {others}"
        "Write settings as lines such as LEARNING_RATE = 0.01, not listed in FROZEN_CONSTANTS."
    )


def _changes(context: Context, program: Program, axes: Sequence[Axis], seed: int) -> Iterator[Change]:
    trials = read_history(context.experiments, axes, program, memory_of(context.device))
    number = context.experiments[-1].number + 1 if context.experiments else 0
    chance = random.Random(f"{seed}/{number}")  # noqa: S311 - no secret hangs on it
    combined = _combined(context, program, axes, trials)
    if context.search_mode is SearchMode.COMBINATION:
        yield from combined
    options = [
        [(axis, value) for value in axis.ladder if value != axis.current and trials.is_open([(axis, value)])]
        for axis in axes
    ]
    surface = fit_surface(axes, trials.results, context.goal)
    results = len(trials.results)
    for moves in _sampled(options, trials, surface, chance):
        yield _told(program, moves, _why_surface(results), surface, results)
    singles, *larger = (_few(options, trials, surface, size) for size in range(1, _MOST + 1))
    for moves in singles:
        yield _told(program, moves, _REST, surface, results)
    yield from combined
    for moves in chain(*larger):
        yield _told(program, moves, _REST, surface, results)


def _sampled(
    options: Sequence[Sequence[Move]], trials: SearchHistory, surface: ResponseSurface, chance: random.Random
) -> Iterator[Moves]:
    """Yield what to try next, the best first: what gains most on surfaces that the results leave possible."""
    changed = {key for moved in trials.changes.values() for key in moved}
    early = len(trials.changes) <= _FIRST  # then what was never changed is worth a try, whatever a draw says
    unseen = {moves[0][0].key for moves in options if early and moves} - changed
    for _ in range(_DRAWS):
        loss = surface.draw(chance.randrange(2**32)).loss
        best = sorted(
            (min((loss(*move), place) for place, move in enumerate(moves)), number)
            for number, moves in enumerate(options)
            if moves
        )
        moves = [(options[number][place], cost) for (cost, place), number in best]
        gains = [move for move, cost in moves if cost < 0 or move[0].key in unseen]
        gains.sort(key=lambda move: move[0].key in changed)
        if found := _together(gains or [move for move, _ in moves[:1]], trials):
            yield found


def _together(moves: Iterable[Move], trials: SearchHistory) -> Moves:
    """Return the first of these moves that can be made together, as far as is known."""
    most = _MOST if len(trials.results) > _FIRST else _MOST_AT_FIRST
    made: Moves = ()
    for move in moves:
        if len(made) < most and trials.is_open((*made, move)):
            made = (*made, move)
    return made


def _few(
    options: Sequence[Sequence[Move]], trials: SearchHistory, surface: ResponseSurface, size: int
) -> Iterator[Moves]:
    ranked = [sorted(moves, key=lambda move: surface.loss(*move)) for moves in options if moves]
    ranked.sort(key=lambda moves: surface.loss(*moves[0]))
    for group in combinations(ranked, size):
        yield from (moves for moves in product(*group) if trials.is_open(moves))


def _combined(
    context: Context, program: Program, axes: Sequence[Axis], trials: SearchHistory
) -> Iterator[Change]:
    most = min(_MOST, 2 + idle(context.experiments) // _PATIENCE)
    for misses, moves in combined_misses(context.experiments, axes, trials, context.goal, most=most):
        numbers = ", ".join(f"#{miss.number}" for miss in misses)
        short = ", ".join(number(-(effect(miss, context.goal) or 0.0), miss.value) for miss in misses)
        yield program.change(
            moves,
            f"Experiments {numbers} each came close to the best: combined they may beat it.",
            Family.COMBINATION,
            expected=f"a gain; alone they missed by {short}",
        )


def _told(program: Program, moves: Moves, why: str, surface: ResponseSurface, results: int) -> Change:
    """Say what these moves are for, and what the surface expects of them."""
    families = {family_of(axis.constant.name) for axis, _ in moves}
    family = families.pop() if len(families) == 1 else Family.COMBINATION
    expected = ""
    if results > _FEW_RESULTS:
        gain, doubt = -sum(surface.loss(*move) for move in moves), surface.doubt(moves)
        expected = f"{'a gain' if gain >= 0 else 'a loss'} of {abs(gain):.6f} ± {doubt:.6f}"
    return program.change(moves, why, family, expected=expected)


def _why_surface(results: int) -> str:
    if results <= _FEW_RESULTS:
        return f"Mostly random: {_FEW_RESULTS} results or fewer do not show which constants matter."
    return f"Largest gain on a response surface drawn from all {results} results."


_REST = "Untried neighbour of the best program."


class SearchProposer:
    """Calls `suggest` in a worker, which imports numpy.

    `python` is the interpreter for it, `frozen` the names of constants to leave alone; `limit` is in seconds,
    and generous because a training may hold all processors.
    """

    name = NAME

    def __init__(
        self, *, python: str, frozen: Collection[str] = frozenset(), seed: int = 0, limit: float = 120.0
    ) -> None:
        self._python = python
        self._frozen = frozenset(frozen)
        self._seed = seed
        self._limit = limit

    async def propose(self, context: Context) -> Proposal:
        return await run_worker(
            "loop.proposers.search.suggest:suggest",
            *(context, self._frozen, self._seed),
            returns=Proposal,
            name="The search worker",
            python=self._python,
            limit=self._limit,
        )
