"""`profiles.toml` against the files that it is spliced into."""

from __future__ import annotations

import ast
import tomllib

import pytest

from tests.training.conftest import TEMPLATE

PROFILES = tomllib.loads((TEMPLATE / "profiles.toml").read_text(encoding="utf-8"))
CASES = [
    (profile, file, name, value)
    for profile, files in PROFILES.items()
    for file, constants in files.items()
    for name, value in constants.items()
]


def constants(file: str) -> dict[str, ast.expr]:
    """The plain assignments `NAME = value` at the top level of a file."""
    tree = ast.parse((TEMPLATE / f"{file}.py").read_text(encoding="utf-8"))
    return {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and len(node.targets) == 1
    }


def test_there_are_the_two_profiles_for_the_two_files() -> None:
    assert {profile: set(files) for profile, files in PROFILES.items()} == {
        "gpu": {"prepare", "train"},
        "cpu": {"prepare", "train"},
    }
    assert PROFILES["gpu"]["prepare"].keys() == PROFILES["cpu"]["prepare"].keys()
    assert PROFILES["gpu"]["train"].keys() == PROFILES["cpu"]["train"].keys()


@pytest.mark.parametrize(("profile", "file", "name", "value"), CASES)
def test_each_value_is_python_for_a_constant_of_the_file(
    profile: str, file: str, name: str, value: str
) -> None:
    there = constants(file)[name]
    if profile == "gpu":
        assert ast.unparse(there) == ast.unparse(ast.parse(value, mode="eval").body)
    here = eval(value, {})
    assert type(here) is type(eval(ast.unparse(there), {}))


def test_every_constant_of_the_training_has_a_comment() -> None:
    lines = (TEMPLATE / "train.py").read_text(encoding="utf-8").splitlines()
    tuned = [line for line in lines if line.split(" = ")[0].isupper()]
    assert len(tuned) > 20
    assert all("  # " in line for line in tuned)
