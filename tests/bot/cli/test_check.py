"""`autoresearch check`: what it prints, and when it exits with 1."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bot.cli.main import app
from bot.setup.template import init_repository
from loop.errors import UserError
from loop.experiment import Experiment, Stage
from loop.program.fingerprint import fingerprint
from loop.store.journal import Journal
from tests.loop.evaluation.cheats import CHEATS, TEMPLATE
from tests.loop.lab import git
from tests.loop.store.test_journal import make_run

CHEAT = next(edit for edit in CHEATS if edit.name == "fewer tokens")


class Checker:
    """Checks a program in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"AUTORESEARCH_HOME": str(folder / "home"), "REPOSITORY": "", "GUARD": "flag"}
        self.file = folder / "train.py"

    def run(self, source: str, *options: str) -> tuple[int, str]:
        self.file.write_text(source, encoding="utf-8")
        done = CliRunner().invoke(app, ["check", str(self.file), *options], env=self.environment)
        if isinstance(done.exception, UserError):
            raise done.exception
        return done.exit_code, done.stdout

    def json(self, source: str, *options: str) -> tuple[int, dict[str, Any]]:
        code, printed = self.run(source, "--json", *options)
        return code, json.loads(printed)


@pytest.fixture
def checker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checker:
    monkeypatch.chdir(tmp_path)  # away from a .env of the user who runs the tests
    return Checker(tmp_path)


@pytest.fixture
def repository(checker: Checker) -> Path:
    folder = checker.folder / "research"
    init_repository(folder, "cpu")
    return folder


def test_where_nothing_is_found_the_exit_status_is_0(checker: Checker) -> None:
    assert checker.run(TEMPLATE)[0] == 0
    assert checker.json(TEMPLATE) == (0, {"refused": False, "findings": []})


def test_a_flagged_program_is_refused_under_strict_only(checker: Checker) -> None:
    code, found = checker.json(CHEAT.program())
    line = CHEAT.program().splitlines().index("    prepare.EVAL_TOKENS = 2**7") + 1
    assert (code, found["refused"]) == (0, False)
    (finding,) = found["findings"]
    assert list(finding) == ["rule", "line", "message", "severity"]
    assert (finding["rule"], finding["line"], finding["severity"]) == ("frozen", line, "flag")
    checker.environment["GUARD"] = "strict"
    assert checker.json(CHEAT.program()) == (1, found | {"refused": True})


def test_for_people_the_line_comes_first(checker: Checker) -> None:
    code, printed = checker.run(CHEAT.program())
    line = CHEAT.program().splitlines().index("    prepare.EVAL_TOKENS = 2**7") + 1
    first, last = printed.splitlines()
    assert (code, first.split()[:2]) == (0, [str(line), "flag"])
    checker.environment["GUARD"] = "strict"
    code, printed = checker.run(CHEAT.program())
    assert code == 1
    assert printed.splitlines()[0] == first
    assert printed.splitlines()[-1] != last


def test_what_does_not_parse_is_refused(checker: Checker) -> None:
    code, found = checker.json("x = 1\ny = (\n")
    assert (code, found["refused"]) == (1, True)
    assert [(each["rule"], each["line"]) for each in found["findings"]] == [("syntax", 2)]


def test_in_a_repository_it_is_compared_with_the_base_program(checker: Checker, repository: Path) -> None:
    base = (repository / "train.py").read_text()
    code, found = checker.json(base.replace("SEED = 42", "SEED = 43"), "--repo", str(repository))
    assert (code, [each["rule"] for each in found["findings"]]) == (1, ["repeated"])
    code, found = checker.json(base.replace("QK_SCALE = 1.2", "QK_SCALE = 1.3"), "--repo", str(repository))
    assert (code, found["findings"]) == (0, [])
    changed = base.replace("prepare.progress(spent)", "spent / 60")
    assert [each["rule"] for each in checker.json(changed, "--repo", str(repository))[1]["findings"]] == [
        "time"
    ]
    checker.environment["REPOSITORY"] = str(repository)
    assert checker.run(base)[0] == 1


def test_the_modules_that_frozen_files_import_are_frozen_too(checker: Checker, repository: Path) -> None:
    changed = (repository / "train.py").read_text()
    changed = changed.replace("import prepare ", "import tokenizer\ntokenizer.BOS = 1\nimport prepare ", 1)
    assert checker.json(changed)[1]["findings"] == []  # by FROZEN alone it is a setting of some module
    assert "frozen" in [
        each["rule"] for each in checker.json(changed, "--repo", str(repository))[1]["findings"]
    ]


def test_what_a_run_has_trained_is_refused_with_its_experiment(checker: Checker, repository: Path) -> None:
    source = (repository / "train.py").read_text().replace("QK_SCALE = 1.2", "QK_SCALE = 1.3")
    commit = git(repository, "rev-parse", "HEAD")
    home, link = checker.folder / "home", checker.folder / "link"
    home.mkdir()
    link.symlink_to(repository)  # as REPOSITORY may be one
    with closing(Journal(home / "state.db")) as journal:
        run = make_run(journal, repository=link, base_commit=commit, time_budget=60.0)
        step = Experiment(run.id, 0, Stage.PROPOSED, "more contrast", "", "ann", commit)
        journal.record(replace(step, program=fingerprint(source)))
    code, found = checker.json(source, "--repo", str(repository))
    assert code == 1
    assert "experiment #0 (under way)" in found["findings"][0]["message"]


def test_without_a_repository_it_is_compared_with_the_embedded_one(checker: Checker) -> None:
    folder = checker.folder / "home/template"
    folder.parent.mkdir()
    init_repository(folder, "cpu")
    base = (folder / "train.py").read_text()
    code, found = checker.json(base.replace("SEED = 42", "SEED = 43"))
    assert (code, [each["rule"] for each in found["findings"]]) == (1, ["repeated"])
    assert checker.json(base.replace("QK_SCALE = 1.2", "QK_SCALE = 1.3")) == (
        0,
        {"refused": False, "findings": []},
    )
    with pytest.raises(UserError, match="none"):
        checker.run(base, "--repo", str(checker.folder / "none"))


def test_a_file_that_is_not_there_is_one_sentence(checker: Checker) -> None:
    done = CliRunner().invoke(app, ["check", str(checker.folder / "none.py")], env=checker.environment)
    assert isinstance(done.exception, UserError)
    assert "none.py" in str(done.exception)
