from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.setup.doctor import Check, nearest
from bot.setup.settings import load_settings
from bot.setup.trainings import evaluation_check, examine_trainings, sandbox_check, start_checks
from loop.errors import UserError
from loop.process.environment import find_uv
from loop.sandbox.proof import Check as Attempt
from loop.sandbox.proof import SandboxFacts
from loop.sandbox.sandbox import Sandbox, SandboxKind
from tests.loop.evaluation import toy_evaluator_text
from tests.loop.lab import git

Examine = Callable[..., list[Check]]


@pytest.fixture
def examine(tmp_path: Path) -> Examine:
    """Examine with the given settings, without the sandbox unless it is asked for."""

    def examine_with(**environ: str) -> list[Check]:
        given = {"AUTORESEARCH_HOME": str(tmp_path / "home"), "DATA_PATHS": "", "SANDBOX": "none"} | environ
        return list(examine_trainings(load_settings(Path("none.env"), given), os.environ))

    return examine_with


@pytest.fixture
def research(tmp_path: Path) -> Callable[..., Path]:
    def write(**files: str) -> Path:
        folder = tmp_path / "research"
        folder.mkdir()
        for name, text in ({"train_py": "DEPTH = 4\n", "prepare_py": ""} | files).items():
            path = folder / name.replace("__", "/").replace("_py", ".py").replace("dot_", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        git(folder, "init", "-q", "-b", "research")
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", "Begin")
        return folder

    return write


def named(checks: list[Check], name: str) -> list[Check]:
    return [check for check in checks if check.name == name]


def test_the_template_is_trained_by_the_bot_s_python_and_nothing_is_left(
    examine: Examine, tmp_path: Path
) -> None:
    (check,) = named(examine(), "training")
    assert check.ok
    assert check.detail.startswith(f"by the bot's Python, {sys.executable}; it imports torch")
    assert list(tmp_path.iterdir()) == []


def test_what_the_template_lacks_is_an_extra_of_the_bot(
    examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = "torch (ModuleNotFoundError: No module named 'torch')"
    monkeypatch.setattr("bot.setup.trainings.find_missing_imports", lambda *_: (failure,))
    (check,) = named(examine(), "training")
    assert check.ok is False
    assert failure in check.detail
    assert check.fix == f"Run: {sys.executable} -m pip install 'autoresearch-bot[train]'"


IMPORTS = """\
from __future__ import annotations
import json, os.path
import beside.part
from common import DEPTH
import no_such_package.inner
from . import sibling
try:
    import perhaps_missing
except ImportError:
    pass
if False:
    import never_wanted

LEARNING_RATE = 0.1
"""


def test_a_package_that_is_imported_and_not_there_fails(
    examine: Examine, research: Callable[..., Path]
) -> None:
    folder = research(train_py=IMPORTS, common_py="import another_missing_one as x\n", beside__part_py="")
    (check,) = named(examine(REPOSITORY=str(folder)), "training")
    assert check.ok is False
    assert check.detail.endswith("it cannot import another_missing_one, no_such_package")
    assert check.fix.startswith(f"Run: {sys.executable} -m pip install another_missing_one no_such_package; ")


def test_a_package_may_be_where_the_program_looks_too(
    examine: Examine, research: Callable[..., Path]
) -> None:
    folder = research(train_py="import sys\nsys.path.insert(0, 'vendor')\nimport no_such_package\n")
    (check,) = named(examine(REPOSITORY=str(folder)), "training")
    assert check.ok is None
    assert "unless they are where the program adds to sys.path" in check.detail


def test_a_package_that_only_a_function_imports_is_a_warning(
    examine: Examine, research: Callable[..., Path]
) -> None:
    folder = research(prepare_py="def download():\n    import no_such_package\n")
    (check,) = named(examine(REPOSITORY=str(folder)), "training")
    assert check.ok is None
    assert check.detail.endswith("it cannot import no_such_package")


def test_what_lies_where_doctor_is_called_hides_no_package(
    examine: Examine, research: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no_such_package.py").touch()
    monkeypatch.chdir(tmp_path)
    folder = research(train_py="import no_such_package\n")
    assert named(examine(REPOSITORY=str(folder)), "training")[0].ok is False


def test_a_program_that_is_no_python_is_not_asked(examine: Examine, research: Callable[..., Path]) -> None:
    folder = research(train_py="import no_such_package\n", other_py="")
    (check,) = named(examine(REPOSITORY=str(folder), TRAIN_COMMAND="sh -c true"), "training")
    assert check.ok
    assert check.detail.endswith("/sh; its imports are not checked")
    command = f"{sys.executable} train.py"
    (check,) = named(examine(REPOSITORY=str(folder), TRAIN_COMMAND=command), "training")
    assert check.detail.startswith(
        f"by TRAIN_COMMAND with {sys.executable}; it cannot import no_such_package"
    )
    command = f"{sys.executable} other.py"  # perhaps it starts train.py, and perhaps with other packages
    (check,) = named(examine(REPOSITORY=str(folder), TRAIN_COMMAND=command), "training")
    assert check.ok is None
    assert check.detail.endswith("it cannot import no_such_package, if TRAIN_COMMAND runs train.py")
    (check,) = named(examine(TRAIN_COMMAND="no-such-program train.py"), "training")
    assert check.ok is False
    assert "no-such-program is not on the PATH" in check.detail


@pytest.mark.skipif(find_uv() is None, reason="uv is not installed")
def test_the_packages_of_a_lock_file_are_installed_later(
    examine: Examine, research: Callable[..., Path], tmp_path: Path
) -> None:
    folder = research(**{"uv.lock": 'version = 1\nrequires-python = ">=3.11"\n'})
    (check,) = named(examine(REPOSITORY=str(folder)), "training")
    assert check.ok
    assert "uv.lock" in check.detail
    assert not (tmp_path / "home").exists()


def test_content_that_git_lfs_has_not_fetched_fails_and_the_rest_is_examined(
    examine: Examine, research: Callable[..., Path]
) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"
    attributes = "weights.bin filter=lfs -text\n"
    folder = research(**{"weights.bin": pointer, "dot_gitattributes": attributes})
    checks = examine(REPOSITORY=str(folder))
    (check,) = named(checks, "files")
    assert check.ok is False
    assert f"run `git lfs pull` in {folder}" in check.detail
    assert named(checks, "training")[0].ok
    given = {"EXECUTOR": "ray", "RAY_ADDRESS": "auto", "REPOSITORY": str(folder)}
    sent = named(list(start_checks(load_settings(Path("none.env"), given), {})), "files")
    assert sent == [check], "nodes have nothing but what they are sent"


def test_ignored_data_that_the_program_names_is_a_warning(
    examine: Examine, research: Callable[..., Path]
) -> None:
    folder = research(train_py='TOKENS = "data/tokens.bin"\n', dot_gitignore="data/\n")
    (folder / "data").mkdir()
    (folder / "data" / "tokens.bin").touch()
    assert [check.ok for check in named(examine(REPOSITORY=str(folder)), "files")] == [True, None]
    warning = named(examine(REPOSITORY=str(folder)), "files")[1]
    assert warning.detail.startswith("data/tokens.bin: ")
    assert "set LINK_PATHS=data " in warning.fix
    (check,) = named(examine(REPOSITORY=str(folder), LINK_PATHS="data"), "files")
    assert check.ok
    assert check.detail.endswith("; linked: data")


def test_a_folder_that_is_no_repository_is_left_to_the_other_checks(examine: Examine, tmp_path: Path) -> None:
    assert [check.name for check in examine(REPOSITORY=str(tmp_path))] == ["sandbox"]


# The sandbox, with a repository whose imports are quickly examined


@pytest.fixture
def sandbox_of(examine: Examine, research: Callable[..., Path]) -> Callable[..., Check]:
    folder = research()

    def check(**environ: str) -> Check:
        (found,) = named(examine(REPOSITORY=str(folder), **environ), "sandbox")
        return found

    return check


def test_the_sandbox_is_tried_where_there_is_no_state_directory_yet(
    sandbox_of: Callable[..., Check], tmp_path: Path
) -> None:
    check = sandbox_of(SANDBOX="auto")
    assert check.ok is not False
    assert " checks hold" in check.detail or check.detail.startswith("none")
    assert [path.name for path in tmp_path.iterdir()] == ["research"]


def test_without_a_sandbox_models_write_nothing_unless_a_person_allows_it(
    sandbox_of: Callable[..., Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    none = Sandbox(SandboxKind.NONE, reason="This is a test.")
    monkeypatch.setattr("bot.setup.trainings.find_sandbox", lambda kind: none)
    check = sandbox_of(SANDBOX="auto")
    assert (check.ok, check.fix) == (None, "This is a test.")
    check = sandbox_of(SANDBOX="auto", PROPOSER="agent:claude, search")
    assert check.ok is False
    assert "This is a test." in check.detail
    check = sandbox_of(SANDBOX="none", PROPOSER="agent:claude, search")
    assert check.ok is None


def test_a_mac_has_no_sandbox(sandbox_of: Callable[..., Check], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    check = sandbox_of(SANDBOX="auto")
    assert (check.ok, check.fix) == (None, "Only Linux has a sandbox for trainings.")
    check = sandbox_of(SANDBOX="landlock")
    assert (check.ok, check.detail) == (
        False,
        "SANDBOX=landlock does not work here. Only Linux has a sandbox for trainings.",
    )


@pytest.mark.parametrize(
    ("leaks", "ok"), [((), True), ((Attempt.UDP,), None), ((Attempt.UDP, Attempt.CUDA), False)]
)
def test_a_leak_is_a_warning_and_what_keeps_trainings_from_running_fails(
    leaks: tuple[Attempt, ...], ok: bool | None
) -> None:
    sandbox = Sandbox(SandboxKind.LANDLOCK, reason="Why not bwrap.")
    check = sandbox_check(lambda: SandboxFacts(sandbox, held=16 - len(leaks), leaks=leaks))
    assert check.ok is ok
    assert f"{16 - len(leaks)} of 16 checks hold" in check.detail
    assert check.fix == "Why not bwrap."


def test_a_sandbox_that_cannot_be_had_or_tried_fails() -> None:
    def refuse() -> SandboxFacts:
        raise UserError("SANDBOX=bwrap does not work here.")

    def fail() -> SandboxFacts:
        raise OSError(30, "Read-only file system")

    assert sandbox_check(refuse) == Check("sandbox", False, "SANDBOX=bwrap does not work here.")
    assert sandbox_check(fail).ok is False


def test_the_nearest_folder_is_the_deepest_that_is_there(tmp_path: Path) -> None:
    assert nearest(tmp_path / "a" / "b") == tmp_path
    assert nearest(tmp_path) == tmp_path


def test_what_checks_the_numbers_of_a_run_is_asked(
    examine: Examine, research: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_GATE", str(tmp_path / "gate"))
    folder = str(research(evaluate_py=toy_evaluator_text()))
    (check,) = named(examine(REPOSITORY=folder), "evaluation")
    assert (check.ok, check.detail) == (True, "evaluate.py, audit text: none")
    (tmp_path / "gate.audit").touch()
    (check,) = named(examine(REPOSITORY=folder), "evaluation")
    assert (check.ok, check.detail) == (True, "evaluate.py, audit text: a secret text")
    (tmp_path / "gate.damaged").write_text("val.npy is damaged: run prepare.py.")
    (check,) = named(examine(REPOSITORY=folder), "evaluation")
    assert (check.ok, check.detail) == (False, "val.npy is damaged: run prepare.py.")
    (check,) = named(examine(REPOSITORY=folder, EVALUATE="none"), "evaluation")
    assert check == evaluation_check("", None)
    (check,) = named(examine(REPOSITORY=folder, EVALUATE="python judge.py"), "evaluation")
    assert not check.ok
    assert "judge.py" in check.detail


def test_a_program_that_is_no_evaluator_is_not_called(
    examine: Examine, research: Callable[..., Path]
) -> None:
    folder = research(evaluate_py="raise SystemExit('called')\n")
    assert named(examine(REPOSITORY=str(folder)), "evaluation") == [evaluation_check("", None)]
