from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import replace

import pytest

from loop.evaluation.noise import Noise
from loop.experiment import Experiment, Goal, Status
from loop.results.constants import Move, Way, moves_of
from loop.store.journal import Journal
from tests.loop.store.test_journal import make_experiment, make_run


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    journal = Journal(tmp_path_factory.mktemp("constants") / "state.db")
    experiment = make_experiment(make_run(journal), 0, Status.KEEP)
    journal.close()
    return experiment


def night(
    blank: Experiment, count: int, *, effects: Mapping[str, float], noise: float, several: int = 1
) -> list[Experiment]:
    """Return a baseline and experiments that each raise a few constants; `effects` are what that does."""
    chance = random.Random(1)
    base: dict[str, object] = dict.fromkeys(effects, 1.0)
    first = replace(blank, commit="0" * 40, value=1.0, constants=base, best_before=None)
    found = [first]
    for number in range(1, count):
        moved = chance.sample([*effects], several)
        value = 1.0 + sum(effects[name] for name in moved) + chance.gauss(0, noise)
        found.append(
            replace(
                blank,
                number=number,
                commit=f"{number:040x}",
                parent=first.commit,
                status=Status.DISCARD,
                value=value,
                best_before=1.0,
                constants={**base, **dict.fromkeys(moved, 2.0)},
            )
        )
    return found


def found_of(moves: list[Move]) -> dict[str, Move]:
    return {move.name: move for move in moves}


@pytest.mark.parametrize("several", [1, 3])
def test_effects_are_found_with_intervals_that_hold_them(blank: Experiment, several: int) -> None:
    effects = {"LR": 0.02, "DEPTH": -0.01, "WIDTH": 0.0, "RATIO": 0.0, "BETA": 0.001}
    moves = moves_of(night(blank, 81, effects=effects, noise=0.002, several=several), Goal.MINIMIZE)
    assert [move.name for move in moves[:2]] == ["LR", "DEPTH"]
    assert all(move.is_certain for move in moves[:2])
    for name, move in found_of(moves).items():
        assert move.half is not None
        assert abs(move.effect - effects[name]) < 1.6 * move.half
        assert move.half < 0.003
        assert move.way is Way.RAISED
        assert move.tried == len(move.tries) > 5


def test_raised_and_lowered_are_two_moves_and_what_has_no_order_one(blank: Experiment) -> None:
    first = replace(blank, commit="a", constants={"LR": 0.1, "ACT": "relu", "BETAS": [0.9, 0.95]}, value=1.0)
    head = replace(first, parent="a", best_before=1.0, status=Status.DISCARD)
    moves = moves_of(
        [
            first,
            replace(head, number=1, commit="b", value=1.1, constants={**first.constants, "LR": 0.2}),
            replace(head, number=2, commit="c", value=1.2, constants={**first.constants, "LR": 0.05}),
            replace(head, number=3, commit="d", value=1.3, constants={**first.constants, "ACT": "gelu"}),
            replace(
                head, number=4, commit="e", value=0.9, constants={**first.constants, "BETAS": [0.9, 0.99]}
            ),
            replace(head, number=5, commit="f", value=None, status=Status.CRASH, constants={"LR": 9}),
            replace(head, number=6, commit="g", value=0.1, status=Status.QUARANTINE, constants={"LR": 9}),
        ],
        Goal.MINIMIZE,
    )
    assert [(move.name, move.way) for move in moves] == [
        ("ACT", Way.CHANGED),
        ("LR", Way.LOWERED),
        ("LR", Way.RAISED),
        ("BETAS[1]", Way.RAISED),
    ]
    assert [round(move.effect, 3) for move in moves] == [0.3, 0.2, 0.1, -0.1]
    assert {move.half for move in moves} == {None}  # as many results as moves say nothing of chance


def test_a_measured_noise_gives_an_interval_where_the_results_cannot(blank: Experiment) -> None:
    experiments = night(blank, 3, effects={"LR": 0.02, "DEPTH": 0.01}, noise=0.0)
    moves = moves_of(experiments, Goal.MINIMIZE, Noise(0.001, 4))
    for move in moves:
        assert move.half == pytest.approx(2.776 * (2 / move.tried) ** 0.5 * 0.001, rel=0.01)


def test_constants_that_were_only_moved_together_are_not_certain(blank: Experiment) -> None:
    experiments = night(blank, 30, effects={"A": 0.02, "B": 0.0}, noise=0.001, several=2)
    moves = moves_of(experiments, Goal.MINIMIZE)
    assert [round(move.effect, 2) for move in moves] == [0.01, 0.01]
    assert not any(move.is_certain for move in moves)


@pytest.mark.parametrize("goal", Goal)
def test_one_that_diverged_does_not_hide_the_others(blank: Experiment, goal: Goal) -> None:
    sign = 1 if goal is Goal.MINIMIZE else -1
    experiments = night(blank, 61, effects={"LR": -0.02 * sign, "DEPTH": 0.01 * sign}, noise=0.001)
    diverged = replace(experiments[-1], number=99, commit="9", value=1.0 + 1e9 * sign)
    moves = moves_of([*experiments, diverged], goal)
    assert [move.is_certain for move in moves] == [True, True]


def test_a_run_without_constants_or_results_has_no_moves(blank: Experiment) -> None:
    assert moves_of([], Goal.MINIMIZE) == []
    assert moves_of([replace(blank, constants={})], Goal.MINIMIZE) == []


def test_a_long_run_of_many_constants_takes_a_moment(blank: Experiment) -> None:
    experiments = night(blank, 1000, effects={f"C{n}": 0.0 for n in range(100)}, noise=0.01, several=4)
    before = time.process_time()
    assert len(moves_of(experiments, Goal.MINIMIZE)) == 60
    assert time.process_time() - before < 3
