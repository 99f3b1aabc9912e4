"""What the proof finds: a sandbox that holds, and every hole."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loop.sandbox import landlock
from loop.sandbox.proof import Check, clear_proofs, prove
from loop.sandbox.sandbox import Sandbox, SandboxKind, find_sandbox
from loop.sandbox.view import View
from tests.loop.sandbox.scene import (
    AS_ROOT,
    Leaky,
    Scene,
    failed,
    prove_as_ordinary_user,
    python_of_others,
    without,
)

Alter = Callable[[View, tuple[str, ...]], tuple[str, ...]]
Widen = Callable[[Scene, View], View]

NOT_BY_LANDLOCK = {Check.FIXED, Check.UDP, Check.SOCKET, Check.PROCESSES, Check.NAMESPACE}
needs_landlock = pytest.mark.skipif(landlock.version() < 6, reason="this kernel has no Landlock of version 6")
needs_root = pytest.mark.skipif(not AS_ROOT, reason="only root can do this at all")


@pytest.fixture
def tmp_path(disk_path: Path) -> Path:
    return disk_path


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene.make(tmp_path)


@pytest.fixture(scope="module")
def python() -> str:
    found = python_of_others() if AS_ROOT else None
    if found is None:
        pytest.skip("there is no other user, or no Python for one")
    return found


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can enter, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_bwrap_holds_everything(scene: Scene, bwrap: Sandbox) -> None:
    proof = scene.prove(bwrap)
    assert failed(proof) == set()
    assert {row.check for row in proof.rows} >= set(Check) - {Check.CUDA}
    assert proof.summary == (SandboxKind.BWRAP, ())
    assert list(scene.state.rglob("*")) == [scene.state / "trainings"]


def test_what_a_proof_uses_is_not_cleared_by_a_bot_that_starts(scene: Scene, bwrap: Sandbox) -> None:
    left = scene.state / "proof-1", scene.state / "trainings" / "proof-2"
    left[1].mkdir(parents=True)
    left[0].touch()
    during: list[bool] = []

    def clear_meanwhile(_: View, argv: tuple[str, ...]) -> tuple[str, ...]:
        clear_proofs(scene.state)
        during.extend(path.exists() for path in left)
        return argv

    proof = scene.prove(Leaky(bwrap.kind, bwrap.program, alter=clear_meanwhile))
    assert failed(proof) == set()
    assert during == [True, True]
    clear_proofs(scene.state)
    assert list(scene.state.rglob("*")) == [scene.state / "trainings"]


@pytest.mark.usefixtures("bwrap")
def test_bwrap_holds_everything_for_an_ordinary_user(python: str, public: Path) -> None:
    assert failed(prove_as_ordinary_user(SandboxKind.BWRAP, python, public)) == set()


@needs_landlock
def test_landlock_holds_what_it_can(scene: Scene) -> None:
    proof = scene.prove(find_sandbox(SandboxKind.LANDLOCK))
    assert failed(proof) == NOT_BY_LANDLOCK
    assert proof.summary == (
        SandboxKind.LANDLOCK,
        tuple(check for check in Check if check in NOT_BY_LANDLOCK),
    )


@needs_landlock
def test_landlock_holds_what_it_can_for_an_ordinary_user(python: str, public: Path) -> None:
    assert failed(prove_as_ordinary_user(SandboxKind.LANDLOCK, python, public)) == NOT_BY_LANDLOCK


def test_without_a_sandbox_all_is_open(scene: Scene) -> None:
    proof = scene.prove(Sandbox(SandboxKind.NONE))
    always = {Check.PYTHON, Check.WORK, Check.CUDA, Check.REMOUNT} | (set() if AS_ROOT else {Check.KERNEL})
    assert failed(proof) | {Check.VSOCK} == set(Check) - always  # not every kernel has those sockets


HOLES: dict[str, tuple[Check, Alter, Widen]] = {
    "work is read-only": (
        Check.WORK,
        lambda view, argv: _swap(argv, ("--bind", str(view.work)), ("--ro-bind", str(view.work))),
        lambda _, view: view,
    ),
    "state is writable": (
        Check.OUTSIDE,
        lambda _, argv: argv,
        lambda scene, view: replace(view, writable=(scene.state,), hidden=()),
    ),
    "nothing is fixed": (
        Check.FIXED,
        lambda view, argv: without(argv, "--ro-bind", *[str(view.fixed[0])] * 2),
        lambda _, view: view,
    ),
    "the folder of a fixed file can be moved": (
        Check.FIXED,
        lambda view, argv: without(argv, "--bind", *[str(view.fixed[0].parent)] * 2),
        lambda _, view: view,
    ),
    "state is readable": (
        Check.SECRET,
        lambda _, argv: argv,
        lambda scene, view: replace(view, readable=(*view.readable, scene.state), hidden=()),
    ),
    "the socket is in view": (
        Check.SOCKET,
        lambda _, argv: argv,
        lambda scene, view: replace(view, readable=(*view.readable, scene.state), hidden=()),
    ),
    "git is readable": (
        Check.GIT,
        lambda _, argv: argv,
        lambda scene, view: replace(view, readable=(*view.readable, scene.repository / ".git"), hidden=()),
    ),
    "the home is readable": (
        Check.HOME,
        lambda _, argv: argv,
        lambda scene, view: replace(view, readable=(*view.readable, scene.home)),
    ),
    "the network is shared": (
        Check.TCP,
        lambda _, argv: _swap(argv, ("--unshare-all",), ("--unshare-all", "--share-net")),
        lambda _, view: view,
    ),
    "datagrams too": (
        Check.UDP,
        lambda _, argv: _swap(argv, ("--unshare-all",), ("--unshare-all", "--share-net")),
        lambda _, view: view,
    ),
    "sockets to the host can be made": (
        Check.VSOCK,
        lambda _, argv: without(argv, "--seccomp", "9"),
        lambda _, view: view,
    ),
    "processes are shared": (
        Check.PROCESSES,
        lambda _, argv: _swap(argv, ("--unshare-all",), ("--unshare-net",)),
        lambda _, view: view,
    ),
    "signals arrive": (
        Check.SIGNAL,
        lambda _, argv: _swap(argv, ("--unshare-all",), ("--unshare-net",)),
        lambda _, view: view,
    ),
    "namespaces can be made": (
        Check.NAMESPACE,
        lambda _, argv: without(argv, "--disable-userns"),
        lambda _, view: view,
    ),
    "no Python is in view": (
        Check.PYTHON,
        lambda _, argv: argv,
        lambda scene, view: replace(view, readable=()),
    ),
}


@pytest.mark.parametrize("hole", HOLES)
def test_a_hole_is_found(hole: str, scene: Scene, bwrap: Sandbox) -> None:
    check, alter, widen = HOLES[hole]
    if check is Check.VSOCK and check not in failed(scene.prove(Sandbox(SandboxKind.NONE))):
        pytest.skip("this kernel has none")
    leaky = Leaky(SandboxKind.BWRAP, bwrap.program, alter=alter)
    assert check in failed(scene.prove(leaky, widen(scene, scene.view())))


def test_a_home_behind_a_link_is_the_same_home(scene: Scene, bwrap: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(scene.home)
    data = scene.home / ".cache" / "data"
    data.mkdir(parents=True)
    view = scene.view()
    environment = {**view.environment, "HOME": str(tmp_path / "link")}
    assert (
        failed(scene.prove(bwrap, replace(view, environment=environment, readable=(*view.readable, data))))
        == set()
    )


@needs_root
def test_root_with_its_capabilities_is_found_out(scene: Scene, bwrap: Sandbox) -> None:
    """As measured: root keeps them in bwrap, makes a read-only mount writable and reads every environment."""

    def alter(_: View, argv: tuple[str, ...]) -> tuple[str, ...]:
        argv = without(without(argv, "--cap-drop", "ALL"), "--disable-userns")
        return _swap(without(argv, "--unshare-user"), ("--unshare-all",), ("--unshare-net",))

    proof = scene.prove(Leaky(SandboxKind.BWRAP, bwrap.program, alter=alter))
    assert {Check.REMOUNT, Check.ENVIRON} <= failed(proof)


@needs_root
def test_root_without_capabilities_may_still_set_the_kernel(scene: Scene, bwrap: Sandbox) -> None:
    """/proc/sys goes by the user's id alone, so it has to be read-only itself."""

    def alter(_: View, argv: tuple[str, ...]) -> tuple[str, ...]:
        return without(argv, "--ro-bind", "/proc/sys", "/proc/sys")

    assert failed(scene.prove(Leaky(SandboxKind.BWRAP, bwrap.program, alter=alter))) == {Check.KERNEL}


