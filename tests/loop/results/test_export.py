from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from loop.errors import UserError
from loop.experiment import Cost, Ending, Experiment, Family, Goal, Stage, Status, Training
from loop.results.export import json_lines, write_parquet
from tests.loop.proposers.contexts import run_of, trial

KEPT = Experiment(
    run_id=1,
    number=3,
    stage=Stage.DECIDED,
    description="größer 🙂\u2028next",
    rationale="because",
    proposer="claude",
    parent="a" * 40,
    commit="b" * 40,
    constants={"DEPTH": 9, "BETAS": [0.8, 0.95]},
    lines_added=2,
    training=Training(
        1,
        started_at=1_700_000_000.5,
        ended_at=1_700_000_300.0,
        ending=Ending.EXITED,
        exit_code=0,
        numbers={"val_bpb": 0.98, "training_seconds": 300.1, "peak_vram_mb": 2048.0},
    ),
    value=0.98,
    best_before=0.99,
    status=Status.KEEP,
    family=Family.DATA_ORDER,
    cost=Cost(1000, 900, 50, 0.02),
)
RUNNING = trial(4, "unfinished", {}, None, None)


def test_a_line_tells_everything_with_times_in_utc() -> None:
    kept, running = (json.loads(line) for line in json_lines(run_of(), [KEPT, RUNNING]).split("\n")[:-1])
    assert kept["run"] == "mar12"
    assert kept["gain"] == pytest.approx(0.01)
    assert (kept["status"], kept["family"], kept["ending"]) == ("keep", "data order", "exited")
    assert kept["started_at"] == "2023-11-14T22:13:20.500000+00:00"
    assert (kept["memory_gb"], kept["training_seconds"]) == (2.0, 300.1)
    assert (kept["input_tokens"], kept["cached_tokens"], kept["dollars"]) == (1000, 900, 0.02)
    assert kept["constants"] == {"DEPTH": 9, "BETAS": [0.8, 0.95]}
    assert kept["description"] == "größer 🙂\u2028next"
    assert list(kept) == list(running)
    assert [running[name] for name in ("status", "value", "gain", "input_tokens", "dollars")] == [None] * 5


def test_a_gain_is_positive_when_the_metric_is_to_grow() -> None:
    (line,) = json_lines(run_of(Goal.MAXIMIZE), [KEPT]).splitlines()
    assert json.loads(line)["gain"] == pytest.approx(-0.01)


def test_parquet_has_types_and_the_same_rows(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "run.parquet"
    write_parquet(file, run_of(), [KEPT, RUNNING])
    table = pq.read_table(file)
    assert str(table.schema.field("started_at").type) == "timestamp[us, tz=UTC]"
    assert str(table.schema.field("number").type) == "int64"
    kept, running = table.to_pylist()
    assert kept["started_at"].isoformat() == "2023-11-14T22:13:20.500000+00:00"
    assert json.loads(kept["constants"]) == {"DEPTH": 9, "BETAS": [0.8, 0.95]}
    assert (kept["value"], running["value"]) == (0.98, None)


def test_a_run_without_experiments_is_an_empty_table(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    assert json_lines(run_of(), []) == ""
    write_parquet(tmp_path / "run.parquet", run_of(), [])
    assert pq.read_table(tmp_path / "run.parquet").num_rows == 0


def test_without_pyarrow_the_sentence_names_the_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="pip install pyarrow"):
        write_parquet(tmp_path / "run.parquet", run_of(), [KEPT])


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(UserError, match=r"none/run\.parquet cannot be written: No such file or directory\.$"):
        write_parquet(tmp_path / "none" / "run.parquet", run_of(), [KEPT])
