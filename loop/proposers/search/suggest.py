"""What to try next, from the experiments so far: a pure function of a run's context.

First every constant alone, the weighty ones before the others, in the direction that a careful person would
try. What follows gains most on a response surface drawn from those that all results, kept or not, leave
possible (Thompson 1933). How many constants are changed at once follows the noise: where it is low, one or
two are soon understood; where one training says little, only the gains of several together stand out, from
the first try on. In the end comes every other change of a few constants. `python -m
tests.benchmarks.discovery` says what this is worth.

What is under way in several lanes counts as tried, with the result that is expected of it, so that lanes do
not all try the same: a surface that knows these points has nothing more to learn there (kriging believer:
Ginsbourger, Le Riche and Carraro 2010). What lanes gain at once, each on the same head, is put together in
few trainings: more constants are changed at a time. What one lane alone has under way is over before the next
proposal is trained.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, product, tee
from typing import TYPE_CHECKING, TypeVar

from loop.evaluation.noise import Noise
from loop.evidence import Wish
from loop.experiment import Experiment, Family, Goal, Proposal, Stage
from loop.gain import number
from loop.process.worker import in_thread, run_worker
from loop.program.constants import constant_values
from loop.program.fingerprint import fingerprint
from loop.proposers.people import unwanted
from loop.proposers.protocol import Context, ExhaustedError, SearchMode
from loop.proposers.search.history import SearchHistory, TrainedPrograms, TrialResult, read_history
from loop.proposers.search.memory import memory_of
from loop.proposers.search.space import (
    Axis,
    Key,
    Move,
    Moves,
    Scalar,
    axis_values,
    family_of,
    find_axes,
    read_program,
)
from loop.proposers.search.surface import ResponseSurface, fit_surface
from loop.proposers.search.tries import first_tries, moves_like

if TYPE_CHECKING:
    from loop.proposers.search.surface import Array

_T = TypeVar("_T")

NAME = "search"  # of the proposer, in results and digests
_FEW = 2  # constants at once
_MOST = 4  # where nothing helped for long, where lanes find gains apart, in first tries in loud noise
_LOUD_MOST = 8  # after these: what only luck kept is taken back with others, not alone
_LOUD = 1.2  # noise of one training, in what a constant moves the metric by
_WORTH = 0.05  # share that another constant has to add to the gain
_DRAWS = 20  # surfaces that may have nothing new
_FEW_RESULTS = 10  # up to here next to nothing is known, and no proposal says what to expect
_AT_ONCE = 16  # proposals of one call: seconds of work
_SEEN = 6  # of the settings that are no constants


def suggest(context: Context, frozen: Collection[str] = frozenset()) -> Proposal:
    """Return the next program to train: the best one so far with a change that was not tried yet.

    Names in `frozen` stay as they are. The same arguments give the same proposal; runs differ.
    """
    trials, surface = learn(context, frozen)
    if not trials.axes:
        raise ExhaustedError(no_constant(context.source))
    known, pending = TrainedPrograms(context), under_way(context.experiments)
    changes = _changes(context, trials, surface)
    if pending:  # what another lane nearly tries comes last
        changes, near = tee(changes)
        far = (change for change in changes if not is_near(change[0], pending, trials))
        changes = chain(far, (change for change in near if is_near(change[0], pending, trials)))
    for moves, why in changes:
        if not moves or not trials.is_open(moves):
            continue
        change = trials.program.change(moves)
        if not known.has(change) and not unwanted(context.wishes, trials.program.present, change.constants):
            return Proposal(
                source=change.write(),
                description=change.description,
                rationale=why,
                proposer=NAME,
                parent=context.parent,
                expected=_expected(moves, surface, trials.results),
                family=_family(moves),
            )
    raise ExhaustedError(
        f"The search tried every change of up to {_MOST} constants of the best program: send an /idea, "
        "or take names out of FROZEN_CONSTANTS."
    )


def suggest_many(context: Context, frozen: Collection[str], count: int) -> tuple[tuple[Proposal, str], ...]:
    """Return up to `count` proposals, each as it is where those before it are under way, and their programs.

    A program is a fingerprint, as an experiment has it.
    """
    found: list[tuple[Proposal, str]] = []
    while len(found) < count:
        try:
            proposal = suggest(context, frozen)
        except ExhaustedError:
            if not found:
                raise
            break
        begun = _begun(context, proposal)
        found.append((proposal, begun.program))
        context = replace(context, experiments=(*context.experiments, begun))
    return tuple(found)


def _begun(context: Context, proposal: Proposal) -> Experiment:
    """Return the experiment that is made of a proposal, as the search will see it."""
    return Experiment(
        context.run.id,
        context.number,
        Stage.TRAINING,
        proposal.description,
        proposal.rationale,
        NAME,
        context.parent,
        constants=constant_values(proposal.source),
        program=fingerprint(proposal.source),
    )


def learn(context: Context, frozen: Collection[str]) -> tuple[SearchHistory, ResponseSurface]:
    """Return what the experiments say about the best program and what may be changed in it."""
    program = read_program(context.source, context.files, frozen)
    axes = find_axes(program.constants, frozen, program.letters)
    trials = read_history(context.experiments, axes, program, memory_of(context.device))
    surface = fit_surface(axes, trials.results, context.goal, context.noise)
    pending = under_way(context.experiments)
    return trials, with_pending(surface, pending, trials, context.goal, context.noise)


def under_way(experiments: Sequence[Experiment]) -> tuple[Experiment, ...]:
    """Return the experiments that train beside the one that is to be proposed."""
    found = tuple(each for each in experiments if each.status is None)
    return found if len(found) > 1 else ()


def with_pending(
    surface: ResponseSurface,
    pending: Sequence[Experiment],
    trials: SearchHistory,
    goal: Goal,
    noise: Noise | None,
) -> ResponseSurface:
    """Return the surface as it is if each of these comes to what is expected of it."""
    here = next((each.value for each in reversed(trials.results) if _is_best(each, trials.present)), None)
    if here is None or not pending:
        return surface
    values = [axis_values(trials.axes, each.constants) for each in pending]
    losses, _ = surface.predict(surface.columns.rows(values))
    found = zip(values, losses, strict=True)
    expected = [TrialResult(each, here + goal.sign * float(loss)) for each, loss in found]
    return fit_surface(trials.axes, (*trials.results, *expected), goal, noise, like=surface)


def is_near(moves: Moves, pending: Sequence[Experiment], trials: SearchHistory) -> bool:
    """Tell whether one of these moves the same constants in the same directions."""
    wanted = {axis.key: axis.direction(axis.current, value) for axis, value in moves}
    axes = {axis.key: axis for axis, _ in moves}
    for each in pending:
        changed = trials.changes.get(each.number, {})
        if changed.keys() == wanted.keys() and all(
            wanted[key] and axes[key].direction(before, after) == wanted[key]
            for key, (before, after) in changed.items()
        ):
            return True
    return False


def _is_best(result: TrialResult, present: Mapping[Key, Scalar]) -> bool:
    return result.value is not None and all(result.values.get(key) == value for key, value in present.items())


def no_constant(source: str) -> str:
    """Say that `source` has no constant to change, and what constants it has."""
    seen = list(constant_values(source))
    others = f"Seen: {', '.join(seen[:_SEEN])}{', …' if len(seen) > _SEEN else ''}. " if seen else ""
    return (
        f"The search finds no constant that it may change. {others}"
        "Write settings as lines such as LEARNING_RATE = 0.01, not listed in FROZEN_CONSTANTS."
    )


def _changes(
    context: Context, trials: SearchHistory, surface: ResponseSurface
) -> Iterator[tuple[Moves, str]]:
    """Yield what may be tried next, the best first, with the reason."""
    for wished in context.wishes:
        if wished.wish is Wish.MORE:
            why = f"More like #{wished.number}, as a person wants."
            yield from ((moves, why) for moves in moves_like(wished, trials.axes))
    loud = surface.noise > _LOUD * surface.scale
    tried = {key for changed in trials.changes.values() for key in changed}
    left = [axis for axis in trials.axes if axis.key not in tried]
    untried = [move for move in first_tries(left) if trials.is_open([move])]
    if loud and untried:
        yield _compatible(untried, trials), f"First try; the noise of {surface.noise:.2g} hides one alone."
    for move in untried:
        yield (move,), "First try of this constant."
    options = Options(trials.axes, trials, surface)
    together = context.search_mode is SearchMode.COMBINATION or under_way(context.experiments)
    most = _LOUD_MOST if loud else _MOST if together else _FEW
    chance = random.Random(f"{context.run.tag} {context.run.created_at} {context.number}")  # noqa: S311 - no secret
    why = f"Largest gain on a response surface drawn from all {len(trials.results)} results."
    for _ in range(_DRAWS):
        yield options.best(surface.draw(chance.randrange(2**32)), most), why
    for moves in options.all(_MOST):
        yield moves, "Untried neighbour of the best program."


def _compatible(untried: Sequence[Move], trials: SearchHistory) -> Moves:
    """Return the first of them that may go together; of what takes memory one, as two may not fit."""
    moves: Moves = ()
    for move in untried:
        raises = any(map(_is_raised, moves)) and _is_raised(move)
        if len(moves) < _MOST and not raises and trials.is_open((*moves, move)):
            moves = (*moves, move)
    return moves


def _is_raised(move: Move) -> bool:
    axis, value = move
    return axis.is_amount and isinstance(value, int) and value > int(axis.current)


class Options:
    """The moves of single constants, and what they come to together."""

    def __init__(self, axes: Sequence[Axis], trials: SearchHistory, surface: ResponseSurface) -> None:
        self.moves = [(axis, value) for axis in axes for value in axis.ladder if value != axis.current]
        self._trials = trials
        self._surface = surface
        self._rows = surface.rows([(move,) for move in self.moves])

    def best(self, loss: Callable[[Array], Array], most: int) -> Moves:
        """Return up to `most` moves that together have the lowest loss, found one after the other."""
        found: Moves = ()
        row, least = 0.0 * self._rows[0], math.inf
        while len(found) < most:
            losses = loss(row + self._rows)
            places = (place for place in losses.argsort() if self._fits(found, self.moves[place]))
            place = next(places, None)
            if place is None or (found and losses[place] >= least - _WORTH * abs(least)):
                break
            found, row, least = (*found, self.moves[place]), row + self._rows[place], losses[place]
        return found

    def all(self, most: int) -> Iterator[Moves]:
        """Yield all changes of up to `most` constants, fewer before more, the best ones first."""
        losses, _ = self._surface.predict(self._rows)
        by_axis: dict[Key, list[Move]] = {}
        for place in losses.argsort():
            by_axis.setdefault(self.moves[place][0].key, []).append(self.moves[place])
        for size in range(1, most + 1):
            for group in combinations(by_axis.values(), size):
                yield from product(*group)

    def _fits(self, moves: Moves, move: Move) -> bool:
        return all(axis.key != move[0].key for axis, _ in moves) and self._trials.is_open((*moves, move))


def _family(moves: Moves) -> Family | None:
    families = {family_of(axis.constant.name) for axis, _ in moves}
    return families.pop() if len(families) == 1 else Family.COMBINATION


def _expected(moves: Moves, surface: ResponseSurface, results: Sequence[TrialResult]) -> str:
    if len(results) <= _FEW_RESULTS:
        return ""
    like = next((result.value for result in reversed(results) if result.value is not None), None)
    (loss,), (doubt,) = surface.predict(surface.rows([moves]))
    return f"{'a gain' if loss <= 0 else 'a loss'} of {number(abs(loss), like)} ± {number(doubt, like)}"


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the search made of a context: proposals and their programs, each as if those before it train."""

    context: Context
    made: tuple[tuple[Proposal, str], ...]

    def place(self, context: Context) -> int | None:
        """Return how many of them train in a context that is else the same; None where more has happened."""
        if replace(context, experiments=()) != replace(self.context, experiments=()):
            return None
        known = {each.number: each for each in self.context.experiments}
        begun = [each for each in context.experiments if each.number not in known]
        if any(each.status is not None for each in begun) or [each.program for each in begun] != [
            program for _, program in self.made[: len(begun)]
        ]:
            return None
        old = ((each, known[each.number]) for each in context.experiments if each.number in known)
        # What trains may be further on: the search sees nothing of that.
        same = all(now == then or now.status is then.status is None for now, then in old)
        return len(begun) if same else None


