"""The page in a real Chromium: what a person sees and does with it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from notifiers.page import page
from tests.notifiers.page_night import HOSTILE, night_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)

pytestmark = pytest.mark.skipif(  # never on a build server: `make test` installs a browser there
    CHROMIUM is None and not os.environ.get("CI"), reason="there is no Chromium: apt install chromium"
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "mar12.html"
    path.write_text(page(night_of(60), made_at=datetime(2026, 3, 13, 7, 0, tzinfo=UTC)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[Page]:
    """A tab of the size of a phone; each new one would cost a second."""
    opened = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    yield opened
    opened.close()


@pytest.fixture
def shown(tab: Page, file: Path) -> Iterator[Page]:
    """The page in a tab as if it was new; in the end nothing went wrong, or was loaded beside it."""
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.emulate_media(media="null", color_scheme="dark")
    tab.mouse.move(0, 0)
    troubles: list[str] = []
    requests: list[str] = []

    def note_console(message: ConsoleMessage) -> None:
        troubles.append(message.text)

    def note_error(error: Error) -> None:
        troubles.append(str(error))

    def note_request(request: Request) -> None:
        if not (request.is_navigation_request() and request.url.startswith(("file:", "about:blank"))):
            requests.append(request.url)

    tab.on("console", note_console)
    tab.on("pageerror", note_error)
    tab.on("request", note_request)
    tab.goto(file.as_uri())
    yield tab
    tab.goto("about:blank")
    tab.remove_listener("console", note_console)
    tab.remove_listener("pageerror", note_error)
    tab.remove_listener("request", note_request)
    assert troubles == requests == []


def unfold(tab: Page) -> None:
    """Show the table of all experiments, by keyboard."""
    tab.locator("summary").focus()
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#table:visible")


def numbers(tab: Page) -> list[int]:
    cells = tab.locator("#table tbody tr:visible td:first-child").all_inner_texts()
    return [int(cell) for cell in cells]


def test_it_fits_the_phone_without_being_cut_off_and_shows_its_chart(shown: Page) -> None:
    assert shown.evaluate("document.documentElement.scrollWidth") <= 390
    assert shown.locator("svg.chart:visible .mark").count() == 60
    assert shown.locator(".lineage li:visible").count() > 5  # what was kept comes first, the rest is folded
    assert not shown.locator("#table").is_visible()
    unfold(shown)
    assert shown.evaluate("document.documentElement.scrollWidth") <= 390
    assert numbers(shown) == list(range(60))
    boxes = ".scroll, section pre, .experiments td, .families td, .moves td"
    cut = "found => found.filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.outerHTML)"
    assert shown.locator(boxes).evaluate_all(cut) == []
    what = shown.locator("#table tbody tr").nth(14).locator(".what").bounding_box()
    value = shown.locator("#table tbody tr").nth(14).locator("td").nth(1).bounding_box()
    assert what is not None
    assert value is not None
    assert what["y"] > value["y"]
    assert what["width"] > 250


def test_on_paper_a_dark_page_is_light_and_keeps_its_colours(shown: Page) -> None:
    shown.emulate_media(media="print", color_scheme="dark")
    style = "(box, name) => getComputedStyle(box)[name]"
    assert shown.locator("body").evaluate(style, "background-color") == "rgb(255, 255, 255)"
    assert shown.locator("h1").evaluate(style, "color") == "rgb(28, 35, 48)"
    assert shown.locator(".bar .training").evaluate(style, "print-color-adjust") == "exact"
    assert not shown.locator(".filters").is_visible()
    assert shown.locator(".chart.wide").is_visible()
    shown.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert shown.locator("#table").is_visible()  # what is folded on a screen


def test_the_table_sorts_by_value_both_ways_and_filters_by_words_status_and_kind(shown: Page) -> None:
    unfold(shown)
    head = shown.locator("#table th button").nth(1)
    values = shown.locator("#table tbody tr td:nth-child(2)")
    for descending in (False, True):
        head.click()
        told = values.all_inner_texts()
        known = [float(value) for value in told if value != "–"]
        assert known == sorted(known, reverse=descending)
        assert told[: len(known)] == [value for value in told if value != "–"]
        assert len(known) < len(told)  # those without a value are last
    shown.fill("#find", "EMBEDDING")
    found = numbers(shown)
    assert 0 < len(found) < 60
    assert shown.inner_text("#count") == f"{len(found)} of 60"
    shown.fill("#find", "")
    shown.select_option("#status", "crash")
    assert set(shown.locator("#table tbody tr:visible .tag").all_inner_texts()) == {"crash"}
    shown.select_option("#status", "")
    assert shown.locator("#table tbody tr:visible").count() == 60
    shown.select_option("#family", "optimizer")
    kinds = shown.locator("#table tbody tr:visible")
    assert {kinds.nth(i).get_attribute("data-family") for i in range(kinds.count())} == {"optimizer"}


def test_a_mark_opens_its_experiment_with_the_diff(shown: Page) -> None:
    shown.locator("svg.chart:visible .mark.keep").nth(1).click()
    shown.wait_for_selector("#view[open]")
    title = shown.inner_text("#view-title")
    shown.wait_for_url(lambda url: url.endswith(title.split()[0]))
    assert shown.locator("#view-diff .add").inner_text() == "+EMBEDDING_LR = 0.8"
    assert shown.locator("#view-diff .cut").inner_text() == "-EMBEDDING_LR = 0.6"
    assert "<b>not bold</b>" in shown.inner_text("#view-diff")
    shown.keyboard.press("Escape")
    shown.wait_for_url(lambda url: "#" not in url)
    assert not shown.locator("#view").is_visible()


def test_a_mark_says_what_it_is_to_a_pointer_and_to_the_keyboard(shown: Page) -> None:
    shown.locator("svg.chart:visible .mark.crash").first.hover()
    shown.wait_for_selector("#tip:visible")
    assert "crash" in shown.inner_text("#tip")
    shown.locator("h1").hover()
    shown.wait_for_selector("#tip", state="hidden")
    mark = shown.locator("svg.chart:visible .mark").first
    mark.focus()
    shown.wait_for_selector("#tip:visible")
    assert shown.inner_text("#tip").startswith("#")
    shown.keyboard.press("Enter")
    shown.wait_for_selector("#view[open]")


def test_the_next_one_is_a_key_away_and_an_address_opens_one(shown: Page, file: Path) -> None:
    shown.goto(f"{file.as_uri()}#12")
    shown.reload()
    shown.wait_for_selector("#view[open]")
    assert shown.inner_text("#view-title").startswith("#12 ")
    shown.keyboard.press("ArrowRight")
    shown.locator("#view-title", has_text=re.compile("^#13 ")).wait_for()


def test_a_script_in_a_description_stays_text(shown: Page) -> None:
    unfold(shown)
    assert HOSTILE in shown.locator("#table tbody tr").nth(3).inner_text()
    shown.locator("#table tbody tr").nth(3).locator("a").click()
    shown.wait_for_selector("#view[open]")
    assert HOSTILE in shown.inner_text("#view-title")
    shown.fill("#other", "4")
    shown.keyboard.press("Enter")
    shown.locator("#view-both td", has_text=HOSTILE[:23]).nth(
        1
    ).wait_for()  # a constant, after the description
    assert shown.evaluate("window.hacked") is None


SMALL = """found => found.map(box => [box.outerHTML.slice(0, 90), box.getBoundingClientRect()])
    .filter(([, box]) => box.width && (box.width < 24 || box.height < 24)).map(([text]) => text)"""


def test_everything_is_large_enough_for_a_finger_in_both_widths(shown: Page, file: Path) -> None:
    for width in (390, 1280):
        shown.set_viewport_size({"width": width, "height": 844})
        shown.emulate_media(color_scheme="dark" if width == 390 else "light")
        shown.goto("about:blank")
        shown.goto(f"{file.as_uri()}#12-7")
        shown.wait_for_selector("#view[open]")
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        assert shown.evaluate("view => view.scrollWidth <= view.clientWidth", shown.query_selector("#view"))
        shown.evaluate("document.querySelector('details').open = true")
        targets = "a:not(.mark), button, input, select, summary"
        assert shown.locator(targets).evaluate_all(SMALL) == []


def test_a_tap_beside_a_mark_opens_a_sheet_and_closing_leads_back_to_the_place(shown: Page) -> None:
    shown.evaluate("scrollTo(0, 150)")
    mark = shown.locator("svg.chart:visible .mark.keep").nth(1)
    box = mark.bounding_box()
    assert box is not None
    shown.mouse.click(box["x"] + box["width"] / 2 + 6, box["y"] + box["height"] / 2 + 10)
    shown.wait_for_selector("#view[open]")
    sheet = shown.locator("#view").bounding_box()
    assert sheet is not None
    assert (sheet["x"], sheet["width"], round(sheet["y"] + sheet["height"])) == (0, 390, 844)
    shown.locator("#close").click()
    shown.wait_for_url(lambda url: "#" not in url)
    assert not shown.locator("#view").is_visible()
    assert shown.evaluate("scrollY") == 150


_FOCUSED = """() => {
  const element = document.activeElement, style = getComputedStyle(element);
  return [element.textContent.trim(), style.outlineStyle, style.outlineWidth, !!element.closest("dialog")];
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [(390, 844), (1280, 900)], ids=["phone", "desk"])
def test_by_keys_alone_one_sees_where_one_is_opens_an_experiment_and_comes_back(
    shown: Page, theme: Literal["light", "dark"], size: tuple[int, int]
) -> None:
    shown.set_viewport_size({"width": size[0], "height": size[1]})
    shown.emulate_media(color_scheme=theme)
    stops = []
    for _ in range(8):  # the best, the chart's buttons and one mark of it, the keeps
        shown.keyboard.press("Tab")
        text, line, width, _ = shown.evaluate(_FOCUSED)
        assert (line, width) == ("solid", "2px"), text
        stops.append(text)
    assert stops[0].startswith("#")
    before = shown.evaluate("scrollY")
    shown.keyboard.press("Enter")
    shown.wait_for_selector("#view[open]")
    assert shown.evaluate(_FOCUSED)[1:] == ["solid", "2px", True]
    shown.keyboard.press("Escape")
    shown.wait_for_selector("#view", state="hidden")
    assert shown.evaluate(_FOCUSED) == [stops[-1], "solid", "2px", False]
    assert shown.evaluate("scrollY") == before
    shown.wait_for_url(lambda url: "#" not in url)


