"""What is under way in several lanes counts as tried, with the result that is expected of it.

So that lanes do not all try the same: a surface that knows these points has nothing more to learn there
(kriging believer: Ginsbourger, Le Riche and Carraro 2010). What one lane alone has under way is over before
the next proposal is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loop.evaluation.noise import Noise
from loop.experiment import Experiment, Goal
from loop.proposers.search.history import Result, SearchHistory
from loop.proposers.search.space import Axis, Key, Moves, Scalar
from loop.proposers.search.surface import ResponseSurface, fit_surface


def under_way(experiments: Sequence[Experiment]) -> tuple[Experiment, ...]:
    """Return the experiments that train beside the one that is to be proposed."""
    found = tuple(each for each in experiments if each.status is None)
    return found if len(found) > 1 else ()


def with_pending(
    surface: ResponseSurface,
    pending: Sequence[Experiment],
    axes: Sequence[Axis],
    trials: SearchHistory,
    goal: Goal,
    noise: Noise | None,
) -> ResponseSurface:
    """Return the surface as it is if each of these comes to what is expected of it."""
    here = next((each.value for each in reversed(trials.results) if _is_best(each, trials.present)), None)
    if here is None or not pending:
        return surface
    values = [_values(each, axes) for each in pending]
    losses, _ = surface.predict(surface.columns.rows(values))
    sign = 1 if goal is Goal.MINIMIZE else -1
    expected = [Result(each, here + sign * float(loss)) for each, loss in zip(values, losses, strict=True)]
    return fit_surface(axes, (*trials.results, *expected), goal, noise, like=surface)


def is_near(moves: Moves, pending: Sequence[Experiment], trials: SearchHistory) -> bool:
    """Tell whether one of these moves the same constants in the same directions."""
    wanted = {axis.key: _direction(axis, axis.current, value) for axis, value in moves}
    axes = {axis.key: axis for axis, _ in moves}
    for each in pending:
        changed = trials.changes.get(each.number, {})
        if changed.keys() == wanted.keys() and all(
            wanted[key] is not None and _direction(axes[key], before, after) == wanted[key]
            for key, (before, after) in changed.items()
        ):
            return True
    return False


def _is_best(result: Result, present: Mapping[Key, Scalar]) -> bool:
    return result.value is not None and all(result.values.get(key) == value for key, value in present.items())


def _values(experiment: Experiment, axes: Sequence[Axis]) -> dict[Key, Scalar]:
    return {axis.key: value for axis in axes if (value := axis.read(experiment.constants)) is not None}


def _direction(axis: Axis, before: Scalar | None, after: Scalar) -> int | None:
    """Return whether a value rises, 1, or falls, -1; None where there is no order."""
    if not axis.ordered or before is None or isinstance(before, str) or isinstance(after, str):
        return None
    return (after > before) - (after < before)