class SearchProposer:
    """Calls `suggest_many` in a worker, which imports numpy.

    Where many lanes wait, as at a start, nothing ends between two proposals: then one call makes two, the
    next one four, up to `_AT_ONCE`. They are those that as many calls would make.

    `python` is the interpreter for it, `frozen` the names of constants to leave alone; `limit` is in seconds,
    and generous because a training may hold all processors.
    """

    name = NAME

    def __init__(
        self, *, frozen: Collection[str] = frozenset(), limit: float = 120.0, python: str = sys.executable
    ) -> None:
        self._python = python
        self._frozen = frozenset(frozen)
        self._limit = limit
        self._last: _Answer | None = None

    async def propose(self, context: Context) -> Proposal:
        last = self._last
        place = await in_thread(last.place, context) if last else None
        if last is None or not place:
            count = 1
        elif place < len(last.made):
            return last.made[place][0]
        else:
            count = min(2 * place, _AT_ONCE)
        made = await self._ask("loop.proposers.search.suggest:suggest_many", tuple, context, count)
        self._last = _Answer(context, made)
        return self._last.made[0][0]

    async def describe(self, context: Context) -> str:
        return await self._ask("loop.proposers.search.state:describe", str, context)

    async def _ask(self, function: str, returns: type[_T], context: Context, *more: object) -> _T:
        return await run_worker(
            function,
            *(context, self._frozen, *more),
            returns=returns,
            name="The search worker",
            python=self._python,
            limit=self._limit,
        )
