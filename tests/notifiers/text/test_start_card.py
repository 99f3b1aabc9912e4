from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from notifiers.text.status import start_card
from tests.gallery.story import PLAN


def test_a_run_can_be_started_where_its_data_is_found() -> None:
    card = start_card(PLAN)
    assert [button.command for row in card.buttons for button in row] == [
        "/start_run mar13 go",
        "/start_run mar13b",
        "/cancel",
    ]


def test_without_its_data_the_card_says_what_to_type_and_offers_no_start() -> None:
    card = start_card(replace(PLAN, missing=(Path("/data/tokens"),)))
    assert card.text.splitlines()[-3:] == [
        "Missing of DATA_PATHS: /data/tokens",
        f"First run: {PLAN.preparation}",
        "Or set DATA_PATHS to where the data is.",
    ]
    assert [button.command for row in card.buttons for button in row] == ["/cancel"]
