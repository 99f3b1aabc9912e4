from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.commands.table import COMMANDS, Command, Kind, find_command, parse
from loop.errors import UserError
from notifiers.text.status import START_MODES


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_example_is_understood(command: Command) -> None:
    assert parse(command.example).command is command
    assert parse(command.example.removeprefix("/")).command is command


@pytest.mark.parametrize(
    "command",
    [command for command in COMMANDS if Kind.TEXT not in {p.kind for p in command.parameters}],
    ids=lambda command: command.name,
)
def test_no_command_takes_more_than_it_says(command: Command) -> None:
    with pytest.raises(UserError, match=r"Usage: /.*for example /"):
        parse(f"/{command.name} one two three four")


def test_names_and_helps_fit_what_the_platforms_allow() -> None:
    names = [command.name for command in COMMANDS]
    assert len(set(names)) == len(names)
    for command in COMMANDS:
        assert command.name.isascii()
        assert command.name == command.name.lower()
        assert len(command.name) <= 32
        assert 3 <= len(command.help) <= 256


def test_words_that_only_one_command_knows_stand_in_its_help() -> None:
    assert parse(find_command("start_run").example).text("mode") in START_MODES
    assert "`drop N`" in find_command("idea").help


def test_arguments_are_told_apart_by_their_kind() -> None:
    assert parse("/pause").has("now") is False
    assert parse("/pause NOW").has("now") is True
    assert parse("/results").count("n", 10) == 10
    assert parse("/results 25").count("n", 10) == 25
    assert dict(parse("/retag mar12 wide").arguments) == {"old": "mar12", "new": "wide"}
    assert parse("/start_run").text("tag") is None
    assert dict(parse("/start_run go").arguments) == {"go": "go"}
    assert dict(parse("/start_run mar12 go").arguments) == {"tag": "mar12", "go": "go"}
    assert parse("/idea  make it  wider ").text("text") == "make it  wider"


def test_what_keys_and_line_breaks_leave_in_a_text_is_no_part_of_a_command() -> None:
    assert parse("/help\x03\x04").command.name == "help"
    assert parse("\x1b/pause\tnow").has("now")
    assert parse("/idea\nmake it\nwider").text("text") == "make it\nwider"


def test_only_what_ends_a_training_is_perishable() -> None:
    late = {command.name for command in COMMANDS if parse(command.example).perishable}
    assert late == {"pause", "stop", "skip"}
    assert not parse("/pause").perishable


@pytest.mark.parametrize(
    "text", ["/pause later", "/results many", "/results -1", "/diff", "/diff ²", "/retag mar12", "/stop it"]
)
def test_wrong_arguments_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError, match="for example"):
        parse(text)


def test_a_slip_is_met_with_the_nearest_command() -> None:
    with pytest.raises(UserError, match=r"no command /statsu: did you mean /status\?"):
        parse("/statsu")
    with pytest.raises(UserError, match="/help lists the commands"):
        parse("/xyzzy")
    with pytest.raises(UserError, match="/help lists the commands"):
        parse("   ")
    assert find_command("/STATUS").name == "status"


@given(st.text())
def test_any_text_is_understood_or_refused(text: str) -> None:
    with suppress(UserError):
        assert parse(text).command in COMMANDS
