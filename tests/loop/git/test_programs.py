"""The bot's git runs no program that a repository or its configuration names, and not without end."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from loop.errors import UserError
from loop.experiment import Experiment, Goal, Run, RunState, Stage, Status
from loop.git.bundle import tidy_branch
from loop.git.checkout import Source
from loop.git.commands import Git, locate
from loop.git.repository import branches, ignored_mentions, inspect, read_time_budget, with_imports
from loop.proposers.agent.coding_agent import make_checkout
from loop.results.adopt import check_refs, drop_branch, keep_reachable, make_branch, read_inheritance
from tests.loop.conftest import Open
from tests.loop.git.test_checkout import pointer
from tests.loop.real_git import TRAIN, commit_files, git, kept, snapshot

SECRET = "123:must-stay-secret"

KEYS = {
    "smudge filter": ("filter.x.smudge",),
    "filter process": ("filter.x.process",),
    "texts": (
        *("filter.x.clean", "filter.lfs.process", "filter.lfs.smudge", "filter.lfs.clean"),
        *("diff.x.textconv", "interactive.diffFilter", "trailer.x.command", "trailer.x.cmd"),
    ),
    "differences": ("diff.x.command", "diff.external", "merge.x.driver", "difftool.x.cmd", "mergetool.x.cmd"),
    "hooks": (
        "core.fsmonitor",
        "gc.recentObjectsHook",
        "core.hooksPath",
        "init.templateDir",
        "hook.x.command",
    ),
    "others": (
        *("core.editor", "core.pager", "pager.status", "pager.show", "sequence.editor", "web.browser"),
        *("gpg.program", "gpg.ssh.program", "gpg.ssh.defaultKeyCommand"),
        *("core.askPass", "core.sshCommand", "core.gitProxy", "core.alternateRefsCommand"),
        *("credential.helper", "uploadpack.packObjectsHook", "remote.origin.uploadpack"),
        *("remote.origin.receivepack", "remote.origin.vcs", "sendemail.smtpServer"),
        *("tar.x.command", "submodule.lib.update", "alias.status", "alias.update-ref", "alias.cat-file"),
        *("alias.worktree", "alias.ls-tree", "alias.mktree", "alias.for-each-ref"),
    ),
}
"""Configuration that names a program, or a folder of programs; what is together does not hide each other."""

HOOKS = (
    *("applypatch-msg", "commit-msg", "fsmonitor-watchman", "post-checkout", "post-commit", "post-merge"),
    *("post-index-change", "post-rewrite", "pre-auto-gc", "pre-commit", "pre-merge-commit", "pre-push"),
    *("prepare-commit-msg", "reference-transaction", "update", "push-to-checkout", "post-update"),
)


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that the planted program writes its environment into; the bot has a token in its own."""
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", SECRET)
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)
    return tmp_path / "ran"


@pytest.fixture
def planted(tmp_path: Path, marker: Path) -> Path:
    program = tmp_path / "bin" / "planted"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n(echo "$0 $*"; env) >> {shlex.quote(str(marker))}\ncat\n')
    program.chmod(0o755)
    for hook in HOOKS:
        (program.parent / hook).symlink_to(program)
    return program


def use_everything(repository: Path, open_workspace: Open, base: str, folder: Path) -> None:
    """Do all that the bot does with git, with files touched in between, as a planted filter needs it."""

    def touch(place: Path) -> None:
        for path in place.iterdir():
            if path.is_file() and path.name != ".git":
                os.utime(path, (1, 1))

    touch(repository)
    facts = inspect(repository)
    branches(repository)
    read_time_budget(repository, base)
    with_imports(repository, base, ("prepare.py",))
    ignored_mentions(repository, ("train.py",))
    workspace = open_workspace()
    workspace.create(base)
    touch(workspace.path)
    workspace.remember(0, base)
    first = kept(workspace, 1, "LR = 1\n")
    touch(workspace.path)
    workspace.restore()
    workspace.diff(first.sha)
    workspace.diffs([first.sha])
    workspace.carry_over("LR = 2\n", base, first.sha)
    touch(workspace.path)
    (workspace.path / "program.md").unlink()
    workspace.repair(first.sha)
    workspace.rename("mar13")
    subprocess.run(["rm", "-r", str(workspace.path)], check=True)
    workspace.repair(first.sha)
    source = Source(repository, first.sha, editable="train.py")
    source.fill(folder, first.sha)
    source.write_editable(folder, "LR = 3\n")
    run = Run(
        id=1, tag="mar13", repository=repository, base_branch="main", base_commit=base, metric="val_bpb",
        goal=Goal.MINIMIZE, time_budget=300.0, state=RunState.DONE, created_at=0.0,
    )  # fmt: skip
    keep = Experiment(
        run_id=1, number=1, stage=Stage.DECIDED, description="x", rationale="", proposer="x", parent=base,
        commit=first.sha, value=1.0, best_before=2.0, status=Status.KEEP,
    )  # fmt: skip
    tidy_branch(run, [keep])
    checkout = folder.with_name("agent")
    checkout.mkdir()
    make_checkout(repository, first.sha, checkout, editable="train.py", source="LR = 4\n")
    adopt(repository, open_workspace, first.sha)
    assert facts.base_commit == base


