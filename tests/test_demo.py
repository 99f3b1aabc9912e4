"""`make demo`: it plays to its end, and leaves a chart and a page."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from notifiers import charts
from tests import demo


def test_the_demo_shows_a_night_and_leaves_chart_and_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def draw(*_: object, **__: object) -> bytes:
        return b"a chart"

    monkeypatch.setattr(charts, "run_worker", draw)  # matplotlib takes seconds
    paused: list[float] = []
    demo.main(tmp_path / "demo", paused.append)
    said = capsys.readouterr().out
    for shown in (
        "Experiment #0: baseline",
        "Status: crash",
        "[Pause]",
        "recovered",
        "Largest gains",
        "make run",
    ):
        assert shown in said
    page = tmp_path / "demo" / "mar12.html"
    assert str(page) in said
    assert "<title>mar12 · autoresearch" in page.read_text()
    assert (tmp_path / "demo" / "mar12.png").read_bytes() == b"a chart"
    assert sum(paused) < 60


def test_nothing_is_tried_twice_on_one_program() -> None:
    best, tried = float("inf"), set[str]()
    for step in islice(demo.steps(), 200):
        assert step.description not in tried
        tried.add(step.description)
        if step.value and step.value < best:
            best, tried = step.value, set()
