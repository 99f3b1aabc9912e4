from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.evaluation.certainty import Certainty
from loop.evaluation.certification import Kept
from loop.evaluation.noise import Noise
from loop.evidence import Certified, Invalidated
from loop.experiment import Family, Goal, Status
from loop.results.constants import Move, Try, Way
from loop.results.report import make_report
from notifiers.charts.scene import make_scene
from notifiers.page import Content, Detail, page
from notifiers.page.drawing import draw_chart, draw_slices
from tests.notifiers.page_night import HOSTILE, night_of

NOW = datetime(2026, 3, 13, 7, 0, tzinfo=UTC)


def data_of(html: str) -> list[dict[str, object]]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    loaded: list[dict[str, object]] = json.loads(found[1])["experiments"]
    return loaded


def test_the_page_has_everything_in_it() -> None:
    html = page(night_of(40), made_at=NOW)
    assert not re.search(r"""(?:src|href)=["'](?!#)""", html)
    assert "url(" not in html
    for heading in ("Progress", "Where the time went", "What was kept", "Kinds of ideas", "All experiments"):
        assert f">{heading}</h2>" in html
    assert "git switch --detach c0ffee" in html
    assert len(data_of(html)) == 40


def test_kinds_of_ideas_are_named_as_in_messages() -> None:
    content = night_of(4)
    families = (None, Family.BATCH, Family.COMBINATION, Family.OPTIMIZER)
    rows = [replace(row, family=family) for row, family in zip(content.rows, families, strict=True)]
    report = make_report(rows, metric="val_bpb", goal=Goal.MINIMIZE)
    html = page(replace(content, rows=rows, report=report), made_at=NOW)
    for name in ("batch size", "several constants at once", "optimizer"):
        for shown in (f'data-family="{name}"', f'<th scope="row">{name}</th>', f"<option>{name}</option>"):
            assert shown in html
        assert str(["family", name]) in str(data_of(html))


def test_what_experiments_say_is_never_markup() -> None:
    html = page(night_of(12), made_at=NOW)
    assert html.count("<script") == 2
    assert "<img" not in html
    assert data_of(html)[3]["title"] == HOSTILE


@settings(max_examples=25, deadline=None)
@given(st.text(), st.text())
def test_any_text_comes_back_as_it_was(description: str, log: str) -> None:
    content = night_of(3)
    rows = [replace(content.rows[0], description=description), *content.rows[1:]]
    details = {0: Detail(log, log[:100], log[:100])}
    html = page(replace(content, rows=rows, details=details), made_at=NOW)
    (first, *_) = data_of(html)
    assert (first["title"], first["rationale"], first["diff"]) == (description, log, log[:100])
    assert html.count("<script") == 2


def test_a_title_that_is_no_text_does_not_keep_the_page_from_being_written() -> None:
    assert b"<h1>caf\xef\xbf\xbd</h1>" in page(replace(night_of(3), title="caf\udce9"), made_at=NOW).encode()


def test_the_legend_explains_what_is_in_the_chart() -> None:
    content = night_of(40)
    assert "above the scale" not in page(replace(content, rows=content.rows[:2]), made_at=NOW)
    rows = [*content.rows, replace(content.rows[1], number=40, value=1e9, status=Status.DISCARD)]
    assert "above the scale" in page(replace(content, rows=rows), made_at=NOW)


def test_a_bare_table_makes_a_page_without_what_nobody_knows() -> None:
    content = replace(night_of(5), details={}, ledger=None, provenance=None)
    html = page(content, made_at=NOW)
    assert "Where the time went" not in html
    assert "To see the best again" not in html


def test_a_run_without_results_is_a_page_that_says_so() -> None:
    report = make_report([], metric="val_bpb", goal=Goal.MINIMIZE, tag="mar12")
    html = page(Content(report, [], {}, "mar12"), made_at=NOW)
    assert "no results yet" in html
    assert "No experiment has a result yet." in html
    assert 'class="chart' not in html


def test_a_long_run_stays_small_enough_for_a_mail() -> None:
    html = page(night_of(1000, diff="+" + "x" * 30_000), made_at=NOW)
    assert len(html.encode()) < 5e6
    assert "shortened" in html


def changes_of(html: str) -> dict[int, str]:
    row = r'<tr id="(\d+)".*?</td><td class="figure">.*?</td><td class="figure">(.*?)</td>'
    return {int(number): moved for number, moved in re.findall(row, html)}


