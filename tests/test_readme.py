"""What the README and the packages' docstrings say is true, as far as a program can tell.

`python -m tests.test_readme` renews the parts of the README that are made from the code.
"""

from __future__ import annotations

import ast
import re
import textwrap
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from bot.cli.main import app
from bot.commands.access import Role
from bot.commands.table import COMMANDS
from notifiers.text.digest import digest
from tests.notifiers.text.test_digest import EXPERIMENT, RUN

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
MOST_WORDS = 1_700

SOURCES = [path for top in ("bot", "loop", "notifiers", "training") for path in (ROOT / top).rglob("*.py")]
PACKAGES = [path.parent for path in SOURCES if path.name == "__init__.py" and path.parent.name != "training"]


def command_table() -> str:
    """Return the commands as they are typed, with their help: those that change a run first."""
    shown = [command for command in COMMANDS if not command.hidden]
    width = max(len(command.usage) for command in shown)
    lines = []
    for role, title in ((Role.OPERATOR, "For operators"), (Role.VIEWER, "For viewers too")):
        lines += ["", f"{title}:", ""]
        for command in shown:
            if command.role is role:
                lines.append(f"    {command.usage:{width}}  {command.help}")
    return "\n".join((*lines, ""))


def example_digest() -> str:
    return f"\n{textwrap.indent(digest(EXPERIMENT, run=RUN).text, '    ')}\n"


def example_report() -> str:
    golden = ROOT / "tests" / "notifiers" / "golden" / "fruitful.txt"
    return f"\n{textwrap.indent(golden.read_text().strip(), '    ')}\n"


PARTS = {"commands": command_table, "digest": example_digest, "report": example_report}
"""What stands between the marks of these names, `<!-- commands -->` and `<!-- /commands -->`."""


def renewed(text: str) -> str:
    for name, part in PARTS.items():
        start, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        before, found, rest = text.partition(start)
        _, found_end, after = f"\n{rest}".partition(end)
        assert found
        assert found_end, name
        text = f"{before}{start}{part()}{end}{after}"
    return text


def code(text: str) -> Iterator[str]:
    """Yield what stands in backticks and the indented lines; what is made from the code is left out."""
    for name in PARTS:
        text = re.sub(rf"<!-- {name} -->.*<!-- /{name} -->", "", text, flags=re.DOTALL)
    yield from re.findall(r"`([^`\n]+)`", text)
    yield from (line.strip() for line in text.splitlines() if line.startswith("    "))


README_TEXT = README.read_text()
CODE = tuple(code(README_TEXT))


def test_what_is_made_from_the_code_is_up_to_date() -> None:
    assert renewed(README_TEXT) == README_TEXT, "python -m tests.test_readme renews it"


def test_the_readme_is_short() -> None:
    assert len(README_TEXT.split()) <= MOST_WORDS


# Files


def files_named() -> list[str]:
    links = re.findall(r"\]\(([^)#]+)\)", README_TEXT)
    named = [link for link in links if "://" not in link]
    for span in CODE:
        is_name = re.fullmatch(r"\.?\w[\w./-]*", span) and not span.startswith("autoresearch/")
        if is_name and ("/" in span or re.search(r"^\.|\.[a-z]{2,4}$", span)):
            named.append(span)
    return named


@pytest.mark.parametrize("name", sorted(set(files_named())))
def test_a_file_that_is_named_exists(name: str) -> None:
    """It is here or in the template, or the code makes it or reads it elsewhere."""
    here = (ROOT / name).exists() or (ROOT / "training" / name).exists()
    assert here or any(f'"{name}"' in path.read_text() for path in SOURCES) or name.startswith(".venv")


def test_folders_of_the_user_are_the_default_ones() -> None:
    example = (ROOT / ".env.example").read_text()
    folders = re.findall(r"`(~/\.[\w./-]+)`", README_TEXT)
    assert len(folders) == 2
    for folder in folders:
        assert folder in example


# Settings


def settings_named() -> set[str]:
    """Return what is written in capitals alone, or before an equals sign, or has an underscore in it."""
    names = set()
    for span in CODE:
        names.update(re.findall(r"^([A-Z][A-Z_]+)$", span))
        names.update(re.findall(r"\b([A-Z][A-Z_]+)=", span))
        names.update(re.findall(r"\b([A-Z]+_[A-Z_]+)\b", span))
    return names


def test_every_setting_that_is_named_exists() -> None:
    settings = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    files_and_examples = {"LICENSE", "LEARNING_RATE"}
    assert settings_named() - files_and_examples <= settings
    assert {"DEADLINE_MINUTES", "PROPOSER", "TELEGRAM_BOT_TOKEN"} <= settings_named()


# Commands


def command_lines() -> list[tuple[str, str]]:
    """Return each use of the command line: its subcommand and what follows."""
    found = (re.match(r"(?:\.venv/bin/)?autoresearch ([a-z-]+)(.*)", span) for span in CODE)
    return [(match[1], match[2]) for match in found if match]


def test_commands_of_the_command_line_exist_and_all_are_named() -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    assert {name for name, _ in command_lines()} == set(group.commands)
    for name, rest in command_lines():
        options = {option for parameter in group.commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= options, name


def test_commands_of_chats_exist() -> None:
    others = {"newbot", "autoresearch", "pair"}  # of BotFather, of Slack, and before anybody is listed
    named = {match[1] for span in CODE if (match := re.match(r"/([a-z_]+)(?= |$)", span))}
    named |= {
        match[1] for span in CODE if (match := re.search(r'(?:^/autoresearch |^!|send "/)([a-z_]+)', span))
    }
    assert named - others <= {command.name for command in COMMANDS if not command.hidden}
    assert {"start_run", "status"} <= named


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    calls = [match[1].split() for span in CODE if (match := re.match(r"make ([a-z -]+)", span))]
    assert {target for call in calls for target in call} <= targets
    assert ["run"] in calls
    assert ["test"] in calls


def test_modules_that_are_named_exist() -> None:
    modules = [module for span in CODE for module in re.findall(r"python -m ([\w.]+)", span)]
    assert "tests.benchmarks.discovery" in modules
    assert all(find_spec(module) for module in modules)


def test_the_python_versions_are_the_ones_that_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = [line.rpartition(" ")[2] for line in project["classifiers"] if ":: 3." in line]
    assert f"Python {versions[0]} to {versions[-1]}" in README_TEXT


# The packages' docstrings


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_package_says_what_is_in_it(package: Path) -> None:
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    sentences = re.findall(r"\w[`)]*[.](?=\s|$)", text)
    assert len(sentences) >= 2
    assert text.endswith(".")
    places = (package, ROOT, ROOT / "training")
    for span in re.findall(r"`([^`]+)`", text):
        if span.endswith((".py", "/")):
            assert any((place / span).exists() for place in places), span
        elif re.match(r"(bot|loop|notifiers|training)(\.|$)", span):
            path = ROOT / span.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").is_file(), span


if __name__ == "__main__":
    README.write_text(renewed(README_TEXT))
