from __future__ import annotations

import re
from dataclasses import replace

import pytest

from loop.evaluation.noise import Noise
from loop.experiment import Experiment, Goal, Status
from loop.program.constants import find_constants
from loop.proposers.search.state import describe, read_state
from tests.loop.proposers.contexts import context_of, trial

SOURCE = "MATRIX_LR = 0.04\nADAM_BETAS = (0.8, 0.95)\nUSE_BIAS = True\n"


def tried(number: int, value: float, old: str = "", new: str = "") -> Experiment:
    constants = {each.name: each.value for each in find_constants(SOURCE.replace(old, new))}
    return trial(number, "", constants, value, Status.DISCARD if number else Status.KEEP)


@pytest.mark.parametrize("goal", list(Goal))
def test_effects_have_the_sign_and_about_the_size_that_was_measured(goal: Goal) -> None:
    sign = 1 if goal is Goal.MINIMIZE else -1
    trials = (
        tried(0, 1.0),
        tried(1, 1.0 - sign * 0.004, "0.04", "0.06"),
        tried(2, 1.0 + sign * 0.006, "0.95", "0.98"),
        tried(3, 1.0 + sign * 0.005, "True", "False"),
    )
    state = read_state(replace(context_of(SOURCE, *trials, goal=goal), noise=Noise(0.0002, 2)))
    assert state is not None
    effects = {effect.name: effect for effect in state.effects}
    assert list(effects) == [each.name for each in sorted(state.effects, key=lambda each: -each.gain)]
    rate, memory, toggle = effects["MATRIX_LR"], effects["ADAM_BETAS[1]"], effects["USE_BIAS"]
    assert isinstance(rate.best, float)
    assert rate.best > 0.04
    assert 0.003 < rate.gain < 0.01
    assert isinstance(memory.best, float)
    assert memory.best < 0.95
    assert toggle.gain == pytest.approx(-0.005, abs=0.001)
    assert (toggle.present, toggle.best, toggle.tried) == (True, False, 1)
    assert toggle.error < effects["ADAM_BETAS[0]"].error  # which was never tried
    assert effects["ADAM_BETAS[0]"].tried == 0
    assert "MATRIX_LR 0.04 → " in state.corner
    assert "USE_BIAS" not in state.corner
    assert state.corner_gain >= rate.gain
    assert (state.results, state.noise, state.noise_is_measured) == (4, 0.0002, True)


def test_without_repeats_the_noise_is_an_estimate() -> None:
    state = read_state(context_of(SOURCE, tried(0, 1.0), tried(1, 1.004, "0.04", "0.06")))
    assert state is not None
    assert not state.noise_is_measured
    assert state.noise > 0


def test_without_constants_or_results_there_is_none() -> None:
    assert read_state(context_of("print(1)\n", tried(0, 1.0))) is None
    assert read_state(context_of(SOURCE)) is None
    assert (
        read_state(context_of(SOURCE, tried(0, 1.0)), frozenset({"MATRIX_LR", "ADAM_BETAS", "USE_BIAS"}))
        is None
    )


def test_a_model_is_told_effects_with_errors_and_what_is_best_together() -> None:
    trials = (tried(0, 1.0), tried(1, 0.996, "0.04", "0.06"), tried(2, 1.006, "0.95", "0.98"))
    context = replace(context_of(SOURCE, *trials), noise=Noise(0.0002, 2))
    first, *effects, last = describe(context).splitlines()
    assert first.startswith("By 3 results. A gain above 0 is better")
    assert first.endswith("the noise of one training is 0.000200 (measured).")
    effect = r"MATRIX_LR 0\.04 → 0\.\d+: \+0\.00\d{4} ± 0\.00\d{4} \(1 tried\)"
    assert any(re.fullmatch(effect, line) for line in effects)
    assert len(effects) == 4
    assert last.startswith("Best together: MATRIX_LR 0.04 → ")
    assert describe(context_of("print(1)\n")) == ""
