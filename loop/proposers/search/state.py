"""What the search believes, for people and models that decide for themselves.

Telling a language model the state of such a search made both better together than either (arXiv 2603.24647).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loop.gain import number, signed
from loop.proposers.protocol import Context
from loop.proposers.search.space import Axis, Scalar
from loop.proposers.search.suggest import Options, learn

if TYPE_CHECKING:
    from loop.proposers.search.surface import Array

_TOLD = 12  # effects that a model is told
_CORNER = 6  # constants of the best corner: more of them are hardly sure together


@dataclass(frozen=True, slots=True)
class Effect:
    """What setting `name` to `best` is believed to gain over `present`, with its standard error.

    `tried` is how many experiments changed it. An element of a tuple is named as in `ADAM_BETAS[1]`.
    """

    name: str
    present: Scalar
    best: Scalar
    gain: float
    error: float
    tried: int


@dataclass(frozen=True, slots=True)
class SearchState:
    """What `results` say: `effects`, the largest gain first, the best corner and the noise of one training.

    Gains, errors and `noise` are in the unit of the metric; a gain above 0 is better whichever the goal.
    `corner` describes the changes that are best together, empty where none is believed to gain.
    """

    results: int
    noise: float
    noise_is_measured: bool
    effects: tuple[Effect, ...]
    corner: str
    corner_gain: float
    corner_error: float


def read_state(context: Context, frozen: Collection[str] = frozenset()) -> SearchState | None:
    """Return the state of the search, None where there is no constant or no result. Imports numpy."""
    trials, surface = learn(context, frozen)
    if not trials.axes or not trials.results:
        return None

    def loss(rows: Array) -> Array:
        return surface.predict(rows)[0]

    def effect(axis: Axis) -> Effect | None:
        found = Options([axis], trials, surface).best(loss, most=1)
        if not found:
            return None
        (expected,), (error,) = surface.predict(surface.rows([found]))
        tried = sum(axis.key in changed for changed in trials.changes.values())
        name = axis.constant.name if axis.index is None else f"{axis.constant.name}[{axis.index}]"
        return Effect(name, axis.current, found[0][1], -float(expected), float(error), tried)

    corner = Options(trials.axes, trials, surface).best(loss, _CORNER)
    (expected,), (error,) = surface.predict(surface.rows([corner]))
    gains = expected < 0
    return SearchState(
        results=len(trials.results),
        noise=context.noise.sigma if context.noise else surface.noise,
        noise_is_measured=context.noise is not None,
        effects=tuple(sorted(filter(None, map(effect, trials.axes)), key=lambda each: -each.gain)),
        corner=trials.program.change(corner).description if gains else "",
        corner_gain=-float(expected) if gains else 0.0,
        corner_error=float(error) if gains else 0.0,
    )


def describe(context: Context, frozen: Collection[str] = frozenset()) -> str:
    """Return the state of the search in words, empty where there is none. Imports numpy."""
    state = read_state(context, frozen)
    return "" if state is None else state_text(state, context.last_value)


def state_text(state: SearchState, like: float | None) -> str:
    """Say what the search believes; `like` is a number of the metric."""
    source = "measured" if state.noise_is_measured else "estimated"
    noise = f"the noise of one training is {number(state.noise, like)} ({source})"
    lines = [f"By {state.results} results. A gain above 0 is better, ± its standard error; {noise}."]
    for each in state.effects[:_TOLD]:
        gain = f"{signed(each.gain, like)} ± {number(each.error, like)}"
        lines.append(f"{each.name} {each.present} → {each.best}: {gain} ({each.tried} tried)")
    if state.corner:
        gain, error = signed(state.corner_gain, like), number(state.corner_error, like)
        lines.append(f"Best together: {state.corner}: {gain} ± {error}")
    return "\n".join(lines)
