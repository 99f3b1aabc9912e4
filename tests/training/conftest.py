"""The template's files import each other as they do in a repository of their own: from their folder."""

from __future__ import annotations

import importlib
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

import training
from tests.training.preloaded import TO_PREPARE, TO_TRAIN, preloaded, run_forked

TEMPLATE = Path(training.__file__).parent
sys.path.insert(0, str(TEMPLATE))
HarnessError = importlib.import_module(
    "sources"
).HarnessError  # the one that prepare, tokenizer and train raise

Copy = Callable[..., Path]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

WORDS = (
    "light",
    "river",
    "of",
    "the",
    "stone",
    "carries",
    "no",
    "name",
    "and",
    "a",
    "winter",
    "élan",
    "1789",
)


SMALL = {
    "MAX_SEQ_LEN": "64",
    "VOCAB_SIZE": "300",
    "EVAL_TOKENS": "2**10",
    "TIME_BUDGET": "1",
    "DEPTH": "2",
    "ASPECT_RATIO": "16",
    "HEAD_DIM": "16",
    "WINDOW_PATTERN": '"SL"',
    "SHORT_WINDOW": "16",
    "NGRAM_ROWS": "2**6",
    "TOTAL_BATCH_SIZE": "2**9",
    "DEVICE_BATCH_SIZE": "4",
}


def prose(sentences: int, seed: int = 0) -> str:
    """Text that is easy to learn, of many lines."""
    choose = random.Random(seed)
    return "".join(" ".join(choose.choices(WORDS, k=9)).capitalize() + ".\n" for _ in range(sentences))


def parquet(path: Path, values: Sequence[object], *, column: str = "text", kind: str = "string") -> Path:
    """Write a file of one column."""
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    pq.write_table(pa.table({column: pa.array(values, getattr(pa, kind)())}), path)
    return path


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the processes that scripts are forked off from, if there will be workers to share them."""
    here = Path(__file__).parent
    if session.config.option.workers > 1 and any(here in item.path.parents for item in session.items):
        preloaded(*TO_PREPARE)
        preloaded(*TO_TRAIN)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Few cores are shared by many tests."""
    if "torch" not in sys.modules:
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def copy_template(folder: Path, **constants: str) -> Path:
    """Copy the template to a folder, with other values for some constants."""
    folder.mkdir(exist_ok=True)
    for file in TEMPLATE.glob("*.py"):
        if file.name != "__init__.py":
            shutil.copy(file, folder)
    for name, value in constants.items():
        pattern = re.compile(rf"^{name} = .*?(?=  #|$)", re.MULTILINE)
        (file,) = (file for file in folder.glob("*.py") if pattern.search(file.read_text(encoding="utf-8")))
        file.write_text(pattern.sub(f"{name} = {value}", file.read_text(encoding="utf-8")), encoding="utf-8")
    return folder


def run_in(folder: Path, *command: str, cache: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of a copy."""
    own = environment_of(cache, **environment)
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=own, capture_output=True, text=True, check=False
    )


def environment_of(cache: Path, **environment: str) -> dict[str, str]:
    return os.environ | {"AUTORESEARCH_CACHE": str(cache), "OMP_NUM_THREADS": "1", **environment}


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """Copy the template to a folder of its own."""
    return partial(copy_template, tmp_path / "repository")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a script of a copy with a cache of its own."""

    def start(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = environment_of(tmp_path / "cache", **environment)
        return run_forked(command, cwd=folder, env=env, modules=TO_PREPARE)

    return start


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and, in its cache, what `prepare.py` made of it."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "text.txt").write_text(prose(3000), encoding="utf-8")
    repository = copy_template(folder / "repository", **small(folder))
    done = run_forked(
        ["prepare.py"], cwd=repository, env=environment_of(folder / "cache"), modules=TO_PREPARE
    )
    assert done.returncode == 0
    return folder


def small(data: Path) -> dict[str, str]:
    """Constants of a training on that text that takes seconds."""
    return {"SOURCE": repr(str(data / "text.txt"))} | SMALL
