"""What the rules refuse and let through, in both sandboxes."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from loop.errors import UserError
from loop.process.environment import readable_for
from loop.sandbox.sandbox import Sandbox, SandboxKind, find_sandbox
from loop.sandbox.seccomp import FILE, MACHINES, rules
from loop.sandbox.view import View

TRY = """
import ctypes, json, os, socket
libc = ctypes.CDLL(None, use_errno=True)

def failure(name, *arguments):
    ctypes.set_errno(0)
    return ctypes.get_errno() if getattr(libc, name)(*arguments) < 0 else 0

families = {socket.AF_UNIX: 1, socket.AF_INET: 1, socket.AF_INET6: 1, socket.AF_NETLINK: 2, 40: 1}
made = {int(family): failure("socket", family, kind, 0) for family, kind in families.items()}
made["pair"] = failure("socketpair", 1, 1, 0, (ctypes.c_int * 2)())
made["ring"] = failure("syscall", 425, 1, ctypes.create_string_buffer(120))
made["x32"] = failure("syscall", 0x40000000 + 41, 1, 1, 0) if os.uname().machine == "x86_64" else 38
made["names"] = sorted(os.environ)
print(json.dumps(made))
"""


@pytest.fixture(params=[SandboxKind.BWRAP, SandboxKind.LANDLOCK])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    if os.uname().machine not in MACHINES:
        pytest.skip("there are no rules for this machine")
    try:
        return find_sandbox(request.param)
    except UserError as error:
        pytest.skip(str(error))


def tried(sandbox: Sandbox, folder: Path, *, network: bool) -> dict[str, object]:
    readable = readable_for(Path(sys.executable))
    view = View(folder, folder, {"TMPDIR": str(folder)}, readable=readable, network=network)
    argv = sandbox.wrap(view, (sys.executable, "-I", "-S", "-c", TRY))
    ran = subprocess.run(argv, env=view.environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, object] = json.loads(ran.stdout)
    return found


def test_the_file_is_made_from_the_source() -> None:
    assert FILE.read_bytes() == rules()


def test_sockets_to_a_host_are_refused_however_they_are_made(sandbox: Sandbox, tmp_path: Path) -> None:
    found = tried(sandbox, tmp_path, network=False)
    own = [int(family) for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)]
    assert {family: found[str(family)] for family in own} == dict.fromkeys(own, 0)
    assert (found["40"], found["pair"]) == (errno.EAFNOSUPPORT, 0)
    assert (found["ring"], found["x32"]) == (errno.ENOSYS, errno.ENOSYS)
    # What opens the rules leaves nothing in the environment.
    assert set(found["names"]) <= {"LC_CTYPE", "PWD", "TMPDIR"}  # type: ignore[call-overload] # a list


def test_with_a_network_nothing_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    outside = tried(Sandbox(SandboxKind.NONE), tmp_path, network=True)
    assert tried(sandbox, tmp_path, network=True)["40"] == outside["40"]
