"""Every edit makes a program that trains and prints a number, on a text so small that it takes seconds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.loop.evaluation.cheats import CHEATS, HONEST, SEEDS, Edit
from tests.training.conftest import SMALL, copy_template, prose, run_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RUN = [edit for edit in (*CHEATS, *SEEDS, *HONEST) if edit.runs]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("data")
    (folder / "text.txt").write_text(prose(3000), encoding="utf-8")
    constants = {"SOURCE": repr(str(folder / "text.txt"))} | SMALL | {"TIME_BUDGET": "0.5"}
    repository = copy_template(folder / "repository", **constants)
    assert run_in(repository, "prepare.py", cache=folder / "cache").returncode == 0
    return constants | {"cache": str(folder / "cache")}


@pytest.mark.parametrize("edit", RUN, ids=lambda edit: edit.name)
def test_it_trains(edit: Edit, small: dict[str, str], tmp_path: Path) -> None:
    cache = Path(small["cache"])
    constants = {name: value for name, value in small.items() if name != "cache"}
    repository = copy_template(tmp_path / "repository", **constants)
    program = repository / "train.py"
    program.write_text(edit.program(program.read_text(encoding="utf-8")), encoding="utf-8")
    done = run_in(repository, "train.py", cache=cache)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^val_bpb: +\d", done.stdout, re.MULTILINE)
