"""What a training has left of its budget: by time, and by what it has computed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from loop.logs.summary import read_summary
from tests.training.conftest import HarnessError, copy_template, environment_of, small
from tests.training.preloaded import run_forked
from tests.training.test_model import CPU, build, tokens
from training import prepare, train

flops = importlib.import_module("flops")
EACH = flops.ELEMENT_FLOPS

A, B, C = torch.ones(8, 16), torch.ones(16, 4), torch.ones(8, 4)
HEADS = torch.ones(2, 3, 32, 16)  # rows, heads, time, channels


def counted(compute: Callable[[], object]) -> int:
    with flops.Counter() as counter:
        compute()
    return int(counter.flops)


def adamw() -> None:
    train.AdamW([nn.Parameter(A)], 0.1, (0.9, 0.9)).step(1.0)


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        (lambda: A @ B, 2 * 8 * 16 * 4),
        (lambda: torch.addmm(C, A, B), 2 * 8 * 16 * 4),
        (lambda: functional.linear(A.view(2, 4, 16), B.T), 2 * 8 * 16 * 4),
        (lambda: torch.einsum("ab,bc->ac", A, B), 2 * 8 * 16 * 4),
        (lambda: functional.scaled_dot_product_attention(HEADS, HEADS, HEADS), 4 * 2 * 3 * 32 * 32 * 16),
        (lambda: A + A, EACH * 128),
        (lambda: (A.view(-1), A.T, A[2:], A.expand(3, 8, 16)), 0),
        (lambda: torch._foreach_add_([A.clone(), C.clone()], 1), EACH * 2 * (128 + 32)),
        (lambda: (A[:, :, None] * B).sum(1), EACH * (8 * 16 * 4 + 8 * 4)),  # a product without a product
    ],
)
def test_an_operation_has_its_price(compute: Callable[[], object], expected: int) -> None:
    assert counted(compute) == expected


def step_of(*windows: int, width: int = 32, ngrams: int = 0, rows: int = 4) -> int:
    """What a whole step of the template costs."""
    model = build(*windows, width=width, ngrams=ngrams)
    optimizer = train.Optimizer(model)

    def step() -> None:
        train.gradients(model, iter([(tokens(rows), tokens(rows, seed=1), 0)]), 1)
        optimizer.step(0, 0.0)

    return counted(step)


def test_a_step_costs_what_its_model_says_and_what_is_beside_its_products(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flops, "ELEMENT_FLOPS", 0)
    model = build(32, 32, width=64)
    assert model.flops_per_token() == 6 * (12 * 2 * 64**2 + 96 * 64 + 32 * 2) + 12 * 64 * 64
    products = step_of(32, 32, width=64, rows=64)
    muon = step_of(32, 32, width=64, rows=1)  # its products cost the same for each step
    assert products - muon == pytest.approx(63 * 32 * model.flops_per_token(), rel=0.05)


def test_whatever_makes_a_program_slower_costs_more() -> None:
    usual = step_of(8, 32)
    assert step_of(8, 8, 32) > usual
    assert step_of(8, 32, width=64) > usual
    assert step_of(8, 32, ngrams=4096) > usual  # no product more, but AdamW goes over all rows
    assert step_of(8, 32, rows=8) < 2 * usual  # Muon's own work is done half as often


def test_the_budget_that_is_used_up_first_ends_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "TIME_BUDGET", 60)
    assert [prepare.progress(seconds) for seconds in (0, 15, 90)] == [0, 0.25, 1.5]
    assert prepare.computed() == 0
    monkeypatch.setattr(prepare, "FLOP_BUDGET", 10**9)
    monkeypatch.setattr(flops.COUNTER, "flops", 5 * 10**8)
    assert [prepare.progress(seconds) for seconds in (0, 15, 90)] == [0.5, 0.5, 1.5]
    assert prepare.computed() == 5 * 10**8


def test_what_has_computed_too_much_gets_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "FLOP_BUDGET", 10**9)
    monkeypatch.setattr(flops.COUNTER, "flops", 13 * 10**8)

    def never(_: Tensor) -> Tensor:
        raise AssertionError

    with pytest.raises(HarnessError, match=r"1\.30 times FLOP_BUDGET"):
        prepare.evaluate_bpb(never, prepare.Corpus(), rows=1, device=CPU)


BUDGET = 3 * 10**9  # some steps of the small template


def trained(data: Path, folder: Path, **constants: str) -> dict[str, float]:
    budget = {"TIME_BUDGET": "600", "FLOP_BUDGET": f"{BUDGET}", "TOTAL_BATCH_SIZE": "2**8"}
    given = small(data) | budget | constants
    work = copy_template(folder, **given)
    done = run_forked(["train.py"], cwd=work, env=environment_of(data / "cache"))
    assert done.returncode == 0, done.stderr
    return read_summary(done.stdout)


def test_a_training_by_flops_repeats_to_the_digit_and_a_larger_model_gets_fewer_steps(
    data: Path, tmp_path: Path
) -> None:
    first, again = trained(data, tmp_path / "1"), trained(data, tmp_path / "2")
    for key in ("val_bpb", "num_steps", "training_tflops"):
        assert first[key] == again[key]
    assert first["num_steps"] > 5
    assert 0.98 * BUDGET < 1e12 * first["training_tflops"] < 1.2 * BUDGET  # it is printed with four digits
    larger = trained(data, tmp_path / "3", ASPECT_RATIO="24")
    assert larger["num_steps"] < first["num_steps"]


def test_it_can_compile_only_without_a_text_and_without_a_result(data: Path, tmp_path: Path) -> None:
    work = copy_template(
        tmp_path / "work", **(small(data) | {"TIME_BUDGET": "600", "FLOP_BUDGET": f"{BUDGET}"})
    )
    before = {path.name for path in work.iterdir()}
    env = environment_of(tmp_path / "nothing", AUTORESEARCH_COMPILE_ONLY="1")
    done = run_forked(["train.py"], cwd=work, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    *_, last = done.stdout.splitlines()
    assert last.startswith("step 00002 (100.0%)")  # one step that takes no time, and one that counts
    assert {path.name for path in work.iterdir()} - before <= {"__pycache__"}
    assert not (tmp_path / "nothing").exists()
