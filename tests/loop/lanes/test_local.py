"""Which lanes a machine has, and what each of them gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop.lanes.local import WHOLE, cpu_slots, device_files, find_slots, gpu_slots
from loop.machine import Gpu, GpuState
from tests.loop.fake_gpu import FakeGpu

H200, A100 = "NVIDIA H200", "NVIDIA A100"
FILES = {f"GPU-{name}": f"/dev/nvidia{minor}" for name, minor in zip("abcd", (3, 2, 1, 0), strict=True)}


def state(*names: str) -> GpuState:
    return GpuState(tuple(Gpu(i, f"GPU-{name}", 1.0, 1.0, 0.0) for i, name in enumerate(names)), ())


def models(**of: str) -> dict[str, str]:
    return {f"GPU-{name}": model for name, model in of.items()}


ALIKE = models(a=H200, b=H200, c=H200, d=H200)


def test_each_gpu_is_a_lane_that_sees_it_alone() -> None:
    first, second = gpu_slots(None, state("a", "b"), ALIKE, None, FILES)
    assert (first.index, first.device, first.model, first.gpu) == (0, "GPU 0", H200, "GPU-a")
    assert [slot.variables for slot in (first, second)] == [
        {"CUDA_VISIBLE_DEVICES": "GPU-a"},
        {"CUDA_VISIBLE_DEVICES": "GPU-b"},
    ]
    assert set(second.withheld) == {"/dev/nvidia3", "/dev/nvidia1", "/dev/nvidia0"}


def test_a_gpu_whose_device_file_is_unknown_hides_none() -> None:
    slots = gpu_slots(None, state("a", "b"), ALIKE, None, {"GPU-b": "/dev/nvidia1"})
    assert [slot.withheld for slot in slots] == [(), ()]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("2,0", ["GPU-c", "GPU-a"]), ("GPU-b,GPU-d", ["GPU-b", "GPU-d"]), ("1, 9, 3", ["GPU-b", "GPU-d"])],
)
def test_lanes_are_among_the_visible_gpus_in_their_order(visible: str, expected: list[str]) -> None:
    assert [slot.gpu for slot in gpu_slots(None, state(*"abcd"), ALIKE, visible, FILES)] == expected


def test_one_visible_gpu_is_one_lane_as_it_is_without_the_setting() -> None:
    assert gpu_slots(None, state(*"abcd"), ALIKE, "2", FILES) == WHOLE
    assert gpu_slots(3, state("a"), ALIKE, None, FILES) == WHOLE


def test_gpus_of_another_model_are_left_out() -> None:
    mixed = models(a=A100, b=H200, c=H200, d=A100, e=H200)
    slots = gpu_slots(None, state(*"abcde"), mixed, None, {})
    assert [(slot.index, slot.gpu) for slot in slots] == [(0, "GPU-b"), (1, "GPU-c"), (2, "GPU-e")]


def test_parts_of_a_gpu_are_lanes_by_their_names() -> None:
    slots = gpu_slots(None, state("a"), ALIKE, "MIG-1,MIG-2", FILES)
    assert [slot.variables["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["MIG-1", "MIG-2"]


def test_the_number_that_was_set_is_the_most() -> None:
    assert len(gpu_slots(2, state(*"abcd"), ALIKE, None, FILES)) == 2
    assert len(gpu_slots(9, state(*"abcd"), ALIKE, None, FILES)) == 4


def test_lanes_of_a_cpu_share_its_cores() -> None:
    slots = cpu_slots(3, [0, 1, 2, 3, 4, 5, 6, 7], 8.0, None)
    assert [slot.cores for slot in slots] == [(0, 1), (2, 3, 4), (5, 6, 7)]
    assert {slot.variables["OMP_NUM_THREADS"] for slot in slots} == {"2"}
    assert [slot.cores for slot in cpu_slots(4, [0, 1], 2.0, None)] == [(0,), (0,), (1,), (1,)]
    assert cpu_slots(2, [0, 1, 2, 3], 4.0, "1")[0].variables == {"OMP_NUM_THREADS": "1"}
    assert cpu_slots(1, [0, 1], 2.0, None) == WHOLE


def test_a_launcher_of_many_processes_has_all_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = FakeGpu(tmp_path / "gpu", monkeypatch)
    gpus.show("0, GPU-a, 81920, 81920, 0", "1, GPU-b, 81920, 81920, 0")
    assert [slot.gpu for slot in find_slots(None, {}, ())] == ["GPU-a", "GPU-b"]
    assert find_slots(None, {}, ("uv", "run", "torchrun", "--nproc-per-node=2", "train.py")) == WHOLE
    assert find_slots(1, {}, ()) == WHOLE
    assert find_slots(None, {"CUDA_VISIBLE_DEVICES": ""}, ()) == WHOLE


def test_device_files_are_read_from_the_driver(tmp_path: Path) -> None:
    for bus, uuid, minor in (("0000:19:00.0", "GPU-a", 1), ("0000:3b:00.0", "GPU-b", 0)):
        (tmp_path / bus).mkdir()
        text = f"Model: \t\t NVIDIA H200\nGPU UUID: \t {uuid}\nDevice Minor: \t {minor}\n"
        (tmp_path / bus / "information").write_text(text)
    assert device_files(tmp_path) == {"GPU-a": "/dev/nvidia1", "GPU-b": "/dev/nvidia0"}
    assert device_files(tmp_path / "nothing") == {}
