from __future__ import annotations

import sys

import pytest

from tests.benchmarks import decisions
from tests.benchmarks.decisions import COVERED, Tails, measure, strict


@pytest.mark.parametrize("tails", list(Tails))
@pytest.mark.parametrize("pairs", [3, 6])
def test_the_certified_interval_covers_the_true_gain(tails: Tails, pairs: int) -> None:
    row = measure("", strict, pairs, tails, nights=500, trainings=15 + 2 * pairs, seed=1)
    assert row.covered is not None
    assert row.covered >= COVERED


def test_one_table_with_the_same_figures_each_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["decisions", "--nights", "20", "--trainings", "30"])
    monkeypatch.setattr(decisions, "COVERED", 0.0)  # of 20 nights the share is off by 5 %
    decisions.main()
    first = capsys.readouterr().out
    decisions.main()
    assert capsys.readouterr().out == first
    assert len(first.splitlines()) == 1 + len(decisions.RULES)


def test_too_narrow_an_interval_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["decisions", "--nights", "20", "--trainings", "30"])
    monkeypatch.setattr("loop.evaluation.certification._STUDENT", (0.1,) * 28)
    with pytest.raises(SystemExit, match="too seldom"):
        decisions.main()
