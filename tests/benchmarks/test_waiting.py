from __future__ import annotations

import sys

import pytest

from tests.benchmarks import waiting
from tests.benchmarks.waiting import OVERHEAD, Waiting


@pytest.mark.parametrize(
    ("measured", "good"),
    [
        (Waiting(6.0, 2.0, (4.0, 4.1), 2), True),
        (Waiting(6.0, 2.0, (4.0, 4.1), 1), False),  # one of the waits was not counted
        (Waiting(6.0, 2.0, (4.0, 4.1 + OVERHEAD), 2), False),
        (Waiting(1.0, 2.0, (0.01, 0.02), 0), True),
        (Waiting(1.0, 2.0, (0.01, 0.02), 1), False),
        (Waiting(1.0, 2.0, (0.01, 0.1 + OVERHEAD), 0), False),
    ],
)
def test_what_is_as_expected(measured: Waiting, good: bool) -> None:
    assert measured.is_as_expected == good
    assert waiting.table([measured]).endswith("not as expected") != good


@pytest.mark.slow
def test_the_gpu_waits_for_a_slow_model_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["waiting", "--experiments", "3"])
    with pytest.raises(SystemExit) as end:
        waiting.main()
    assert end.value.code == 0
