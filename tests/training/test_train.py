"""`train.py` as the loop starts it: a process in a copy of the template."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.training.conftest import Run, copy_template, run_in, small

PROGRESS = re.compile(
    r"step \d{5} \(\d+\.\d%\) \| loss: \d+\.\d{6} \| lrm: \d\.\d\d \| dt: \d+ms \| tok/sec: [\d,]+ \| "
    r"mfu: \d+\.\d% \| remaining: \d+s"
)
KEYS = [
    *("val_bpb", "training_seconds", "total_seconds", "peak_vram_mb", "mfu_percent"),
    *("total_tokens_M", "num_steps", "num_params_M", "depth"),
]


@pytest.fixture
def train(data: Path, tmp_path: Path) -> Run:
    """Run `train.py` on that data, with other values for some constants."""

    def start(**constants: str) -> subprocess.CompletedProcess[str]:
        repository = copy_template(tmp_path / "repository", **small(data) | constants)
        return run_in(repository, "train.py", cache=data / "cache")

    return start


def test_a_training_tells_its_progress_and_ends_with_its_numbers(train: Run) -> None:
    training = train()
    assert (training.returncode, training.stderr) == (0, "")
    story, _, block = training.stdout.partition("\n---\n")
    first, *lines = story.strip().splitlines()
    assert first.startswith("parameters: 0.1 M, depth: 2, width: 32")
    assert lines
    assert all(PROGRESS.fullmatch(line) for line in lines)
    assert "(100.0%)" in lines[-1]
    numbers = {key: float(value) for key, _, value in (line.partition(":") for line in block.splitlines())}
    assert list(numbers) == KEYS
    assert 0 < numbers["val_bpb"] < 2
    assert 1 <= numbers["training_seconds"] < numbers["total_seconds"]
    assert numbers["total_tokens_M"] == pytest.approx(numbers["num_steps"] * 2**9 / 1e6, abs=0.005)
    assert numbers["depth"] == 2


@pytest.mark.parametrize(
    ("constants", "sentence"),
    [
        ({"MATRIX_LR": "1e25"}, r"The loss is nan at step 1: the training has failed\."),
        (
            {"LOGIT_SOFTCAP": "1e6", "UNEMBEDDING_LR": "1e3"},
            r"The loss is \d{3,}\.\d{3} at step 1: the training has failed\.",
        ),
        ({"VOCAB_SIZE": "280"}, r"is not prepared in .*; run: python prepare\.py"),
        ({"WINDOW_PATTERN": '"SM"'}, r"WINDOW_PATTERN is 'SM', and must be made of S and L\."),
    ],
    ids=["no number", "explodes", "not prepared", "bad constant"],
)
def test_a_training_that_cannot_be_is_one_sentence(
    constants: dict[str, str], sentence: str, train: Run
) -> None:
    training = train(**constants)
    assert training.returncode == 1
    assert re.fullmatch(rf"error: .*{sentence}\n", training.stderr)
    assert "val_bpb" not in training.stdout
