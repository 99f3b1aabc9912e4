"""What is shown of the machine, at which path, and in which order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from loop.errors import UserError
from loop.process.environment import readable_for
from loop.sandbox import view as module
from loop.sandbox.sandbox import Sandbox
from loop.sandbox.view import (
    Access,
    View,
    bwrap_arguments,
    check_named,
    landlock_rules,
    lay_out,
    private_environment,
)

SHOW = "import json, os, sys; print(json.dumps([os.path.exists(path) for path in sys.argv[1:]]))"


@pytest.fixture
def attempt(tmp_path: Path) -> View:
    """An attempt in a state directory in a home, all of them below the machine's /tmp."""
    folder = tmp_path / "home" / "state" / "trainings" / "1" / "0-0"
    for name in ("work/lib", "tmp", "cache"):
        (folder / name).mkdir(parents=True)
    for name in ("prepare.py", "train.py", "lib/data.py"):
        (folder / "work" / name).write_text("fixed")
    (tmp_path / "home" / "state" / "state.db").write_text("secret")
    return View(
        folder / "work",
        folder / "tmp",
        {"HOME": str(tmp_path / "home"), "PATH": os.defpath},
        writable=(folder / "cache",),
        readable=readable_for(Path(sys.executable)),
        fixed=(folder / "work" / "prepare.py", folder / "work" / "lib" / "data.py"),
        hidden=(tmp_path / "home" / "state",),
    )


def access_to(view: View, path: Path) -> Access | None:
    """Return what holds for a path, which the deepest mount above it says."""
    mounts = {mount.path: mount for mount in lay_out(view, "true").mounts}
    over = next((mounts[folder] for folder in (path, *path.parents) if folder in mounts), None)
    return over.access if over and over.source == over.path else None


