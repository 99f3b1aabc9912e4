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


@pytest.fixture(autouse=True, scope="session")
def only_own_environment() -> Iterator[None]:
    """Hide the configuration of git, the terminal and the proxies of whoever runs the tests."""
    hidden = ("NO_COLOR", "FORCE_COLOR", "COLORTERM")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("GIT_") or name.lower().endswith("_proxy") or name in hidden:
                patch.delenv(name)
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("TERM", "xterm-256color")  # theirs may be a dumb one
        yield
