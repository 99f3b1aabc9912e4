"""The house as DESIGN fixes it: who may import whom, where SQL may be, how large things may become."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import LONG, TOGETHER

ROOT = Path(__file__).parents[1]

MOST_FILES = 224  # with the `__init__` of 34 packages
MOST_LINES = 43_214
LINES_OF_A_FILE = 450
LINES_OF_A_PACKAGE = 2_000  # a folder's own files, without the folders in it
LARGER: dict[str, int] = {}
"""What is above these limits today: a ceiling each, only ever to be lowered."""

CORE = ("loop/engine", "loop/store", "loop/git", "loop/process")
LINES_OF_THE_CORE = 10_363

SQL_CALLS = {"query", "execute", "executemany", "executescript"}
EXECUTES_GIT = {"loop.git.commands"}
_SQL = re.compile(
    r"^\s*(?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|PRAGMA|WITH|BEGIN|REPLACE)\s+[\w(*'\"]"
)


def read_modules() -> dict[str, Path]:
    """Return the files of bot, loop and notifiers by the names of their modules."""
    files = (path for top in ("bot", "loop", "notifiers") for path in (ROOT / top).rglob("*.py"))
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in files
    }


MODULES = read_modules()


@cache
def nodes(name: str) -> tuple[ast.AST, ...]:
    """Return all of a module's syntax."""
    return tuple(ast.walk(ast.parse(MODULES[name].read_text())))


LOWER = tuple(name for name, path in MODULES.items() if path.parent == ROOT / "loop" and name != "loop")
LOWER = (*LOWER, "loop.logs")
MIDDLE = ("loop.store", "loop.git", "loop.process", "loop.sandbox", "loop.program")
JUDGING = ("loop.evaluation", "loop.lanes")
UPPER = ("loop.proposers", "loop.results")
MAY_IMPORT = {
    **dict.fromkeys(LOWER, LOWER),
    **dict.fromkeys(MIDDLE, LOWER),
    **dict.fromkeys(JUDGING, (*MIDDLE, *LOWER)),
    "loop.lanes": ("loop.evaluation", *MIDDLE, *LOWER),  # a node also evaluates what it has trained
    **dict.fromkeys(UPPER, (*UPPER, *JUDGING, *MIDDLE, *LOWER)),
    "loop.engine": (*UPPER, *JUDGING, *MIDDLE, *LOWER),
    "notifiers": (*UPPER, *JUDGING, *MIDDLE, *LOWER),
    "bot": ("notifiers", "loop"),
}
"""What each package may import beside itself."""

ALLOWED = {
    ("loop.git.repository", "loop.program.constants"),
    ("loop.logs.summary", "loop.process.worker"),
}
"""Single imports beyond that: git refuses a repository whose program is no Python, or fixes its budget; the
pattern of a person may never end, and runs in a worker."""

HEAVY = {"torch", "matplotlib", "optuna", "openai", "anthropic", "pydantic_ai", "ray", "numpy"}
"""Imported in processes of their own only: each takes a second, or hundreds of megabytes."""


def imported(name: str) -> Iterator[str]:
    """Yield every module that `name` imports, at its top or within a function."""
    for node in nodes(name):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{name} has a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def belongs(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def test_every_module_has_a_package_that_the_design_knows() -> None:
    strangers = [name for name in MODULES if not any(belongs(name, package) for package in MAY_IMPORT)]
    assert strangers == ["loop"]


def test_imports_run_one_way() -> None:
    wrong = {
        (name, other)
        for package, allowed in MAY_IMPORT.items()
        for name in MODULES
        if belongs(name, package)
        for other in imported(name)
        if other in MODULES and not any(belongs(other, one) for one in (package, *allowed))
    }
    assert wrong == ALLOWED


def test_no_modules_import_each_other() -> None:
    graph = {name: {other for other in imported(name) if other in MODULES} - {name} for name in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"these import each other: {error.args[1]}")


def test_all_sql_is_in_the_store() -> None:
    found = []
    for name in MODULES:
        if belongs(name, "loop.store"):
            continue
        assert "sqlite3" not in imported(name), name
        for node in nodes(name):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and _SQL.match(node.value):
                found.append((name, node.lineno, node.value))
            if isinstance(node, ast.Attribute) and node.attr in SQL_CALLS and name not in EXECUTES_GIT:
                found.append((name, node.lineno, node.attr))
    assert found == []


def test_the_bot_loads_nothing_heavy() -> None:
    parts = sorted(name for name in MODULES if belongs(name, "bot") and not name.endswith("__main__"))
    show = "import importlib, sys; [importlib.import_module(n) for n in sys.argv[1:]]; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", show, *parts],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not HEAVY & {module.partition(".")[0] for module in ran.stdout.split()}


def test_the_tests_that_take_long_are_there_and_so_begin_first() -> None:
    assert [folder for folder in TOGETHER if not (ROOT / "tests" / folder).is_dir()] == []
    assert [file for file in LONG if file not in TOGETHER and not (ROOT / "tests" / file).is_file()] == []


def test_there_are_not_too_many_files() -> None:
    assert len(MODULES) <= MOST_FILES


def test_there_are_not_too_many_lines() -> None:
    assert sum(len(path.read_text().splitlines()) for path in MODULES.values()) <= MOST_LINES


def test_the_core_is_small() -> None:
    files = [path for folder in CORE for path in (ROOT / folder).rglob("*.py")]
    assert sum(len(path.read_text().splitlines()) for path in files) <= LINES_OF_THE_CORE


def test_no_file_and_no_package_is_too_large() -> None:
    sizes: dict[str, int] = {}
    for path in MODULES.values():
        file = path.relative_to(ROOT)
        package = file.parent.as_posix()
        sizes[file.as_posix()] = size = len(path.read_text().splitlines())
        sizes[package] = sizes.get(package, 0) + size
    limits = {name: LINES_OF_A_FILE if name.endswith(".py") else LINES_OF_A_PACKAGE for name in sizes}
    assert {name: size for name, size in sizes.items() if size > (limits | LARGER)[name]} == {}
    assert LARGER.keys() == {name for name, size in sizes.items() if size > limits[name]}