def test_two_experiments_are_compared_by_facts_constants_and_loss(shown: Page) -> None:
    shown.goto(f"{shown.url}#12")
    shown.wait_for_selector("#view[open]")
    assert shown.locator("#view-curve path").count() == 2
    assert "the best before" in shown.inner_text("#view-curve figcaption")
    shown.fill("#other", "7")
    shown.keyboard.press("Enter")
    shown.wait_for_url(lambda url: url.endswith("#12-7"))
    shown.wait_for_selector("#view-both:visible")
    rows = {
        cells[0]: cells[1:]
        for row in shown.locator("#view-both tr").all()
        if (cells := row.locator("th, td").all_inner_texts())
    }
    assert rows[""] == ["#12", "#7"]
    assert rows["EMBEDDING_LR"] == ["1.1", "0.6"]
    assert "DEPTH" not in rows  # it is the same
    assert "#7 " in shown.inner_text("#view-curve figcaption")
    shown.reload()  # a link to both
    shown.wait_for_selector("#view-both:visible")
    shown.locator("#view-both a", has_text="#7").click()
    shown.wait_for_url(lambda url: url.endswith("#7"))
    shown.wait_for_selector("#view-both", state="hidden")


def test_the_chart_is_zoomed_by_buttons_and_by_dragging_and_goes_by_time(shown: Page) -> None:
    shown.set_viewport_size({"width": 1280, "height": 900})
    marks = shown.locator("svg.chart:visible .mark:visible")
    ticks = shown.locator("svg.chart:visible .grid.x text")
    best = shown.locator("svg.chart:visible .running")
    path = best.get_attribute("d")
    shown.locator("[data-zoom=in]").focus()
    shown.keyboard.press("Enter")
    assert 25 <= marks.count() <= 31
    assert ticks.first.text_content() == "30"
    shown.locator("[data-zoom=left]").click()
    assert ticks.first.text_content() != "30"
    shown.locator("[data-zoom=out]").click()
    assert shown.locator("[data-zoom=out]").is_disabled()
    assert marks.count() == 60
    shown.locator("#by-time").click()
    assert shown.locator("svg.chart:visible .name").text_content() == "hours since the start"
    assert best.get_attribute("d") != path
    shown.locator("#by-time").click()
    assert best.get_attribute("d") == path
    box = shown.locator("svg.chart:visible").bounding_box()
    assert box is not None
    shown.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 300)
    shown.mouse.down()
    shown.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 320, steps=3)
    shown.mouse.up()
    assert 5 < marks.count() < 20
    assert not shown.locator("#view").is_visible()
    mark = marks.first
    mark.focus()
    number = mark.get_attribute("href")
    shown.keyboard.press("ArrowRight")
    assert shown.evaluate("document.activeElement.getAttribute('href')") != number
    assert shown.locator("svg.chart:visible .mark[tabindex='0']").count() == 1


def test_the_axes_read_alike_before_and_after_a_zoom(shown: Page, tmp_path: Path) -> None:
    content = night_of(5)
    rows = [replace(row, number=500 * row.number, value=9000 - 1000.0 * row.number) for row in content.rows]
    long = tmp_path / "long.html"
    long.write_text(page(replace(content, rows=rows), made_at=datetime(2026, 3, 13, tzinfo=UTC)), "utf-8")
    shown.goto(long.as_uri())
    labels = shown.locator("svg.chart:visible .grid text")
    before = labels.all_text_contents()
    assert "2,000" in before
    shown.locator("[data-zoom=in]").click()
    shown.locator("[data-zoom=out]").click()
    assert labels.all_text_contents() == before


def test_without_scripts_chart_and_table_are_there(browser: Browser, file: Path) -> None:
    tab = browser.new_page(java_script_enabled=False)
    tab.goto(file.as_uri())
    assert tab.locator("svg.chart:visible .mark").count() == 60
    assert tab.locator("#table tbody tr").count() == 60
    assert not tab.locator(".filters").is_visible()
    tab.close()