def test_of_a_very_long_run_what_was_kept_and_the_newest_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    content = night_of(300)
    rows = [*content.rows[:7], replace(content.rows[7], status=Status.QUARANTINE), *content.rows[8:]]
    everything = page(replace(content, rows=rows), made_at=NOW)
    assert "are listed" not in everything
    monkeypatch.setattr("notifiers.page._LISTED", 50)
    html = page(replace(content, rows=rows), made_at=NOW)
    always = [row.number for row in rows[:250] if row.status in (Status.KEEP, Status.QUARANTINE)]
    numbers = [*always, *range(250, 300)]
    assert 7 in always
    assert [each["number"] for each in data_of(html)] == numbers
    assert f"{len(numbers)} of 300 experiments are listed" in html
    assert changes_of(html) == {number: changes_of(everything)[number] for number in numbers}


def test_what_is_not_listed_is_a_point_where_its_mark_would_be() -> None:
    rows = night_of(300).rows
    listed = [row for row in rows if row.status is Status.KEEP or row.number >= 250]
    every = make_scene(rows, metric="val_bpb", goal=Goal.MINIMIZE, title="")
    scene = make_scene(rows, metric="val_bpb", goal=Goal.MINIMIZE, title="", listed=listed)
    assert sorted(scene.discarded + scene.others) == sorted(every.discarded)
    assert (scene.best, scene.low, scene.high, scene.gains) == (
        every.best,
        every.low,
        every.high,
        every.gains,
    )
    drawing = draw_chart(scene, 400, 330)
    places = [(mark.x, mark.y) for mark in draw_chart(every, 400, 330).marks if mark.kind == "discard"]
    assert drawing.others
    for point in drawing.others.removeprefix("M").split("M"):
        x, y = map(float, point.removesuffix("h0").split())
        assert any(abs(x - at) <= 0.5 and abs(y - height) <= 0.5 for at, height in places)


@pytest.mark.parametrize("width", [390, 1040])
def test_every_mark_lies_within_the_drawing(width: int) -> None:
    content = night_of(200)
    rows = [*content.rows, replace(content.rows[1], number=200, value=1e9, status=Status.DISCARD)]
    scene = make_scene(rows, metric="val_bpb", goal=Goal.MINIMIZE, title="mar12")
    drawing = draw_chart(scene, width, 330)
    assert len(drawing.marks) == 201
    for mark in drawing.marks:
        assert drawing.left <= mark.x <= drawing.right
        assert drawing.top <= mark.y <= drawing.bottom
    assert [mark.number for mark in drawing.marks if mark.kind == "above"][-1] == 200
    assert len({label for _, label in drawing.y_ticks}) == len(drawing.y_ticks) > 1
    assert drawing.x_ticks[0][1] == "0"


def test_a_lower_value_is_drawn_lower() -> None:
    rows = [row for row in night_of(50).rows if row.status is Status.KEEP]
    drawing = draw_chart(make_scene(rows, metric="val_bpb", goal=Goal.MINIMIZE, title=""), 400, 300)
    heights = [mark.y for mark in drawing.marks]
    assert heights == sorted(heights)
    assert heights[0] < heights[-1]


def test_noise_repeats_and_what_was_rejected_are_in_chart_and_view() -> None:
    content = night_of(40)
    plain = page(content, made_at=NOW)
    for new in ('<path class="band"', '<path class="interval"', 'class="mark rejected"', "certified"):
        assert new not in plain
    baseline = replace(content.rows[0], repeats=(0.998, None, 0.9985))
    rejected = replace(content.rows[1], status=Status.DISCARD, invalidated=Invalidated.REJECTED)
    found = Certified(0.02, 0.01, 0.03, 3)
    certainty = Certainty(Goal.MINIMIZE, 12, 0.025, found, keeps=(Kept(3, 0.0001),), noise=Noise(0.01, 4))
    rows = [baseline, rejected, *content.rows[2:]]
    html = page(replace(content, rows=rows, certainty=certainty), made_at=NOW)
    assert '<path class="band"' in html
    assert '<path class="interval"' in html
    assert 'class="mark rejected"' in html
    assert "Recorded -0.0250, certified -0.0200 (-0.0300 … -0.0100, 2 × 3 repeats)" in html
    assert "1 of 1 keep is within the noise" in html
    assert ["repeats", "0.998000, crash, 0.998500"] in data_of(html)[0]["facts"]  # type: ignore[operator]


