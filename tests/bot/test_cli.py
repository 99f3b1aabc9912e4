"""The command line without a bot: what it says of a state directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.cli_common import open_run
from bot.errors import BotError
from bot.settings import Settings, load_settings
from loop.journal import Journal
from tests.loop.test_journal import make_run


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(tmp_path / "no.env", {"AUTORESEARCH_HOME": str(tmp_path / "home")})


def refusal(settings: Settings, tag: str | None) -> str:
    with pytest.raises(BotError) as caught:
        open_run(settings, tag)
    return str(caught.value)


def test_where_no_run_is_known_one_is_to_be_started(settings: Settings) -> None:
    said = f"There is no run in {settings.home} yet: start one with `autoresearch up`."
    assert refusal(settings, None) == said
    Journal(settings.home / "state.db").close()  # what a start that was refused leaves behind
    assert refusal(settings, None) == said


def test_an_unknown_run_is_told_with_the_known_ones(settings: Settings) -> None:
    journal = Journal(settings.home / "state.db")
    make_run(journal)
    journal.close()
    assert refusal(settings, "mar13") == f"There is no run mar13 in {settings.home}; there are: mar12."
