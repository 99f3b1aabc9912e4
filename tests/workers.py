"""Runs the tests in several processes, forked off when all tests are collected: what they import, they share.

Each takes one unit, such as a file, after another and is a pytest of its own, but for what it reports: that
it sends to the first process, which shows it. Two begin with files that take long while the first process
still collects, for which it has no use for a second core.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from itertools import groupby
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, TypeAlias

import pytest

Location: TypeAlias = tuple[str, int | None, str]
Workers: TypeAlias = dict[Connection, int]

BEGUN = pytest.StashKey[tuple[Collection[Path], Workers]]()
"""The files that run already, and their workers."""
RESULTS = pytest.StashKey[Connection]()
"""In that worker: where its results go."""


def begin(session: pytest.Session, files: Collection[Path]) -> None:
    """Let a worker collect and run each of these files alone."""
    workers: Workers = {}
    session.stash[BEGUN] = files, workers
    for file in files:
        ours, theirs = Pipe(duplex=False)
        if pid := os.fork():
            theirs.close()
            workers[ours] = pid
            continue
        for other in (ours, *workers):
            other.close()
        session.config.args = [str(file)]
        session.stash[RESULTS] = theirs
        _be_worker(session.config)
        return


def run_in_workers(session: pytest.Session, count: int, unit: Callable[[pytest.Item], str]) -> None:
    """Run all tests; return in the first process when all are done, in a worker when its own are.

    Tests of one unit follow each other, and one worker runs them.
    """
    if results := session.stash.get(RESULTS, None):
        _work(session.config, iter(session.items), results)
        return
    begun, workers = session.stash.get(BEGUN, ((), {}))
    items = [item for item in session.items if item.path not in begun]
    units = [list(tests) for _, tests in groupby(items, key=unit)]
    queue, fill = os.pipe()
    os.write(fill, b"".join(number.to_bytes(2, "big") for number in range(len(units))))
    os.close(fill)
    for _ in range(min(count, len(units))):
        ours, theirs = Pipe(duplex=False)
        if pid := os.fork():
            theirs.close()
            workers[ours] = pid
            continue
        for other in (ours, *workers):
            other.close()
        _be_worker(session.config)
        _work(session.config, _taken(units, queue), theirs)
        return
    try:
        _show(session, workers, queue)
    except BaseException:
        for pid in workers.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        raise
    if session.shouldfail:
        raise session.Failed(session.shouldfail)


def _taken(units: list[list[pytest.Item]], queue: int) -> Iterator[pytest.Item]:
    while number := os.read(queue, 2):
        yield from units[int.from_bytes(number, "big")]


def _be_worker(config: pytest.Config) -> None:
    config.workerinput = {}  # type: ignore[attr-defined] # tells other plugins that this is a worker
    # The first process shows it; without any terminal pytest-timeout cannot say what took too long.
    config.get_terminal_writer()._file = Path(os.devnull).open("w")  # noqa: SIM115
    capture = config.pluginmanager.getplugin("capturemanager")
    capture.stop_global_capturing()
    capture.start_global_capturing()  # into files of its own


def _work(config: pytest.Config, tests: Iterator[pytest.Item], results: Connection) -> None:
    config.pluginmanager.register(_Reporter(config, results))
    item = next(tests, None)
    while item:
        following = next(tests, None)
        config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        item = following


class _Reporter:
    """Sends what the terminal is to show."""

    def __init__(self, config: pytest.Config, results: Connection) -> None:
        self._config, self._results = config, results

    def pytest_runtest_logstart(self, nodeid: str, location: Location) -> None:
        self._results.send(("started", nodeid, location))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._results.send(("report", data))

    def pytest_runtest_logfinish(self, nodeid: str, location: Location) -> None:
        self._results.send(("finished", nodeid, location))


def _show(session: pytest.Session, workers: Workers, queue: int) -> None:
    """Show what the workers report until all have ended; after too many failures they get no more."""
    hook, running = session.config.hook, dict[Connection, tuple[str, Location]]()
    while workers:
        for worker in wait([*workers]):
            assert isinstance(worker, Connection)
            try:
                message: Any = worker.recv()
            except EOFError:
                status = os.waitstatus_to_exitcode(os.waitpid(workers.pop(worker), 0)[1])
                if worker in running or status not in GOOD:
                    hook.pytest_runtest_logreport(report=_ended(status, *running.get(worker, NO_TEST)))
                continue
            match message:
                case ("started", nodeid, location):
                    running[worker] = nodeid, location
                case ("report", data):
                    report = hook.pytest_report_from_serializable(config=session.config, data=data)
                    hook.pytest_runtest_logreport(report=report)
                case ("finished", nodeid, location):
                    del running[worker]
                    hook.pytest_runtest_logfinish(nodeid=nodeid, location=location)
            if session.shouldfail:
                os.read(queue, 1 << 16)
    os.close(queue)


GOOD = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
NO_TEST: tuple[str, Location] = ("between tests", ("tests", None, ""))


def _ended(status: int, nodeid: str, location: Location) -> pytest.TestReport:
    sentence = f"The worker ended with status {status}, and what should follow it there was not run."
    return pytest.TestReport(nodeid, location, {}, "failed", sentence, "call")
