"""`profiles.toml` against the files that it is spliced into."""

from __future__ import annotations

import ast
import importlib
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch

from bot.setup.template import Profile
from loop.logs.summary import read_summary
from loop.proposers.search.memory import MemoryUse, fit_memory
from tests.training.conftest import TEMPLATE, copy_template, environment_of, small
from tests.training.preloaded import run_forked
from training import train
from training.train import Config

Apply = Callable[[str], tuple[Config, float, float]]

PROFILES = tomllib.loads((TEMPLATE / "profiles.toml").read_text(encoding="utf-8"))
CASES = [
    (profile, file, name, value)
    for profile, files in PROFILES.items()
    for file, constants in files.items()
    for name, value in constants.items()
]


def constants(file: str) -> dict[str, ast.expr]:
    """The plain assignments `NAME = value` at the top level of a file."""
    tree = ast.parse((TEMPLATE / f"{file}.py").read_text(encoding="utf-8"))
    return {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and len(node.targets) == 1
    }


def test_each_profile_has_the_same_constants_of_the_two_files() -> None:
    assert tuple(PROFILES) == get_args(Profile)
    for files in PROFILES.values():
        assert set(files) == {"prepare", "train"}
        assert files["prepare"].keys() == PROFILES["gpu"]["prepare"].keys()
        assert files["train"].keys() == PROFILES["gpu"]["train"].keys()


@pytest.mark.parametrize(("profile", "file", "name", "value"), CASES)
def test_each_value_is_python_for_a_constant_of_the_file(
    profile: str, file: str, name: str, value: str
) -> None:
    there = constants(file)[name]
    if profile == "gpu":
        assert ast.unparse(there) == ast.unparse(ast.parse(value, mode="eval").body)
    here = eval(value, {})
    assert type(here) is type(eval(ast.unparse(there), {}))


def test_every_constant_of_the_training_has_a_comment() -> None:
    lines = (TEMPLATE / "train.py").read_text(encoding="utf-8").splitlines()
    tuned = [line for line in lines if line.split(" = ")[0].isupper()]
    assert len(tuned) > 20
    assert all("  # " in line for line in tuned)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Apply:
    """Set the constants of a profile; return its model's size, its weights and tokens at once."""
    harness = importlib.import_module("prepare")  # the one that train.py has

    def apply(profile: str) -> tuple[Config, float, float]:
        for module, file in ((harness, "prepare"), (train, "train")):
            for name, value in PROFILES[profile][file].items():
                monkeypatch.setattr(module, name, eval(value))
        device = torch.device("cuda" if profile.startswith("gpu") else profile)
        config = train.config_for(device)
        with torch.device("meta"):
            model = train.GPT(config, torch.device("meta"))
        return (
            config,
            sum(weight.numel() for weight in model.parameters()),
            train.split_batch()[0] * config.context,
        )

    return apply


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_describes_a_model_that_can_be_trained(profile: str, fits: Apply) -> None:
    config, _, tokens = fits(profile)
    assert config.dtype == (torch.bfloat16 if profile.startswith("gpu") else torch.float32)
    assert config.width % config.heads == 0
    assert config.width // config.heads % 2 == 0  # rotations turn pairs
    assert tokens * train.split_batch()[1] == train.TOTAL_BATCH_SIZE
    assert config.ngrams > 0


MEASURED = 25.8 * 2**30  # bytes at the GPU profile on an H200 (LOG.md)
STATES = 16  # bytes of a weight with its gradient and the two means of its optimizer


@pytest.mark.parametrize(("profile", "available"), [("gpu8", 7.0), ("mps", 5.3)])
def test_the_untested_profiles_fit_their_memory(profile: str, available: float, fits: Apply) -> None:
    """By the model of the search, and at most if no token took less than at the GPU profile, which is deeper.

    An 8 GB GPU also has a screen and a driver; Apple gives a GPU two thirds of 8 GB that it shares.
    """
    large, weights, tokens = fits("gpu")
    each = (MEASURED - STATES * weights) / tokens
    compact, own_weights, own_tokens = fits(profile)

    def size(config: Config, at_once: float) -> float:
        return len(config.windows) * config.width * at_once

    training = MemoryUse(size(large, tokens), MEASURED / 2**20)
    memory = fit_memory([training], training, 1024 * available)
    scale = 2 if compact.dtype == torch.float32 else 1
    assert memory.peak(scale * size(compact, own_tokens)) < 1024 * available
    most = STATES * own_weights + scale * each * own_tokens
    if profile == "mps":  # it writes out the products of queries and keys, for the way back too
        most += 3 * 4 * len(compact.windows) * compact.heads * compact.context * own_tokens
    assert most < available * 2**30


FAKE = """
import runpy, sys
import torch
from torch.overrides import TorchFunctionMode

class Mps(TorchFunctionMode):
    '''Computes on the CPU what is meant for an Apple GPU, and refuses what that one cannot do.'''

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [*args, *kwargs.values()]
        if any(isinstance(each, torch.device) and each.type == "mps" for each in given):
            assert torch.float64 not in given, "there is no float64"
            assert not kwargs.get("non_blocking"), "what is copied may be freed before"
        def here(each):
            return torch.device("cpu") if isinstance(each, torch.device) and each.type == "mps" else each
        return func(*map(here, args), **{name: here(each) for name, each in kwargs.items()})

torch.backends.mps.is_available = lambda: True
torch.mps.driver_allocated_memory = lambda: 3 * 2**20
with Mps():
    runpy.run_path("train.py", run_name="__main__")
"""


def test_what_apples_gpu_is_told_to_do_runs(data: Path, tmp_path: Path) -> None:
    work = copy_template(
        tmp_path / "repository", **small(data) | {"TIME_BUDGET": "0.3", "WINDOW_PATTERN": '"SL"'}
    )
    done = run_forked(["-c", FAKE], cwd=work, env=environment_of(data / "cache"))
    assert done.returncode == 0, done.stderr
    assert ", mps\n" in done.stdout
    summary = read_summary(done.stdout)
    assert summary["peak_vram_mb"] == 3
    assert 0 < summary["val_bpb"] < 8
