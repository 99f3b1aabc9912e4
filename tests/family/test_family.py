"""The cheapest of the shapes, by the real command line; all of them: `make family`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.family.shapes import SHAPES, Shape
from tests.family.trial import try_shape

CHEAP = ("data where a variable says", "val_accuracy")


@pytest.mark.parametrize(
    "shape", [shape for shape in SHAPES if shape.name in CHEAP], ids=lambda shape: shape.name
)
def test_a_user_comes_from_doctor_to_three_experiments(shape: Shape, disk_path: Path) -> None:
    trial = try_shape(shape, disk_path / "user")
    assert trial.is_right, trial.problem
