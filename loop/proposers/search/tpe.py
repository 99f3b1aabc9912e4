"""Which program TPE would try next, all constants together (Bergstra et al. 2011; Optuna's, multivariate)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loop.experiment import Goal
from loop.proposers.search.space import Axis, Key
from loop.proposers.search.trials import Result

_RANDOM = 4  # results before which it asks at random


def ask_tpe(axes: Sequence[Axis], results: Sequence[Result], goal: Goal, *, seed: int) -> Mapping[Key, int]:
    """Return the step of its ladder that TPE suggests for each axis.

    A crash counts as the worst result.
    """
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    steps: dict[str, BaseDistribution] = {
        _name(axis.key): FloatDistribution(0, len(axis.ladder) - 1)
        if axis.ordered
        else CategoricalDistribution(range(len(axis.ladder)))
        for axis in axes
    }
    values = [result.value for result in results if result.value is not None]
    worst = (max if goal is Goal.MINIMIZE else min)(values, default=0.0)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_RANDOM, multivariate=True)
    study = optuna.create_study(direction=goal.value, sampler=sampler)
    study.add_trials(
        optuna.trial.create_trial(
            params={_name(key): place for key, place in result.places.items()},
            distributions=steps,
            value=worst if result.value is None else result.value,
        )
        for result in results
    )
    asked = study.ask(steps).params
    return {axis.key: round(asked[_name(axis.key)]) for axis in axes}


def _name(key: Key) -> str:
    return "/".join(map(str, key))
