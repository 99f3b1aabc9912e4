from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loop import machine
from loop.machine import ClockChange, ClockWatch, Disk, cannot_write, disks


@pytest.mark.parametrize(("limit", "share"), [("max 100000", 1.0), ("50000 100000", 0.5), (None, 1.0)])
def test_a_container_may_have_parts_of_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, share: float
) -> None:
    monkeypatch.setattr(machine, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    if limit:
        (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert machine.cores() == share


@pytest.mark.parametrize(
    ("free", "total", "low", "short", "ample"),
    [
        (400e9, 1000e9, False, False, True),
        (4.9e9, 1000e9, False, True, True),
        (1.9e9, 1000e9, False, True, False),
        (0.9e9, 1000e9, True, True, False),
        (0.9e9, 2e9, False, False, True),  # a small disk: a part of it counts
        (40e6, 64e6, False, False, True),
        (3e6, 64e6, True, True, False),
        (0, 64e6, True, True, False),
    ],
)
def test_a_disk_has_room_or_not(free: float, total: float, low: bool, short: bool, ample: bool) -> None:
    disk = Disk(Path("/"), free, total)
    assert (disk.low, disk.short, disk.ample) == (low, short, ample)


def test_each_file_system_is_measured_once_even_for_folders_to_come(tmp_path: Path) -> None:
    found = disks(tmp_path / "not" / "yet", tmp_path, Path("/proc/self"))
    assert [disk.folder for disk in found] == [tmp_path / "not" / "yet", Path("/proc/self")]
    assert 0 < found[0].free <= found[0].total


@contextmanager
def no_file_may_grow() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_it_is_known_whether_a_state_file_can_be_written(tmp_path: Path) -> None:
    assert cannot_write(tmp_path / "state.db") == ""
    assert list(tmp_path.iterdir()) == []
    assert cannot_write(tmp_path / "gone" / "state.db") == "no such file or directory"
    with no_file_may_grow():
        why = cannot_write(tmp_path / "state.db")
    assert why == "file too large"


class Clocks:
    def __init__(self) -> None:
        self.wall, self.since_boot, self.awake = 1e9, 500.0, 400.0

    def watch(self) -> ClockWatch:
        return ClockWatch(
            wall=lambda: self.wall, since_boot=lambda: self.since_boot, awake=lambda: self.awake
        )

    def pass_by(self, seconds: float) -> None:
        self.awake += seconds
        self.sleep(seconds)

    def sleep(self, seconds: float) -> None:
        self.since_boot += seconds
        self.wall += seconds


def test_a_clock_that_runs_evenly_is_nothing_to_note() -> None:
    clocks = Clocks()
    watch = clocks.watch()
    clocks.pass_by(600.0)
    assert watch.look() == ClockChange(0.0, 0.0)


def test_a_sleep_and_a_jump_are_told_apart_and_told_once() -> None:
    clocks = Clocks()
    watch = clocks.watch()
    clocks.pass_by(300.0)
    clocks.sleep(7200.0)
    clocks.wall -= 3600.0
    clocks.pass_by(300.0)
    assert watch.look() == ClockChange(jumped=-3600.0, slept=7200.0)
    clocks.pass_by(300.0)
    assert watch.look() == ClockChange(0.0, 0.0)


def test_the_machine_s_own_clocks_agree_while_it_is_awake() -> None:
    change = ClockWatch().look()
    assert change.slept == pytest.approx(0.0, abs=0.5)
