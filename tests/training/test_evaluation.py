"""A training and its evaluation as they are: processes in copies of the template."""

from __future__ import annotations

import json
import os
import pickle
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.conftest import copy_template, environment_of, small
from tests.training.evaluating import Evaluation, evaluate
from tests.training.preloaded import forked, run_forked
from training import exchange, readers
from training import questions as asked

PROGRESS = re.compile(
    r"step \d{5} \(\d+\.\d%\) \| loss: \d+\.\d{6} \| lrm: \d\.\d\d \| dt: \d+ms \| tok/sec: [\d,]+ \| "
    r"mfu: \d+\.\d% \| remaining: \d+s"
)
KEYS = [
    *("val_bpb", "training_seconds", "training_tflops", "total_seconds", "peak_vram_mb", "mfu_percent"),
    *("total_tokens_M", "num_steps", "num_params_M", "depth"),
]

Score = Callable[..., Evaluation]


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a training has ended in; `log` is what it printed."""
    folder = copy_template(tmp_path_factory.mktemp("trained") / "work", **small(data))
    done = run_forked(["train.py"], cwd=folder, env=environment_of(data / "cache"))
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "log").write_text(done.stdout)
    return folder


def test_a_training_tells_its_progress_and_ends_with_its_numbers(trained: Path) -> None:
    story, _, block = (trained / "log").read_text().partition("\n---\n")
    first, *lines = story.strip().splitlines()
    assert first.startswith("parameters: 0.1 M, depth: 2, width: 32")
    assert lines
    assert all(PROGRESS.fullmatch(line) for line in lines)
    assert "(100.0%)" in lines[-1]
    numbers = {key: float(value) for key, _, value in (line.partition(":") for line in block.splitlines())}
    assert list(numbers) == KEYS
    assert 0 < numbers["val_bpb"] < 2
    assert 1 <= numbers["training_seconds"] <= numbers["total_seconds"]  # tenths
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
    constants: dict[str, str], sentence: str, data: Path, tmp_path: Path
) -> None:
    repository = copy_template(tmp_path / "repository", **small(data) | constants)
    training = run_forked(["train.py"], cwd=repository, env=environment_of(data / "cache"))
    assert training.returncode == 1
    assert re.fullmatch(rf"error: .*{sentence}\n", training.stderr)
    assert "val_bpb" not in training.stdout


@pytest.fixture
def score(data: Path, trained: Path, tmp_path: Path) -> Score:
    """Evaluate the trained model, with more lines at the end of its `train.py`."""

    def start(more: str = "", **options: Any) -> Evaluation:
        source = (trained / "train.py").read_text(encoding="utf-8")
        work = copy_template(tmp_path / "work", **small(data))
        (work / "train.py").write_text(source + more, encoding="utf-8")
        (work / "model.pt").write_bytes((trained / "model.pt").read_bytes())
        fixed = copy_template(tmp_path / "fixed", **small(data))
        (fixed / "train.py").write_text("raise SystemExit('the scorer has imported train.py')")
        if not readers.has_gpu():  # without one it starts in a tenth of the time
            (fixed / "torch.py").write_text("raise SystemExit('the scorer has imported torch')")
        environment = environment_of(data / "cache")
        return evaluate(work, fixed, tmp_path / "losses", environment=environment, start=forked, **options)

    return start


LOUD = """
_build = build_model
def build_model(weights, device):
    print("building", flush=True)
    sys.stdout.write("x" * 100_000)
    model = _build(weights, device)
    return lambda tokens: print(tokens.shape, gc.isenabled() or 1 / 0) or model(tokens)
"""


def test_it_finds_what_the_training_printed(score: Score, trained: Path, tmp_path: Path) -> None:
    printed = re.findall(r"^val_bpb: +(\S+)$", (trained / "log").read_text(), re.MULTILINE)
    first = score(LOUD)
    assert first["refused"] == first["prefix"] == first.scorer_said == ""
    assert first["val_bpb"] == pytest.approx(float(printed[0]), abs=1e-4)
    assert 0 < first["audit_bpb"] < 3
    first.losses.rename(tmp_path / "head")
    again = score(head=tmp_path / "head", seed=7)
    assert again["gain_val"] == pytest.approx(0, abs=1e-4)
    assert again["gain_audit"] == pytest.approx(0, abs=1e-4)


# Searches frames, all objects and every open file for rows of whole numbers that hold the question's tokens,
# and notes what follows them there: nothing, or the BOS of the next row, but never the last target.
SNOOP = """
import itertools, json, mmap, os, numpy
_build = build_model
def build_model(weights, device):
    model, calls = _build(weights, device), []
    def things():
        frame = sys._getframe()
        while frame:
            yield from list(frame.f_locals.values())
            frame = frame.f_back
        for one in gc.get_objects():
            yield one
            if isinstance(one, dict):
                yield from list(one.values())
        for name in os.listdir("/proc/self/fd"):
            try:
                yield os.pread(int(name), 2**26, 0)
            except OSError:
                pass
    def content(thing):
        if isinstance(thing, Tensor):
            return bytes(thing.untyped_storage()) if thing.dtype == torch.int64 else b""
        readable = isinstance(thing, (numpy.ndarray, mmap.mmap, bytes, bytearray))
        return bytes(thing) if readable else b""
    def answer(tokens):
        calls.append(tokens)
        if len(calls) == 3:
            found, contents = [], [content(thing) for thing in things()]
            for row, kind in itertools.product(tokens[:, 1:].tolist(), ("<i8", "<i4", "<u2")):
                wanted = numpy.array(row, kind).tobytes()
                for where in contents:
                    end = where.find(wanted) + len(wanted)
                    if end >= len(wanted):
                        found.append(int.from_bytes(where[end : end + numpy.dtype(kind).itemsize], "little"))
            with open("found.json", "w") as file:
                json.dump(found, file)
        return model(tokens)
    return answer