def adopt(repository: Path, open_workspace: Open, head: str) -> None:
    commands = Git(repository / ".git")
    git(repository, "-c", f"core.hooksPath={os.devnull}", "branch", "autoresearch/mar14", head)
    found = read_inheritance(
        commands, "autoresearch/mar14", (), tag=None, metric="val_bpb", editable="train.py", now=0.0
    )
    check_refs(commands, found)
    make_branch(commands, replace(found, tag="mar15"))
    drop_branch(commands, replace(found, tag="mar15"))
    open_workspace("mar14").adopt()
    keep_reachable(commands, found)


@pytest.mark.parametrize("kind", KEYS)
def test_no_program_that_the_configuration_names_runs(
    kind: str, repository: Path, open_workspace: Open, base: str, planted: Path, marker: Path, tmp_path: Path
) -> None:
    for key, value in {
        "filter.x.required": "true",
        "hook.x.event": "reference-transaction",
        "commit.gpgSign": "true",
        "log.showSignature": "true",
        "diff.x.cachetextconv": "true",
        "gc.auto": "1",
    }.items():
        git(repository, "config", key, value)
    for key in KEYS[kind]:
        if key in ("core.hooksPath", "init.templateDir"):
            git(repository, "config", key, str(planted.parent))
        else:
            shell = "!" if key.startswith(("alias", "submodule")) else ""
            git(repository, "config", key, f"{shell}{planted}")
    refused = kind in ("smudge filter", "filter process")
    attributes = "program.md filter=x\n" if refused else "* diff=x merge=x filter=x\n"
    (repository / ".git" / "info" / "attributes").write_text(attributes)
    with pytest.raises(UserError, match=r"program\.md needs the git filter x") if refused else nullcontext():
        use_everything(repository, open_workspace, base, tmp_path / "folder")
    assert not marker.exists(), marker.read_text()


def test_no_hook_of_the_repository_runs(
    repository: Path, open_workspace: Open, base: str, planted: Path, marker: Path, tmp_path: Path
) -> None:
    for hook in HOOKS:
        (repository / ".git" / "hooks" / hook).symlink_to(planted)
    use_everything(repository, open_workspace, base, tmp_path / "folder")
    assert not marker.exists(), marker.read_text()


PLACES = (".gitattributes", "info/attributes", "global")
CONFIGURATIONS = ("config", "include", "config.worktree", "global")