def test_which_constants_mattered_is_told_with_intervals_and_slices() -> None:
    html = page(night_of(12), made_at=NOW)
    assert "Which constants mattered</h2>" in html
    for text in (
        "−0.0031 ± 0.0008",
        '<tr class="worse"><th scope="row">DEPTH</th>',
        "EMBEDDING_LR from 0.6 to 1.7",
    ):
        assert text in html
    assert "Which constants" not in page(replace(night_of(12), moves=()), made_at=NOW)


def test_a_slice_has_a_point_for_each_try_and_goes_by_factors_where_values_do() -> None:
    tries = tuple(Try(10.0**n, n / 1000, kept=n == 2) for n in range(4))
    (drawn,) = draw_slices([Move("LR", Way.RAISED, 4, 0.0, None, tries)], {"LR": 10}, 1.0)
    assert (drawn.kept.count("M"), drawn.others.count("M")) == (1, 3)
    across = sorted(float(place.split()[0]) for place in f"{drawn.kept}{drawn.others}".split("M")[1:])
    assert across[1] - across[0] == pytest.approx(across[3] - across[2], abs=0.2)
    assert drawn.present == across[1]
    assert (drawn.x_labels, drawn.y_labels) == (("1", "1000"), ("+0.000000", "+0.003000"))
    same = Move("DEPTH", Way.RAISED, 2, 0.0, None, (Try(9.0, 0.1, kept=False),) * 2)
    odd = Move("ACT", Way.CHANGED, 1, 0.0, None, (Try(math.nan, 0.1, kept=False),))
    assert draw_slices([same, odd], {}, 1.0) == []


def test_an_experiment_has_its_loss_its_constants_and_what_was_best_before_it() -> None:
    content = night_of(12)
    data = data_of(page(content, made_at=NOW))
    assert [data[0]["before"], data[1]["before"]] == [None, 0]
    assert data[0]["constants"] == {}
    assert data[2]["constants"] == {"EMBEDDING_LR": "0.8"}
    curve = data[2]["curve"]
    assert isinstance(curve, list)
    assert curve[-1] == [100.0, 3.0981]
    many = data_of(page(night_of(1000), made_at=NOW))
    assert {len(each["curve"]) for each in many} == {17}  # type: ignore[arg-type]


def test_the_page_bends_its_scale_where_the_picture_does() -> None:
    rows = [replace(night_of(1).rows[0], value=9.0, number=0)]
    rows += [replace(row, number=row.number + 1) for row in night_of(60).rows]
    scene = make_scene(rows, metric="val_bpb", goal=Goal.MINIMIZE, title="mar12")
    drawing = draw_chart(scene, 400, 330)
    assert drawing.bend is not None
    assert drawing.top < drawing.bend < drawing.top + 0.4 * (drawing.bottom - drawing.top)
    heights = [at for at, _ in drawing.y_ticks]
    assert heights == sorted(heights, reverse=True)
    crashed = [replace(row, value=None, status=Status.CRASH) for row in rows]
    only = draw_chart(make_scene(crashed, metric="val_bpb", goal=Goal.MINIMIZE, title=""), 400, 330)
    assert only.y_ticks == ()


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_stand_out_from_what_is_behind_them(theme: int) -> None:
    """Texts by WCAG's 4.5 to 1; marks, and the edges of what can be pressed or typed in, by 3 to 1."""
    css = resources.files("notifiers.page").joinpath("page.css").read_text(encoding="utf-8")
    parts = re.findall(r":root \{([^}]*)", css)  # on the screen, dark, and more
    light, dark, *_ = [dict(re.findall(r"--(\w+): (#\w+);", part)) for part in parts]
    colours = light | (dark if theme else {})

    def light_of(name: str) -> float:
        digits = colours[name].removeprefix("#")
        whole = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
        parts = [int(whole[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for behind in ("card", "paper"):
        for name, least in [
            *((text, 4.5) for text in ("ink", "faint", "accent", "keep", "crash", "skip")),
            ("discard", 3.0),
        ]:
            low, high = sorted((light_of(name), light_of(behind)))
            assert (high + 0.05) / (low + 0.05) >= least, f"{name} on {behind}"
    for control in (".controls button", "input, select", ".bar-top button"):
        assert "border: 1px solid var(--discard)" in css.partition(f"{control} {{")[2].partition("}")[0]