"""


def test_the_model_cannot_find_a_target(score: Score, tmp_path: Path) -> None:
    done = score(SNOOP)
    assert done["refused"] == "", done.model_said
    found = json.loads((tmp_path / "work" / "found.json").read_text())
    assert found  # the search works: the tokens of the question are there
    vocabulary = range(1, 299)  # without the BOS and what empty memory has
    assert not [number for number in found if number in vocabulary]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("\nimport os\nos._exit(3)\n", "ended before it had answered"),
        ("\nraise SystemExit('enough')\n", "^SystemExit: enough$"),
        ("\nbuild_model = None\n", r"train\.py has no function build_model\(weights, device\)"),
        ("\ndef build_model(weights, device):\n    while True:\n        time.sleep(1)\n", "in time"),
        (
            "\ndef build_model(weights, device):\n    return lambda tokens: 1 / 0\n",
            "^ZeroDivisionError: division by zero$",
        ),
    ],
    ids=["dies", "exits", "no builder", "hangs", "fails"],
)
def test_a_model_that_cannot_be_asked_is_refused(more: str, sentence: str, score: Score) -> None:
    done = score(more, limit=0.1 if "while True" in more else 100)
    assert re.search(sentence, done["refused"])
    assert done["val_bpb"] is None
    assert not done.losses.exists()


def describe(trained: Path, cache: Path) -> CompletedProcess[str]:
    return run_forked(["evaluate.py", "describe"], cwd=trained, env=environment_of(cache))


def test_what_no_training_may_see_is_named(data: Path, trained: Path) -> None:
    found = json.loads(describe(trained, data / "cache").stdout)
    effort = asked.ON_GPU if readers.has_gpu() else asked.ON_CPU
    assert (found["damaged"], found["positions"]) == ("", {"val": 2**10, "audit": int(effort.audit * 2**10)})
    assert re.fullmatch(r"0\.\d\d M tokens of .*text\.txt, by documents", found["audit"])
    assert {Path(path).name for path in found["hidden"]} == {
        "audit_00000.npy",
        "audit_00000.parquet",
        "text.txt",
    }
    assert all(Path(path).is_absolute() and Path(path).exists() for path in found["hidden"])


def test_exchanged_data_is_named(data: Path, trained: Path) -> None:
    (path,) = (data / "cache").rglob("val_00000.npy")
    before = path.read_bytes()
    try:
        np.save(path, np.load(path)[::-1])
        found = json.loads(describe(trained, data / "cache").stdout)
    finally:
        path.write_bytes(before)
    assert found["damaged"].startswith(f"{path} is not what was prepared")


def test_without_data_nothing_is_described(trained: Path, tmp_path: Path) -> None:
    done = describe(trained, tmp_path / "nothing")
    assert done.returncode == 1
    assert "run: python prepare.py" in done.stderr


class TestModelFile:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        train = types.ModuleType("train")
        train.build_model = lambda weights, device: weights["a"]  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "train", train)

    def refused(self) -> str:
        with pytest.raises(exchange.RefusedError) as found:
            exchange.load_model()
        return str(found.value)

    def test_weights_are_loaded(self) -> None:
        torch.save({"a": torch.ones(2)}, "model.pt")
        model, device = exchange.load_model()
        assert str(model) == "tensor([1., 1.])"
        assert device.type in {"cpu", "cuda", "mps"}

    def test_no_file_is_refused(self) -> None:
        assert self.refused() == "The training has left no model.pt."

    def test_a_program_in_the_file_does_not_run(self, tmp_path: Path) -> None:
        class Bomb:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return os.mkdir, (str(tmp_path / "exploded"),)

        for save in (torch.save, lambda value, path: Path(path).write_bytes(pickle.dumps(value))):
            save({"a": Bomb()}, "model.pt")
            assert "other things than weights" in self.refused()
        assert not (tmp_path / "exploded").exists()

    @pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder", "device"])
    def test_what_is_no_file_is_refused(self, kind: str) -> None:
        path = Path("model.pt")
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            torch.save({"a": torch.ones(2)}, "other.pt")
            path.symlink_to({"link": "other.pt", "dangling": "nowhere", "device": "/dev/zero"}[kind])
        assert self.refused() == "model.pt is no ordinary file."

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"half" * 1000])
    def test_half_a_file_is_refused(self, content: bytes) -> None:
        Path("model.pt").write_bytes(content)
        assert "is not whole" in self.refused()

    def test_a_huge_file_is_refused(self) -> None:
        Path("model.pt").touch()
        os.truncate("model.pt", exchange.MODEL_BYTES + 1)
        assert "more than 32" in self.refused()
