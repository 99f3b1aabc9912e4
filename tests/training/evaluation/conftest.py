"""A small text, a run on it, an honest model and its scores."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from torch import Tensor

from tests.training.evaluation.scored import (
    BOS,
    LENGTH,
    ROWS,
    VOCABULARY,
    Head,
    Model,
    Run,
    bigrams,
    prepare,
    rows_of,
    trigrams,
)
from training import evaluate


@pytest.fixture(scope="session")
def text() -> dict[str, npt.NDArray[np.uint16]]:
    """Text in which the last two tokens tell much of the next one, in documents of 70 tokens."""
    random = np.random.default_rng(0)
    likely = random.integers(0, BOS, (VOCABULARY, VOCABULARY, 4)).tolist()
    found = {}
    for split, rows in ROWS.items():
        tokens = [BOS] * rows * LENGTH
        for place, choice in enumerate(random.integers(0, 4, len(tokens)).tolist()):
            if place % 70:
                tokens[place] = likely[tokens[place - 2]][tokens[place - 1]][choice]
        found[split] = np.array(tokens, dtype=np.uint16)
    return found


@pytest.fixture(scope="session")
def prepared(text: dict[str, npt.NDArray[np.uint16]], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """That text, prepared. No test changes it."""
    corpus = prepare.Corpus("python", 1, VOCABULARY, tmp_path_factory.mktemp("prepared") / "cache")
    corpus.tokens.mkdir(parents=True)
    corpus.tokenizer.mkdir(parents=True)
    for split, tokens in text.items():
        np.save(corpus.tokens / f"{split}_00000.npy", tokens)
    token_bytes = np.arange(VOCABULARY, dtype=np.int64) % 5 + 1
    token_bytes[BOS] = 0
    np.save(corpus.tokenizer / "token_bytes.npy", token_bytes)
    manifest = {"format": 1, "files": {"a": 1}, "tokens": {split: ROWS[split] * LENGTH for split in ROWS}}
    (corpus.tokens / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return corpus


@pytest.fixture(scope="session")
def honest(prepared: Any) -> Model:
    table = bigrams(rows_of(prepared, "train"))
    return lambda tokens: table[tokens]


@pytest.fixture(scope="session")
def learnt(prepared: Any) -> Tensor:
    """What a better honest model knows of the text."""
    return trigrams(rows_of(prepared, "train"))


@pytest.fixture(scope="session")
def of_head(prepared: Any, honest: Model, tmp_path_factory: pytest.TempPathFactory) -> Head:
    """An honest model that others are compared with."""
    run = Run(prepared, tmp_path_factory.mktemp("head"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_small(monkeypatch)
        return Head(run.model(honest, seed=5), run.folder / "losses")


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "MAX_SEQ_LEN", LENGTH)
    monkeypatch.setattr(prepare, "EVAL_TOKENS", 10**6)
    for name in ("ON_GPU", "ON_CPU"):
        monkeypatch.setattr(evaluate, name, replace(getattr(evaluate, name), batch=8 * LENGTH))


@pytest.fixture
def corpus(prepared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The prepared text, for a test to change."""
    make_small(monkeypatch)
    return replace(prepared, root=shutil.copytree(prepared.root, tmp_path / "cache"))


@pytest.fixture
def run(corpus: Any, tmp_path: Path) -> Run:
    return Run(corpus, tmp_path)


@pytest.fixture
def head(run: Run, of_head: Head) -> dict[str, Any]:
    """What was found of the head that later models of this run are compared with."""
    run.head = of_head.losses
    return of_head.found