GPU = """
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int cuInit(int flags) { return access("DEVICE", R_OK) ? 100 : 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { return 0; }
int cuCtxSetCurrent(void *context) { return 0; }
int cuMemAlloc_v2(uint64_t *address, size_t size) { *address = (uint64_t)malloc(size); return 0; }
int cuMemsetD32_v2(uint64_t address, unsigned value, size_t count) {
    for (size_t i = 0; i < count; i++) ((uint32_t *)address)[i] = value;
    return 0;
}
int cuMemcpyDtoH_v2(void *back, uint64_t address, size_t size) {
    memcpy(back, (void *)address, size);
    return 0;
}
int cuMemFree_v2(uint64_t address) { free((void *)address); return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { return 0; }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler to make a driver with")
def test_a_gpu_has_to_answer_inside_as_outside(scene: Scene, bwrap: Sandbox, tmp_path: Path) -> None:
    device, driver = tmp_path / "device", tmp_path / "driver"
    device.touch()
    driver.mkdir()
    (driver / "cuda.c").write_text(GPU.replace("DEVICE", str(device)))
    library = [str(driver / "libcuda.so.1"), str(driver / "cuda.c")]
    subprocess.run(["cc", "-shared", "-fPIC", "-w", "-o", *library], check=True)
    view = scene.view()
    view = replace(view, environment={**view.environment, "LD_LIBRARY_PATH": str(driver)})
    assert _detail(scene, bwrap, view) == (False, "outside 1 GPU, computes, inside cuInit: error 100")
    view = replace(view, readable=(*view.readable, device))
    assert _detail(scene, bwrap, view) == (True, "outside 1 GPU, computes, inside 1 GPU, computes")


def test_what_is_allowed_on_purpose_has_no_row(scene: Scene, bwrap: Sandbox) -> None:
    view = replace(scene.view(), network=True)
    proof = prove(bwrap, view, sys.executable, state=scene.state)
    assert {row.check for row in proof.rows}.isdisjoint({Check.TCP, Check.UDP, Check.GIT})
    assert failed(proof) == set()


def test_a_probe_that_does_not_end_proves_nothing(scene: Scene, bwrap: Sandbox) -> None:
    def alter(_: View, argv: tuple[str, ...]) -> tuple[str, ...]:
        return (*argv[: argv.index("--") + 1], "sleep", "1000")

    leaky = Leaky(SandboxKind.BWRAP, bwrap.program, alter=alter)
    proof = prove(leaky, scene.view(), sys.executable, state=scene.state, seconds=0.2)
    assert failed(proof) == set(Check)


def _detail(scene: Scene, sandbox: Sandbox, view: View) -> tuple[bool, str]:
    (row,) = (row for row in scene.prove(sandbox, view).rows if row.check is Check.CUDA)
    return row.held, row.detail


def _swap(argv: tuple[str, ...], old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    """Put `new` in the first place of `old`."""
    start = next(at for at in range(len(argv)) if argv[at : at + len(old)] == old)
    return argv[:start] + new + argv[start + len(old) :]
