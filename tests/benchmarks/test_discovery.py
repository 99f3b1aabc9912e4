from __future__ import annotations

import sys

import pytest

from tests.benchmarks import discovery


@pytest.mark.slow
def test_the_search_comes_out_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["discovery", "--seeds", "8", "--experiments", "60"])
    discovery.main()  # exits with status 1 otherwise
    names = [line.rsplit(maxsplit=6)[0] for line in capsys.readouterr().out.splitlines()]
    assert names[1:] == ["search", "random points", "random steps"]
