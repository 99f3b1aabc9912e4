from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loop.experiment import Ending, EventKind, Run, Status
from loop.store.journal import Journal
from notifiers.channels.tracker import Tracker
from tests.loop.proposers.contexts import trial
from tests.loop.store.test_journal import make_run
from tests.loop.trainings import trained

LIBRARY = """
import json, os
from tests.loop.trainings import trained
def _write(*what):
    with open(os.environ["TRACKIO_FILE"], "a") as file:
        file.write(json.dumps(what) + "\\n")
def init(**options):
    print("noise")
    if os.path.exists(os.environ["TRACKIO_FILE"] + ".down"):
        raise ConnectionError("the server is down")
    _write("init", options)
def log(numbers, step): _write("log", step, numbers)
def finish(): _write("finish")
"""
WANDB = (
    LIBRARY.replace("def log(numbers, step)", "def log(numbers, step=None)")
    + """
def define_metric(name, step_metric): _write("axis", name, step_metric)
"""
)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "state.db")
    yield made
    made.close()


@pytest.fixture
def run(journal: Journal) -> Run:
    return make_run(journal)


@pytest.fixture
def told(tmp_path: Path) -> Path:
    return tmp_path / "told"


@pytest.fixture
def tracker(journal: Journal, tmp_path: Path, told: Path, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    """A tracker whose library writes down what it is asked."""
    (tmp_path / "trackio.py").write_text(LIBRARY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    environ = {"TRACKIO_FILE": str(told), "SLACK_BOT_TOKEN": "secret"}
    return Tracker(journal, service="trackio", project="nights", environ=environ)


def decide(journal: Journal, run: Run, number: int, value: float | None, status: Status) -> None:
    experiment = replace(trial(number, "idea", {}, value, status), run_id=run.id, best_before=1.0)
    ended = trained(experiment, numbers={"mfu_percent": 40.0}, ending=Ending.EXITED)
    journal.record(ended, kind=EventKind.DECIDED)


def lines(told: Path) -> list[list[object]]:
    return [json.loads(line) for line in told.read_text().splitlines()]


async def test_each_decided_experiment_is_a_step_of_its_run(
    journal: Journal, run: Run, tracker: Tracker, told: Path
) -> None:
    decide(journal, run, 1, 0.9, Status.KEEP)
    decide(journal, run, 2, None, Status.CRASH)
    await tracker.catch_up()
    assert lines(told) == [
        ["init", {"project": "nights", "name": "mar12", "resume": "allow"}],
        [
            "log",
            1,
            {"mfu_percent": 40.0, "val_bpb": 0.9, "best": 0.9, "kept": 1, "crashed": 0, "quarantined": 0},
        ],
        ["log", 2, {"mfu_percent": 40.0, "best": 1.0, "kept": 0, "crashed": 1, "quarantined": 0}],
        ["finish"],
    ]


async def test_a_result_of_another_lane_that_comes_late_is_no_step_that_wandb_ignores(
    journal: Journal, run: Run, tmp_path: Path, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb.py").write_text(WANDB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    tracker = Tracker(journal, service="wandb", project="nights", environ={"TRACKIO_FILE": str(told)})
    for number in (2, 1):
        decide(journal, run, number, 0.9, Status.DISCARD)
        await tracker.catch_up()
    begun, axis, *_ = lines(told)
    assert begun == ["init", {"project": "nights", "name": "mar12", "resume": "allow", "id": "mar12"}]
    assert axis == ["axis", "*", "experiment"]
    numbers = {"mfu_percent": 40.0, "val_bpb": 0.9, "best": 1.0, "kept": 0, "crashed": 0, "quarantined": 0}
    steps = [line[1:] for line in lines(told) if line[0] == "log"]
    assert steps == [[None, {"experiment": number, **numbers}] for number in (2, 1)]


async def test_what_was_told_is_not_told_again(
    journal: Journal, run: Run, tracker: Tracker, told: Path
) -> None:
    decide(journal, run, 1, 0.9, Status.KEEP)
    await tracker.catch_up()
    decide(journal, run, 2, 0.95, Status.DISCARD)
    await tracker.catch_up()
    assert [line[1] for line in lines(told) if line[0] == "log"] == [1, 2]


async def test_an_outage_is_made_up_for_and_stops_nothing(
    journal: Journal, run: Run, tracker: Tracker, told: Path, caplog: pytest.LogCaptureFixture
) -> None:
    down = told.with_name("told.down")
    down.touch()
    decide(journal, run, 1, 0.9, Status.KEEP)
    await tracker.catch_up()
    await tracker.catch_up()
    assert caplog.text.count("trackio:nights") == 1
    assert "the server is down" in caplog.text
    down.unlink()
    await tracker.catch_up()
    assert [line[1] for line in lines(told) if line[0] == "log"] == [1]


async def test_without_the_library_the_log_says_so(
    journal: Journal, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    decide(journal, run, 1, 0.9, Status.KEEP)
    await Tracker(journal, service="no_such_tracker", project="p", environ={}).catch_up()
    assert "No module named 'no_such_tracker'" in caplog.text