@pytest.mark.parametrize(
    ("where", "place"),
    [
        # Which file names the filter does not depend on which one asks for it: each is here at least once.
        pytest.param(where, place, marks=() if (i - j) % 3 == 0 else pytest.mark.slow)
        for i, where in enumerate(CONFIGURATIONS)
        for j, place in enumerate(PLACES)
    ],
)
def test_a_filter_stays_off_wherever_it_and_its_files_are_named(
    place: str,
    where: str,
    repository: Path,
    open_workspace: Open,
    planted: Path,
    marker: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attributes = {
        ".gitattributes": repository / ".gitattributes",
        "info/attributes": repository / ".git" / "info" / "attributes",
        "global": tmp_path / "attributes",
    }[place]
    attributes.write_text("* filter=odd.name\n")
    config = tmp_path / "config"
    config.write_text(f'[filter "odd.name"]\n\tclean = {planted}\n[core]\n\tattributesFile = {attributes}\n')
    base = commit_files(repository, {".gitignore": "x\n"}, "x")
    if place == ".gitattributes":
        base = commit_files(repository, {".gitattributes": "* filter=odd.name\n"}, "x")
    if where == "include":
        git(repository, "config", "include.path", str(config))
    elif where == "config":
        own = repository / ".git" / "config"
        own.write_text(own.read_text() + config.read_text())
    elif where == "config.worktree":
        git(repository, "config", "extensions.worktreeConfig", "true")
        (repository / ".git" / "config.worktree").write_text(config.read_text())
    else:
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    use_everything(repository, open_workspace, base, tmp_path / "folder")
    assert not marker.exists(), marker.read_text()
    git(repository, "update-index", "--refresh", "--really-refresh")
    (repository / "train.py").write_text(TRAIN)
    git(repository, "add", "--renormalize", ".")
    assert marker.exists()  # it would have run


@pytest.mark.parametrize("name", ["a=b", "a.clean=b", "=", "ü", "a b", "A.B", '"q\\\\'])
def test_a_filter_with_an_odd_name_is_switched_off_or_refused(
    name: str, repository: Path, planted: Path, marker: Path
) -> None:
    git(repository, "config", f"filter.{name}.clean", str(planted))
    (repository / ".git" / "info" / "attributes").write_text(f"* filter={name}\n")
    os.utime(repository / "train.py", (1, 1))
    if "=" in name:
        with pytest.raises(
            UserError, match="cannot be switched off: remove it with `git config --remove-sec"
        ):
            inspect(repository)
    else:
        inspect(repository)
    assert not marker.exists()


def test_the_filters_are_listed_anew_for_every_operation(
    repository: Path, open_workspace: Open, base: str, planted: Path, marker: Path
) -> None:
    workspace = open_workspace()
    workspace.create(base)
    git(repository, "config", "filter.x.clean", str(planted))
    (repository / ".git" / "info" / "attributes").write_text("* filter=x\n")
    for path in (workspace.path / "prepare.py", workspace.path / "train.py"):
        os.utime(path)
    workspace.restore()
    assert not marker.exists()


# What git is given


def test_git_gets_no_secret_and_no_variable_that_is_not_listed(
    repository: Path, tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_git(tmp_path, f"env > {marker}", monkeypatch)
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "http.extraHeader")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", SECRET)
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Ann")
    Git(repository / ".git")("rev-parse", "HEAD")
    given = dict(line.split("=", 1) for line in marker.read_text().splitlines())
    assert SECRET not in marker.read_text()
    assert given["GIT_AUTHOR_NAME"] == "Ann"
    assert given["HOME"] == os.environ["HOME"]
    assert not {"GIT_DIR", "GIT_CONFIG_COUNT", "SSH_AUTH_SOCK", "LD_PRELOAD"} & given.keys()


def fake_git(tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a git of ours first on PATH. GitPython has looked for the real one before."""
    Git(tmp_path)
    program = tmp_path / "fake" / "git"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    "script",
    [
        "exec sleep 600",
        "sleep 600 & wait",
        "trap '' TERM; sleep 600 & wait; wait",
        "sleep 600 & exit 0",  # what it started holds the pipe
    ],
)
def test_a_git_that_hangs_is_ended_with_all_that_it_started(
    script: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_git(tmp_path, f"echo $$ > {tmp_path}/pid; {script}", monkeypatch)
    monkeypatch.setattr("loop.git.commands.TIME_LIMIT", 1.0)
    monkeypatch.setattr("loop.git.commands.GRACE", 0.3)
    with pytest.raises(UserError, match=r"git rev-parse was ended after 1 s: run it by hand in .*repository"):
        locate(repository)
    group = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 30
    while in_group(group):
        assert time.monotonic() < deadline


def in_group(group: int) -> list[int]:
    found = []
    for pid in psutil.pids():
        try:
            if os.getpgid(pid) == group and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def test_a_git_that_hangs_while_it_hands_out_files_is_ended(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = Git(repository / ".git")
    fake_git(tmp_path, "sleep 600", monkeypatch)
    monkeypatch.setattr("loop.git.commands.LONG_LIMIT", 0.3)
    started = time.monotonic()
    with pytest.raises(UserError, match="git cat-file"):
        commands.read("main:train.py")
    assert time.monotonic() - started < 60


def test_no_transport_is_used_whatever_the_configuration_says(
    repository: Path, planted: Path, marker: Path
) -> None:
    git(repository, "config", "core.sshCommand", str(planted))
    git(repository, "config", "protocol.ext.allow", "always")
    commands = Git(repository / ".git")
    for url in (f"ext::{planted}", "ssh://example.invalid/x", str(repository)):
        with pytest.raises(UserError, match="not allowed"):
            commands("fetch", url)
    assert not marker.exists()


# What a person is told of a checkout


def test_a_checkout_with_lfs_content_is_clean_without_its_filter(repository: Path, planted: Path) -> None:
    commit_files(
        repository,
        {"a.bin": pointer(b"weights"), "b.bin": pointer(b"other"), "c.bin": pointer(b"third")},
        "weights",
    )
    commit_files(repository, {".gitattributes": "*.bin filter=lfs -text\n"}, "attributes")
    git(repository, "config", "filter.lfs.process", str(planted))
    git(repository, "config", "filter.lfs.required", "true")
    (repository / "a.bin").write_bytes(b"weights")  # as git-lfs checks it out
    (repository / "b.bin").write_bytes(b"edited")
    os.utime(repository / "c.bin", (1, 1))  # a pointer that was never fetched
    before = snapshot(repository)
    assert inspect(repository).dirty == ("b.bin",)
    assert snapshot(repository) == before


def test_a_conflict_counts_as_changed(repository: Path) -> None:
    git(repository, "switch", "--quiet", "-c", "side")
    commit_files(repository, {"program.md": "theirs\n"}, "theirs")
    git(repository, "switch", "--quiet", "main")
    commit_files(repository, {"program.md": "ours\n"}, "ours")
    subprocess.run(["git", "merge", "--quiet", "side"], cwd=repository, check=False, capture_output=True)
    assert inspect(repository).dirty == ("program.md",)
