"""Where TPE expects the best value of a constant (Bergstra et al. 2011; Optuna's)."""

from __future__ import annotations

from collections.abc import Sequence

from loop.experiment import Goal
from loop.proposers.space import Axis
from loop.proposers.trials import Result


def ask_tpe(axis: Axis, results: Sequence[Result], goal: Goal, *, seed: int) -> float:
    """Return the place on its ladder that TPE suggests for an axis, whatever the others are.

    A crash counts as the worst result.
    """
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    last = len(axis.ladder) - 1
    ladder: BaseDistribution = (
        FloatDistribution(0, last) if axis.ordered else CategoricalDistribution(range(last + 1))
    )
    values = [result.value for result in results if result.value is not None]
    worst = (max if goal is Goal.MINIMIZE else min)(values, default=0.0)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=0)
    study = optuna.create_study(direction=goal.value, sampler=sampler)
    for result in results:
        if axis.key in result.places:
            study.add_trial(
                optuna.trial.create_trial(
                    params={"place": result.places[axis.key]},
                    distributions={"place": ladder},
                    value=worst if result.value is None else result.value,
                )
            )
    return float(study.ask({"place": ladder}).params["place"])
