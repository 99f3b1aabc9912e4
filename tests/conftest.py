"""What holds for all tests."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Two busy cores can make any single example slow; how long the whole takes is pytest-timeout's business.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

MEMORY = Path("/dev/shm")
ROOM = 4 * 2**30  # bytes; all tests at once take less than half of it


def pytest_configure() -> None:
    """Put the tests' folders into memory, where there is some: git and SQLite wait long for a disk.

    Compiled code is kept whoever runs the tests, or each of their processes would compile it anew.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    with suppress(OSError):
        if shutil.disk_usage(MEMORY).free >= ROOM and os.access(MEMORY, os.W_OK):
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """A folder as `tmp_path`, but never in /dev/shm, which sandboxes open for trainings."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()


@pytest.fixture(autouse=True)
def only_own_git_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the configuration and the GIT_* variables of whoever runs the tests from git."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture(autouse=True)
def usual_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing go by the terminal of whoever runs the tests, which may be a dumb one."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let servers of this machine be reached as they are, whatever way out whoever runs the tests has."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
