from __future__ import annotations

import sys
from contextlib import suppress

import pytest

from tests.benchmarks import discovery
from tests.benchmarks.landscape import NAMES, START, Landscape


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["discovery", *arguments])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    discovery.main()


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("landscape", NAMES)
@pytest.mark.parametrize("noise", discovery.NOISES)
def test_the_search_reaches_its_goals(landscape: str, noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    # Exits with status 1 otherwise.
    run(monkeypatch, "--landscape", landscape, "--noise", str(noise), "--jobs", "2")


SHORT = ("--landscape", "template", "--noise", "0.0005", "--seeds", "2", "--experiments", "3")


def test_jobs_do_not_change_the_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with suppress(SystemExit):  # of goals that so short nights miss
        run(monkeypatch, *SHORT)
    alone = capsys.readouterr().out
    with suppress(SystemExit):
        run(monkeypatch, *SHORT, "--jobs", "2")
    assert capsys.readouterr().out == alone


def row(gain: float, worst: float, crashes: float = 0.0, constants: float = 1.0) -> discovery.Row:
    nights = tuple(discovery.Harvest(each, crashes, constants) for each in (worst, gain, gain))
    return discovery.Row("template", 0.0005, "search", nights)


def test_each_goal_that_is_missed_is_named() -> None:
    steps = row(0.010, 0.001)
    assert discovery.missed(row(0.0126, 0.002), steps, 1.25) == []
    for search, word in [
        (row(0.0124, 0.002), "median"),
        (row(0.0126, 0.001), "worst"),
        (row(0.0126, 0.002, crashes=0.03), "crashes"),
        (row(0.0126, 0.002, constants=1.6), "constants"),
    ]:
        (sentence,) = discovery.missed(search, steps, 1.25)
        assert word in sentence


@pytest.mark.parametrize("name", NAMES)
def test_a_landscape_is_the_same_for_a_seed_and_has_gains_and_crashes(name: str) -> None:
    one, other = (Landscape(name, seed=3, noise=0.002) for _ in range(2))
    assert one.true(one.program) == pytest.approx(START)
    assert [one.measure(one.program) for _ in range(3)] == [other.measure(one.program) for _ in range(3)]
    assert one.measure(one.program) != one.measure(one.program)
    deep = one.program.replace("DEPTH = 8", "DEPTH = 16")
    assert one.measure(deep) is None
    smaller = [one.program.replace(old, new) for old, new in (("2**19", "2**18"), ("2**17", "2**16"))]
    assert max(abs(one.true(each) - START) for each in smaller) > 0.0005
