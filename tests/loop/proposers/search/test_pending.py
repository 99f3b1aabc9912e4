"""What trains in other lanes counts as tried."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from loop.evaluation.noise import Noise
from loop.experiment import Experiment, Stage, Status
from loop.program.constants import find_constants
from loop.proposers.protocol import Context, ExhaustedError, SearchMode
from loop.proposers.search.space import Moves, axis_values
from loop.proposers.search.suggest import (
    SearchProposer,
    is_near,
    learn,
    suggest,
    suggest_many,
    under_way,
)
from tests.benchmarks.discovery import judged
from tests.benchmarks.landscape import FILES, Landscape
from tests.loop.proposers.contexts import context_of, run_of, trial

SCORE = Landscape("published", seed=1, noise=0.0005)


def begun(number: int, source: str, parent: str) -> Experiment:
    done = judged(number, parent, SCORE.program, source, SCORE, None)
    return replace(done, stage=Stage.TRAINING, status=None, value=None, training=None)


@cache
def night(decided: int, lanes: int) -> tuple[Context, list[Experiment]]:
    """Return what the search is asked with while so many trainings go on, after so many have ended."""
    first = judged(0, "", SCORE.program, SCORE.program, SCORE, None)
    assert first.status is Status.KEEP
    made, best, source = [first], first, SCORE.program
    context = Context(run_of(), source, best.commit, tuple(made), files=FILES)
    pending: list[Experiment] = []
    for number in range(1, decided + lanes + 1):
        context = replace(context, source=source, parent=best.commit, experiments=tuple(made + pending))
        proposed = suggest(context).source
        if number > decided:
            pending.append(begun(number, proposed, best.commit))
            continue
        made.append(judged(number, best.commit, source, proposed, SCORE, best.value))
        if made[-1].status is Status.KEEP:
            best, source = made[-1], proposed
    return replace(context, experiments=tuple(made + pending)), pending


def moves_of(context: Context, source: str) -> Moves:
    """Return which constants a program moves, and where to."""
    constants = {constant.name: constant.value for constant in find_constants(source)}
    read = ((axis, axis.read(constants)) for axis in learn(context, frozenset())[0].axes)
    return tuple((axis, value) for axis, value in read if value is not None and value != axis.current)


def test_lanes_try_different_things_at_once() -> None:
    context, pending = night(decided=30, lanes=4)
    programs = {each.program for each in pending}
    assert len(programs) == 4
    trials, _ = learn(context, frozenset())
    assert not is_near(moves_of(context, suggest(context).source), pending, trials)


async def test_where_nothing_ends_between_them_one_call_makes_several_the_same_as_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context, pending = night(decided=12, lanes=2)
    asked: list[int] = []

    async def in_process(function: str, *arguments: Any, **_: object) -> object:
        assert function.endswith(":suggest_many")
        asked.append(arguments[2])
        return suggest_many(*arguments)

    monkeypatch.setattr("loop.proposers.search.suggest.run_worker", in_process)
    proposer = SearchProposer()
    for _ in range(8):
        proposal = await proposer.propose(context)
        assert proposal == suggest(context)
        began = begun(context.experiments[-1].number + 1, proposal.source, context.parent)
        known = tuple(
            replace(each, skip_requested=True) if each.status is None else each
            for each in context.experiments  # trainings go on meanwhile
        )
        context = replace(context, experiments=(*known, began))
    assert asked == [1, 2, 4, 8]
    ended = judged(pending[0].number, context.parent, SCORE.program, context.source, SCORE, 1.0)
    decided = tuple(ended if each.number == ended.number else each for each in context.experiments)
    for other in (
        replace(context, experiments=decided),
        replace(context, search_mode=SearchMode.RADICAL),
        replace(context, experiments=(*context.experiments, replace(began, number=99, program="another"))),
    ):
        again = SearchProposer()
        again._last = proposer._last
        assert await again.propose(other) == suggest(other)
        assert asked.pop() == 1


def test_a_call_for_several_gives_those_that_there_are() -> None:
    run = context_of("DEPTH = 8\n")
    made = suggest_many(run, frozenset(), 99)
    assert 1 < len(made) < 99
    with pytest.raises(ExhaustedError):
        suggest_many(run, frozenset({"DEPTH"}), 2)


def test_lanes_put_together_what_they_found_apart() -> None:
    """More constants at once than one lane alone, which moves two at most where the noise is low."""
    context, _ = night(decided=30, lanes=4)
    decided = tuple(each for each in context.experiments if each.status is not None)
    before = {constant.name: constant.value for constant in find_constants(context.source)}

    def most_changed(experiments: tuple[Experiment, ...]) -> int:
        run, noise = context.run, Noise(0.0005, 4)
        contexts = (
            replace(context, experiments=experiments, noise=noise, run=replace(run, tag=f"run{n}"))
            for n in range(8)
        )
        made = [find_constants(suggest(each).source) for each in contexts]
        return max(sum(before[each.name] != each.value for each in constants) for constants in made)

    # A batch of the device may follow that of the step.
    assert most_changed(decided) <= 3 < most_changed(context.experiments) <= 5


def test_one_training_under_way_is_over_before_the_next_begins() -> None:
    context, pending = night(decided=12, lanes=1)
    assert under_way(context.experiments) == ()
    assert len(pending) == 1


def test_the_surface_has_less_doubt_where_a_lane_tries_something() -> None:
    context, pending = night(decided=30, lanes=3)
    before = replace(context, experiments=tuple(e for e in context.experiments if e.status is not None))
    trials, surface = learn(context, frozenset())
    _, without = learn(before, frozenset())
    for each in pending:
        values = axis_values(trials.axes, each.constants)
        _, (doubt,) = surface.predict(surface.columns.rows([values]))
        _, (doubt_before,) = without.predict(without.columns.rows([values]))
        assert doubt < doubt_before


@pytest.mark.parametrize(("tried", "sign"), [((0.07, 0.1), -1), ((0.03, 0.02), 1)])
def test_what_other_lanes_nearly_try_comes_last(tried: tuple[float, float], sign: int) -> None:
    """Other values in the same direction are there, and nothing is known of either direction."""
    source = "LR = 0.04\n"
    baseline = trial(0, "", {"LR": 0.04}, 1.0, Status.KEEP)
    pending = [trial(number, "", {"LR": value}, None, None) for number, value in enumerate(tried, 1)]
    context = context_of(source, baseline)
    beside = [replace(each, parent=context.parent) for each in pending]
    ((_, value),) = moves_of(context, suggest(replace(context, experiments=(baseline, *beside))).source)
    assert isinstance(value, float)
    assert (value - 0.04) * sign > 0
