from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from bot.setup import template
from bot.setup.settings import load_settings
from bot.setup.template import Profile, init_repository, prepare_embedded, template_files
from loop.errors import UserError
from loop.git.repository import inspect, with_imports
from loop.program.constants import find_constants, time_budget
from tests.loop.lab import git

PROFILES = get_args(Profile)


async def test_without_the_packages_of_a_training_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template, "find_spec", lambda name: None if name == "pyarrow" else object())
    settings = load_settings(tmp_path / ".env", {"AUTORESEARCH_HOME": str(tmp_path / "home")})
    with pytest.raises(UserError, match=r"\(pyarrow\)\. Run: .* 'autoresearch-bot\[train\]'$"):
        await prepare_embedded(settings)
    assert not settings.home.exists()


def constants(source: str) -> dict[str, object]:
    return {constant.name: constant.value for constant in find_constants(source)}


@pytest.mark.parametrize("profile", PROFILES)
def test_the_template_becomes_a_repository_with_one_commit(profile: Profile, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "research"
    commit = init_repository(target, profile)
    assert git(target, "log", "--format=%H %s", "--all") == f"{commit} Training template, {profile} profile"
    assert git(target, "branch", "--show-current") == "main"
    assert git(target, "status", "--porcelain", "--ignored") == ""
    assert {"prepare.py", "train.py", "program.md", "README.md", ".gitignore"} <= set(
        git(target, "ls-files").splitlines()
    )
    assert inspect(target).base_commit == commit
    fixed = {
        "prepare.py",
        "sources.py",
        "tokenizer.py",
        "evaluate.py",
        "exchange.py",
        "flops.py",
        "questions.py",
        "readers.py",
    }
    assert set(with_imports(target, commit, ("prepare.py",))) == fixed
    assert list(target.parent.iterdir()) == [target]


def test_the_profiles_differ_in_their_constants_alone() -> None:
    gpu = template_files("gpu")
    for profile in PROFILES[1:]:
        other = template_files(profile)
        assert gpu.keys() == other.keys()
        assert {name for name in gpu if gpu[name] != other[name]} == {"prepare.py", "train.py"}
        for name in ("prepare.py", "train.py"):
            assert constants(gpu[name]).keys() == constants(other[name]).keys()
            compile(other[name], name, "exec")


def test_the_time_budget_can_be_chosen() -> None:
    assert time_budget(template_files("gpu")["prepare.py"]) == 300
    assert time_budget(template_files("cpu")["prepare.py"]) == 120
    files = template_files("cpu", 20.0)
    assert time_budget(files["prepare.py"]) == 20
    assert "TIME_BUDGET = 20 " in files["prepare.py"]
    assert constants(files["prepare.py"])["FLOP_BUDGET"] == 0  # seconds alone


def test_what_a_run_writes_is_ignored(tmp_path: Path) -> None:
    init_repository(tmp_path / "r", "cpu")
    for name in ("run.log", "results.tsv", "model.pt"):
        (tmp_path / "r" / name).touch()
    assert git(tmp_path / "r", "status", "--porcelain") == ""


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    target = tmp_path / "empty"
    target.mkdir()
    init_repository(target, "cpu")
    assert (target / "train.py").exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_exists_is_left_alone(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    if kind == "file":
        target.write_text("mine")
    else:
        folder = target if kind == "folder" else tmp_path / "other"
        folder.mkdir()
        (folder / "notes").write_text("mine")
    if kind == "link":
        target.symlink_to(folder)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"is not an empty folder\. Choose a new one"):
        init_repository(target, "cpu")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_place_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="Cannot create"):
        init_repository(tmp_path / "file" / "below", "cpu")


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_COMMITTER_NAME", "Ann")
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "ann@localhost")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "<>")
    with pytest.raises(Exception, match="git commit failed"):
        init_repository(tmp_path / "r", "cpu")
    assert list(tmp_path.iterdir()) == []


def test_the_author_is_the_users_or_a_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    init_repository(tmp_path / "a", "cpu")
    assert git(tmp_path / "a", "log", "--format=%an <%ae>") == "Ada <ada@example.org>"
    config.write_text("")
    init_repository(tmp_path / "b", "cpu")
    assert git(tmp_path / "b", "log", "--format=%an <%ae>") == "autoresearch-bot <autoresearch-bot@localhost>"


def test_hooks_signing_and_ignores_of_the_user_have_no_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = tmp_path / "template" / "hooks"
    hooks.mkdir(parents=True)
    (hooks / "pre-commit").write_text("#!/bin/sh\nexit 1\n")
    (hooks / "pre-commit").chmod(0o755)
    (tmp_path / "ignore").write_text("*.md\n")
    (tmp_path / "config").write_text(
        f"[init]\n\ttemplateDir = {hooks.parent}\n\tdefaultBranch = trunk\n"
        f"[core]\n\texcludesFile = {tmp_path / 'ignore'}\n\thooksPath = {hooks}\n"
        "[commit]\n\tgpgSign = true\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    init_repository(tmp_path / "r", "cpu")
    assert git(tmp_path / "r", "branch", "--show-current") == "main"
    assert "program.md" in git(tmp_path / "r", "ls-files").splitlines()
    assert not (tmp_path / "r" / ".git" / "hooks").exists()


def test_another_repository_in_the_environment_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other" / ".git" / "index"))
    init_repository(tmp_path / "r", "cpu")
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.delenv("GIT_INDEX_FILE")
    assert (tmp_path / "r" / ".git" / "HEAD").exists()
    assert git(tmp_path / "other", "for-each-ref") == ""
    assert not (tmp_path / "other" / ".git" / "index").exists()


def test_the_template_says_what_it_lacks_without_any_data(tmp_path: Path) -> None:
    init_repository(tmp_path / "r", "cpu")
    environ = os.environ | {"AUTORESEARCH_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "prepare.py", "--check"]
    done = subprocess.run(
        command, cwd=tmp_path / "r", env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "python prepare.py" in done.stdout + done.stderr
