"""The README tells the truth where a program can tell."""

from __future__ import annotations

import re
from pathlib import Path

from typer.core import TyperGroup
from typer.main import get_command

from bot.cli.main import app
from bot.commands import COMMANDS

README = Path(__file__).parent.parent / "README.md"


def command_table() -> str:
    """Return the table of commands as the README has it; print it to renew the README."""
    rows = []
    for command in COMMANDS:
        if not command.hidden:
            usage = command.usage.replace("|", "\\|")
            rows.append(f"| `{usage}` | {command.help} | {command.role.name.lower()} |")
    return "\n".join(rows)


def test_the_table_of_commands_is_the_one_in_the_code() -> None:
    found = re.search(r"<!-- commands -->\n(.*)\n<!-- /commands -->", README.read_text(), re.DOTALL)
    assert found is not None
    assert found[1] == command_table()


def test_every_command_of_the_command_line_is_named() -> None:
    text = README.read_text()
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    for name in group.commands:
        assert re.search(rf"`autoresearch [a-z\\|-]*\b{name}\b", text), name


def test_every_file_of_the_map_exists() -> None:
    root = README.parent
    for line in README.read_text().splitlines():
        if line.startswith("| `") and ".py`" in line and not line.startswith("| `autoresearch"):
            folder = ""
            for name in re.findall(r"`([\w/*]+(?:\.py|/))`", line.split("|")[1]):
                folder = name.rpartition("/")[0] or folder
                path = name if "/" in name else f"{folder}/{name}"
                assert list(root.glob(path)), path
