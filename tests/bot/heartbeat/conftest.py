from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loop.process.supervisor import MARK
from loop.process.trainer import mark_of
from tests.bot.heartbeat.patient import Patient
from tests.loop.fake_gpu import FakeGpu


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    return FakeGpu(tmp_path / "bin", monkeypatch)


@pytest.fixture
def patient(tmp_path: Path, gpu: FakeGpu) -> Iterator[Patient]:
    made = Patient(tmp_path / "home")
    yield made
    made.journal.close()


@pytest.fixture
def sleeper() -> Iterator[Callable[[Path | None], subprocess.Popen[bytes]]]:
    """Start a process that waits, with the mark of an attempt's folder or without."""
    started = []

    def start(mark: Path | None) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", "print(flush=True); input()"],
            env={} if mark is None else {MARK: mark_of(mark)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
