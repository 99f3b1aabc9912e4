"""The scorer's own arithmetic, which needs no PyTorch, against PyTorch's."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from tests.training.evaluation.scored import CPU, exchange, readers

ROWS, LENGTH, VOCABULARY = 3, 40, 211
TARGETS = np.random.default_rng(1).integers(0, VOCABULARY, ROWS * LENGTH)
WANTED = np.array([0, 1, 39, 40, 77, 78, 119])
BYTES = np.ones(VOCABULARY, np.int64)


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = os.memfd_create("exchange")
    yield descriptor
    os.close(descriptor)


def answers() -> dict[str, npt.NDArray[np.float32]]:
    random = np.random.default_rng(0)
    plain = random.normal(size=(ROWS * LENGTH, VOCABULARY)).astype(np.float32)
    impossible = plain.copy()
    impossible[:, 7] = -math.inf
    odd = plain.copy()
    odd[3, 5], odd[50, 1], odd[90] = math.nan, math.inf, -math.inf
    return {
        "as at the start": 1e-3 * plain,
        "as of a model": 5 * plain,
        "certain": 200 * plain,
        "far from 0": plain + 2e4,
        "huge": 1e30 * plain,
        "all alike": np.full_like(plain, -3),
        "an impossible token": impossible,
        "no numbers": odd,
    }


@pytest.mark.parametrize("block", [1, 7 * VOCABULARY, 2**20], ids=["one", "seven", "all"])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("kind", answers())
def test_both_find_the_same(
    kind: str, half: bool, block: int, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "BLOCK", block)
    shape = exchange.Shape(ROWS, LENGTH, VOCABULARY, half=half)
    with np.errstate(over="ignore"):
        logits = answers()[kind].astype(np.float16 if half else np.float32)
    os.pwrite(memory, logits.tobytes(), start := shape.logits_at(1))
    losses, found = readers.CpuReader(shape)(memory, start, TARGETS, WANTED)
    expected, likely = readers.GpuReader(shape, BYTES, CPU)(memory, start, TARGETS, WANTED)
    assert losses.dtype == found.dtype == np.float32
    np.testing.assert_allclose(losses, expected, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(found, likely, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("rows", [1, 2])
def test_only_the_rows_that_were_asked_for_count(rows: int, memory: int) -> None:
    shape = exchange.Shape(ROWS, LENGTH, VOCABULARY, half=False)
    os.pwrite(memory, answers()["as of a model"].tobytes(), start := shape.logits_at(0))
    targets, nothing = TARGETS[: rows * LENGTH], np.empty(0, np.int64)
    for reader in (readers.CpuReader(shape), readers.GpuReader(shape, BYTES, CPU)):
        losses, found = reader(memory, start, targets, nothing)
        assert losses.shape == (rows * LENGTH,)
        assert found.shape == (0, VOCABULARY)
