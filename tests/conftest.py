"""What holds for all tests."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal import charmap
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants
from hypothesis.internal.intervalsets import IntervalSet

from loop.store.journal import Journal
from tests.git_settings import NO_MAINTENANCE
from tests.workers import begin, run_in_workers

migrate = Journal._migrate
patch_for_all = pytest.MonkeyPatch()

# Two busy cores can make any single example slow; how long the whole takes is pytest-timeout's business.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

MEMORY = Path("/dev/shm")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
IN_UTF_8 = {"utf-8": (IntervalSet(((0, 0xD7FF), (0xE000, 0x10FFFF))), IntervalSet(()))}
"""Which characters hypothesis can draw for a text, and which of them do not come back: none."""

ROOM = 4 * 2**30  # bytes; all tests at once take less than half of it


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--workers", type=int, default=1, help="processes that run the tests, each a file at a time"
    )


def pytest_collection(session: pytest.Session) -> None:
    config = session.config
    everything = config.args_source is config.ArgsSource.TESTPATHS
    if config.option.workers > 1 and everything and not config.option.collectonly:
        begin(session, [Path(__file__).parent / file for file in LONG[:2]])


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    option = session.config.option
    if option.workers < 2 or option.collectonly or session.testsfailed:
        return None
    run_in_workers(session, option.workers, unit)
    return True


def pytest_configure() -> None:
    """Put the tests' folders into memory, where there is some: git and SQLite wait long for a disk.

    Compiled code is kept for every user, or each of their processes would compile it anew. What numpy and
    torch compute has one thread: more wait for each other on few cores, and no fork takes them along.
    Hypothesis is told what it would take seconds in each process to find out.
    """
    patch_for_all.setattr(charmap, "intervals_from_codec", IN_UTF_8.__getitem__)
    patch_for_all.setattr(providers, "_get_local_constants", Constants)  # those of 600 modules say little
    gc.disable()  # nothing that is imported is garbage
    os.environ.update(ONE_THREAD)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    with suppress(OSError):
        if shutil.disk_usage(MEMORY).free >= ROOM and os.access(MEMORY, os.W_OK):
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


TOGETHER = ("loop/proposers/model/",)
"""Folders whose tests one worker runs, as they import for seconds what no other test needs."""

LONG = (
    *("loop/sandbox/test_hostile.py", "loop/evaluation/test_campaign.py", "bot/test_repositories.py"),
    *("loop/engine/test_evaluation.py", "loop/evaluation/test_guard.py", "bot/test_interruptions.py"),
    *("bot/test_app.py", "bot/test_later_starts.py", "bot/test_repeated_trainings.py"),
    *("bot/test_surroundings.py", "loop/proposers/model/", "loop/engine/test_engine.py"),
    *("family/test_family.py", "bot/test_app_chats.py", "loop/sandbox/test_proof.py"),
    *("loop/engine/test_taking_back.py", "training/evaluation/test_suspicion.py"),
    *("loop/engine/test_engine_states.py", "loop/git/test_programs.py", "notifiers/charts/test_drawing.py"),
    *("notifiers/page/test_page_in_browser.py", "training/test_evaluation.py", "training/test_prepare.py"),
    *("loop/proposers/agent/test_coding_agent.py", "test_rewording.py", "training/test_model.py"),
    *("loop/proposers/search/test_suggest.py", "loop/process/test_limits.py", "gallery/test_gallery.py"),
    *("bot/test_inbox.py", "bot/reports/test_bundling.py", "loop/engine/test_repeats.py"),
    *("loop/engine/test_outcomes.py", "loop/engine/test_certifying.py", "training/test_profiles.py"),
)
"""The files that take longest, in seconds of the processor or of waiting."""


def unit(item: pytest.Item) -> str:
    """Return what one worker runs as a whole: a file, or a folder of `TOGETHER`."""
    return _unit(item.path)


@cache
def _unit(path: Path) -> str:
    file = path.relative_to(Path(__file__).parent).as_posix()
    return next((folder for folder in TOGETHER if file.startswith(folder)), file)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that no worker is left alone with it at the end."""
    places = {each: place for place, each in enumerate(LONG)}
    items.sort(key=lambda item: places.get(unit(item), len(LONG)))


def pytest_collection_finish() -> None:
    """Leave all that was imported out of each later search for garbage: it takes a second to look through."""
    for name in ONE_THREAD:  # by now they are imported
        os.environ.pop(name, None)
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """A folder as `tmp_path`, but never in /dev/shm, which sandboxes open for trainings."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()


@pytest.fixture(autouse=True, scope="session")
def tables_at_once() -> Iterator[None]:
    """Give new journals a copy of the tables that the first one got: 90 statements take 20 ms each time.

    The tests of the journal, and every bot in a process of its own, make them by the migrations.
    """
    tables = sqlite3.connect(":memory:")

    def copy(journal: Journal) -> None:
        if journal._db.execute("SELECT 1 FROM sqlite_master").fetchone():
            migrate(journal)
        elif tables.execute("SELECT 1 FROM sqlite_master").fetchone():
            tables.backup(journal._db)
        else:
            migrate(journal)
            journal._db.backup(tables)

    with pytest.MonkeyPatch.context() as patch, closing(tables):
        patch.setattr(Journal, "_migrate", copy)
        yield


@pytest.fixture(autouse=True, scope="session")
def only_own_environment() -> Iterator[None]:
    """Hide the configuration of git, the terminal and the proxies of the user who runs the tests."""
    hidden = ("NO_COLOR", "FORCE_COLOR", "COLORTERM")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("GIT_") or name.lower().endswith("_proxy") or name in hidden:
                patch.delenv(name)
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        for name, value in NO_MAINTENANCE.items():
            patch.setenv(name, value)
        patch.setenv("TERM", "xterm-256color")  # theirs may be a dumb one
        yield


@pytest.fixture(autouse=True, scope="module")
def true_time() -> Iterator[None]:
    """Tell which tests leave a clock that is not the machine's to those of other files."""
    clocks = time.time, time.monotonic
    yield
    assert clocks == (time.time, time.monotonic)
