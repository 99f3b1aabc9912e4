from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from notifiers.text.status import start_card
from tests.gallery.story import PLAN
from tests.notifiers.golden import check


def test_a_run_can_be_started_where_its_data_is_found() -> None:
    card = start_card(PLAN)
    assert [button.command for row in card.buttons for button in row] == [
        "/start_run mar13 go",
        "/start_run mar13b",
        "/cancel",
    ]


def test_without_its_data_the_card_says_what_to_type_and_offers_no_start() -> None:
    card = start_card(replace(PLAN, missing=(Path("/data/tokens"),)))
    check("start_card", {"a run": start_card(PLAN).text, "without its data": card.text})
    assert [button.command for row in card.buttons for button in row] == ["/cancel"]
