from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from loop import machine as module
from loop.machine import Gpu, GpuProcess, GpuState, look_at_gpus
from tests.loop.fake_gpu import FakeGpu

H200 = "GPU-59df1df1-40f4-2c64-e385-208f6a3d912d"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    return FakeGpu(tmp_path / "bin", monkeypatch)


def test_it_reads_what_an_h200_answers(fake: FakeGpu) -> None:
    fake.show(f"0, {H200}, 143771, 139558, 7", processes=(f"399, 3590, {H200}, python3",))
    assert look_at_gpus() == GpuState(
        (Gpu(0, H200, 143771.0, 139558.0, 7.0),), (GpuProcess(399, 3590.0, "python3", H200),)
    )


def test_what_the_driver_does_not_tell_is_unknown(fake: FakeGpu) -> None:
    fake.show(
        "0, GPU-a, [N/A], [N/A], [N/A]",
        processes=("12, [Insufficient Permissions], GPU-a, /opt/a, b/python",),
    )
    assert look_at_gpus() == GpuState(
        (Gpu(0, "GPU-a", None, None, None),), (GpuProcess(12, None, "/opt/a, b/python", "GPU-a"),)
    )


@pytest.mark.parametrize(
    "words",
    [
        "No devices were found",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
        "Unable to determine the device handle for GPU0: 0000:00:06.0: GPU is lost, sorry, a, b, c, d.",
        "",
    ],
)
def test_a_gpu_that_is_gone_is_no_gpu(fake: FakeGpu, words: str) -> None:
    fake.show(words, status=15)
    assert look_at_gpus() == GpuState((), ())


def test_one_lost_gpu_does_not_hide_the_others(fake: FakeGpu) -> None:
    fake.show("Unable to determine the device handle for GPU0", "1, GPU-b, 10, 5, 0", status=15)
    assert look_at_gpus() == GpuState((Gpu(1, "GPU-b", 10.0, 5.0, 0.0),), ())


def test_without_nvidia_smi_nobody_can_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert look_at_gpus() is None


def test_an_nvidia_smi_that_hangs_is_not_waited_for(fake: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    fake.install("#!/bin/sh\nexec sleep 60\n")
    assert look_at_gpus() is None


def test_a_pipe_that_a_child_of_nvidia_smi_holds_is_not_waited_for(
    fake: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid, patience = tmp_path / "pid", 0.2
    fake.install(f"#!/bin/sh\nsleep 600 & echo $! > {pid}.new; mv {pid}.new {pid}; wait\n")
    while not pid.exists():  # the machine was too busy for the child to be there
        monkeypatch.setattr(module, "PATIENCE", patience)
        assert look_at_gpus() is None
        patience *= 2
    os.kill(int(pid.read_text()), signal.SIGKILL)  # it is still there: nobody waited for it


def test_an_nvidia_smi_that_cannot_be_executed_tells_nothing(fake: FakeGpu) -> None:
    fake.install("\0nonsense")
    assert look_at_gpus() is None


# Whether a training computes

ONE = Gpu(0, "GPU-aa", 80.0, 40.0, 0.0)
TWO = Gpu(1, "GPU-ab", 80.0, 40.0, 93.0)


def on(pid: int, gpu: Gpu) -> GpuProcess:
    return GpuProcess(pid, 40.0, "python", gpu.uuid)


@pytest.mark.parametrize(
    ("processes", "busy"),
    [
        ((on(1, ONE), on(2, TWO)), False),  # ours is on the idle one
        ((on(2, ONE), on(1, TWO)), True),
        ((on(1, ONE), on(1, TWO)), True),
        ((on(77, ONE),), True),  # pids of another container: any may be ours
        ((), True),
    ],
)
def test_a_training_computes_where_its_gpu_does(processes: tuple[GpuProcess, ...], busy: bool) -> None:
    assert GpuState((ONE, TWO), processes).busy([1]) is busy


def test_without_a_gpu_that_tells_nobody_knows() -> None:
    assert GpuState((), ()).busy([1]) is None
    assert GpuState((Gpu(0, "GPU-a", None, None, None),), (on(1, ONE),)).busy([1]) is None


# CUDA_VISIBLE_DEVICES


@pytest.mark.parametrize(
    ("devices", "seen"),
    [
        (None, [0, 1]),
        ("1", [1]),
        (" 1, 0", [0, 1]),
        ("GPU-ab", [1]),
        ("GPU-a", [0, 1]),
        ("", []),
        ("-1", []),
    ],
)
def test_a_training_sees_the_devices_it_is_given(devices: str | None, seen: list[int]) -> None:
    state = GpuState((ONE, TWO), (on(1, ONE), on(2, TWO))).of(devices)
    assert [gpu.index for gpu in state.gpus] == seen
    assert [process.pid for process in state.processes] == [index + 1 for index in seen]
