from __future__ import annotations

import sys

import pytest

from tests.benchmarks import discovery


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["discovery", *arguments])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    discovery.main()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("experiments", "noise", "ratio"),
    [
        ("30", "0.002", "1.6"),
        ("60", "0.002", "1.6"),
        ("100", "0.002", "1.4"),
        ("60", "0.0005", "1"),
        ("60", "0.006", "1"),
    ],
)
def test_the_search_comes_out_first_and_clearly(
    experiments: str,
    noise: str,
    ratio: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Exits with status 1 otherwise.
    run(monkeypatch, "--experiments", experiments, "--noise", noise, "--ratio", ratio, "--jobs", "2")
    names = [line.rsplit(maxsplit=6)[0] for line in capsys.readouterr().out.splitlines()]
    assert names[1:4] == ["search", "random points", "random steps"]


def test_jobs_do_not_change_the_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--seeds", "2", "--experiments", "3", "--ratio", "-9")
    run(monkeypatch, *arguments)
    alone = capsys.readouterr().out
    run(monkeypatch, *arguments, "--jobs", "2")
    assert capsys.readouterr().out == alone


def test_a_search_that_is_not_clearly_first_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="not come out first"):
        run(monkeypatch, "--seeds", "1", "--experiments", "1", "--ratio", "1000")
