from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from functools import cache

import pytest

from loop.text import clean
from notifiers import charts
from notifiers.charts.scene import Scene
from tests.gallery.__main__ import lines
from tests.gallery.night import Section
from tests.gallery.platforms import on_slack, on_telegram, on_terminal
from tests.gallery.screen import Shown, Way
from tests.gallery.story import record
from tests.servers.slack_rules import refusal, view_refusal
from tests.servers.telegram_rules import (
    CAPTION_LIMIT,
    TEXT_LIMIT,
    check_file,
    check_keyboard,
    check_photo,
    check_text,
)


@pytest.fixture(scope="module")
def sections(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Section]:
    from notifiers.charts.drawing import draw

    drawn = cache(draw)

    async def draw_here(function: str, scene: Scene, **options: object) -> bytes:
        assert function == f"{draw.__module__}:{draw.__name__}"
        return drawn(scene)

    with pytest.MonkeyPatch.context() as patch:  # matplotlib takes a second to import in each other process
        patch.setattr(charts, "run_worker", draw_here)
        return asyncio.run(record(tmp_path_factory.mktemp("night")))


@pytest.fixture
def shown(sections: Sequence[Section]) -> list[Shown]:
    return [one for section in sections for one in section.shown]


def test_every_moment_shows_something_in_every_way(sections: Sequence[Section], shown: list[Shown]) -> None:
    assert [section.title for section in sections if not section.shown] == []
    assert {one.way for one in shown} == {*Way}


def test_telegram_takes_all_of_it(shown: list[Shown]) -> None:
    for one in shown:
        for part in on_telegram(one):
            limit = CAPTION_LIMIT if part.file else TEXT_LIMIT
            assert check_text(part.page.html, "HTML", limit=limit) == part.page.plain.rstrip()
            if part.file:
                (check_photo if part.file.name.endswith(".png") else check_file)(part.file.content)
        rows = [[{"text": b.label, "callback_data": b.command} for b in row] for row in one.message.buttons]
        check_keyboard(json.dumps({"inline_keyboard": rows}))


def test_slack_takes_all_of_it(shown: list[Shown]) -> None:
    for one in shown:
        if rendered := on_slack(one):
            content = {"text": rendered.text, "blocks": rendered.blocks}
            assert refusal("chat.update", content) == ""


def test_slack_takes_the_home_tab_and_the_forms(shown: list[Shown]) -> None:
    views = [one.view for one in shown if one.view]
    assert {view["type"] for view in views} == {"home", "modal"}
    assert [view_refusal(view, view["type"]) for view in views] == [""] * len(views)


def test_a_terminal_obeys_none_of_it(shown: list[Shown]) -> None:
    texts = [on_terminal(one) for one in shown]
    assert texts == [clean(text) for text in texts]


def test_it_is_printed(sections: Sequence[Section]) -> None:
    text = "\n".join(lines(sections))
    for section in sections:
        assert f"{section.clock}  {section.title}" in text
    for words in ("keep", "discard", "crash", "skip"):
        assert f"│ Status: {words}\n" in text
    for words in ("While offline: 23 experiments", "In the quiet hours: 30 experiments", "学習率を 0.04"):
        assert words in text
    assert "│ Experiment #6: use &lt;b&gt;bold" in text
    assert "\n  │ [Diff]  [Log]  [Again ×3]\n" in text