def sees(sandbox: Sandbox, view: View, *paths: Path) -> list[bool]:
    argv = sandbox.wrap(view, (sys.executable, "-I", "-S", "-c", SHOW, *map(str, paths)))
    ran = subprocess.run(argv, env=view.environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    seen: list[bool] = json.loads(ran.stdout)
    return seen


def test_those_above_come_before_those_below(attempt: View) -> None:
    depths = [len(mount.path.parts) for mount in lay_out(attempt, "true").mounts]
    assert depths == sorted(depths)


def test_the_work_is_writable_and_what_is_fixed_in_it_is_not(attempt: View) -> None:
    assert access_to(attempt, attempt.work / "train.py") is Access.WRITE
    assert access_to(attempt, attempt.work / "prepare.py") is Access.READ
    mounts = {mount.path: mount.access for mount in lay_out(attempt, "true").mounts}
    assert mounts[attempt.work / "lib"] is Access.WRITE  # so that it cannot be moved away


def test_the_home_is_there_and_holds_what_is_named_only(
    attempt: View, tmp_path: Path, bwrap: Sandbox
) -> None:
    data, letters = tmp_path / "home" / ".cache" / "data", tmp_path / "home" / "letters"
    for folder in (data, letters):
        folder.mkdir(parents=True)
    view = replace(attempt, readable=(*attempt.readable, data))
    assert sees(bwrap, view, tmp_path / "home", data, letters) == [True, True, False]


def test_the_state_directory_stays_hidden_in_a_folder_that_is_shown(
    attempt: View, tmp_path: Path, bwrap: Sandbox
) -> None:
    (tmp_path / "home" / "letters").mkdir()
    view = replace(attempt, readable=(*attempt.readable, tmp_path / "home"))
    state = tmp_path / "home" / "state"
    seen = sees(bwrap, view, tmp_path / "home" / "letters", state / "state.db", attempt.work / "train.py")
    assert seen == [True, False, True]
    allowed = json.loads(landlock_rules(view, ("true",)))["read"]
    assert str(tmp_path / "home" / "letters") in allowed
    assert not {str(tmp_path / "home"), str(state), str(state / "state.db")} & set(allowed)


def test_no_link_beside_what_is_hidden_leads_to_it(attempt: View, tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    secret = shown / "data" / "secret"
    secret.mkdir(parents=True)
    (shown / "data" / "letters").mkdir()
    for name, target in {"last": "data", "all": ".", "own": "data/secret", "round": "round"}.items():
        (shown / name).symlink_to(target)
    (shown / "letters").symlink_to("data/letters")
    view = replace(attempt, readable=(shown,), hidden=(secret,))
    allowed = {Path(path) for path in json.loads(landlock_rules(view, ("true",)))["read"]}
    found = {path.relative_to(shown) for path in allowed if path.is_relative_to(shown)}
    assert (
        {Path("letters"), Path("data/letters")} <= found <= {*map(Path, ("letters", "data/letters", "round"))}
    )


@pytest.mark.parametrize("name", [".git", ".env"])
def test_what_is_private_in_a_folder_that_is_shown_stays_hidden(
    name: str, attempt: View, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    (project / name).mkdir(parents=True)
    view = replace(attempt, readable=(project,))
    assert access_to(view, project / "train.txt") is Access.READ
    assert access_to(view, project / name) is Access.HIDDEN
    named = replace(attempt, readable=(project, project / name))
    assert access_to(named, project / name) is not Access.HIDDEN


def test_a_hidden_file_cannot_be_read(attempt: View, tmp_path: Path, bwrap: Sandbox) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / ".env").write_text("TOKEN=1")
    view = replace(attempt, readable=(*attempt.readable, project))
    read = f"print(open({str(project / '.env')!r}).read())"
    argv = bwrap.wrap(view, (sys.executable, "-I", "-S", "-c", read))
    ran = subprocess.run(argv, env=view.environment, capture_output=True, text=True, check=False)
    assert "TOKEN" not in ran.stdout


def test_a_link_is_shown_with_what_it_leads_to(attempt: View, tmp_path: Path, bwrap: Sandbox) -> None:
    disk, link, second = tmp_path / "disk" / "data", tmp_path / "data", tmp_path / "links" / "again"
    disk.mkdir(parents=True)
    (disk / "tokens.npy").touch()
    second.parent.mkdir()
    link.symlink_to(disk)
    second.symlink_to(Path("..") / "data")
    view = replace(attempt, readable=(*attempt.readable, second))
    assert sees(bwrap, view, second / "tokens.npy", disk / "tokens.npy") == [True, True]


def test_links_in_a_circle_lead_nowhere(attempt: View, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    view = replace(attempt, readable=(tmp_path / "a",))
    assert access_to(view, tmp_path / "a") is None


def test_what_is_not_there_is_left_out(attempt: View, tmp_path: Path, bwrap: Sandbox) -> None:
    gone = tmp_path / "gone"
    view = replace(attempt, readable=(*attempt.readable, gone), fixed=(attempt.work / "gone.py",))
    assert sees(bwrap, view, gone, attempt.work) == [False, True]


def test_libraries_are_in_view_but_not_the_folder_that_holds_everything(
    attempt: View, tmp_path: Path
) -> None:
    (tmp_path / "libraries").mkdir()
    named = f"{tmp_path / 'libraries'}::relative:{tmp_path}:/"
    view = replace(attempt, environment={**attempt.environment, "LD_LIBRARY_PATH": named})
    assert access_to(view, tmp_path / "libraries" / "libx.so") is Access.READ
    assert access_to(view, tmp_path / "other") is None


def test_the_resolver_is_in_view_only_with_the_network(attempt: View) -> None:
    assert access_to(attempt, Path("/etc/resolv.conf")) is None
    assert access_to(attempt, Path("/etc/shadow")) is None
    assert access_to(attempt, Path("/etc/passwd")) is Access.READ
    if Path("/etc/resolv.conf").exists():
        assert access_to(replace(attempt, network=True), Path("/etc/resolv.conf").resolve()) is Access.READ
    assert "--share-net" not in bwrap_arguments(attempt, ("true",))
    assert "--share-net" in bwrap_arguments(replace(attempt, network=True), ("true",))


def test_no_value_of_the_environment_is_an_argument(attempt: View) -> None:
    view = replace(attempt, environment={**attempt.environment, "HF_TOKEN": "hf_secret"})
    assert "hf_secret" not in " ".join(bwrap_arguments(view, ("true",)))
    assert "hf_secret" not in landlock_rules(view, ("true",))


def test_all_devices_of_gpus_are_there(attempt: View, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = ["/dev/dri", "/dev/nvidia-caps", "/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidiactl"]
    monkeypatch.setattr(module, "devices", lambda _withheld: nodes)
    arguments = bwrap_arguments(attempt, ("true",))
    for node in nodes:
        at = arguments.index(node)
        assert arguments[at - 1 : at + 2] == ("--dev-bind", node, node)
        assert at > arguments.index("--dev")
    assert set(nodes) <= set(json.loads(landlock_rules(attempt, ("true",)))["write"])


def test_the_python_inside_is_that_of_the_environment(attempt: View, bwrap: Sandbox) -> None:
    code = "import sys, tempfile; print(sys.executable, sys.prefix, tempfile.gettempdir())"
    argv = bwrap.wrap(attempt, (sys.executable, "-c", code))
    ran = subprocess.run(argv, env=attempt.environment, capture_output=True, text=True, check=False)
    assert ran.stdout.split() == [sys.executable, sys.prefix, "/tmp"], ran.stderr


def test_a_checkout_of_the_bot_is_in_no_view() -> None:
    assert Path(module.__file__).parents[2] not in readable_for(Path(sys.executable))


def test_a_signal_is_a_status_from_128_on(attempt: View, bwrap: Sandbox) -> None:
    argv = bwrap.wrap(attempt, (sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"))
    assert subprocess.run(argv, env=attempt.environment, check=False).returncode == 128 + 11


def test_caches_are_private(tmp_path: Path) -> None:
    for value in private_environment(tmp_path / "cache", tmp_path / "tmp").values():
        assert Path(value).is_relative_to(tmp_path)


def test_a_named_path_must_be_one_that_can_be_shown(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "state")
    check_named("SANDBOX_READ", [tmp_path], [tmp_path / "state"])
    for path in (tmp_path / "gone", Path("relative"), Path("/"), tmp_path / "state", tmp_path / "link"):
        with pytest.raises(UserError, match="SANDBOX_READ names"):
            check_named("SANDBOX_READ", [path], [tmp_path / "state"])
