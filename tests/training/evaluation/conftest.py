"""A small text, a run on it, an honest model and its scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.training.evaluation.scored import (
    BOS,
    LENGTH,
    ROWS,
    VOCABULARY,
    Model,
    Run,
    bigrams,
    prepare,
    rows_of,
)
from training import evaluate


@pytest.fixture(scope="module")
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


@pytest.fixture
def corpus(text: dict[str, npt.NDArray[np.uint16]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """That text, prepared."""
    monkeypatch.setattr(prepare, "MAX_SEQ_LEN", LENGTH)
    monkeypatch.setattr(prepare, "EVAL_TOKENS", 10**6)
    for name in ("ON_GPU", "ON_CPU"):
        monkeypatch.setattr(evaluate, name, replace(getattr(evaluate, name), batch=8 * LENGTH))
    corpus = prepare.Corpus("python", 1, VOCABULARY, tmp_path / "cache")
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


@pytest.fixture
def run(corpus: Any, tmp_path: Path) -> Run:
    return Run(corpus, tmp_path)


@pytest.fixture
def honest(corpus: Any) -> Model:
    table = bigrams(rows_of(corpus, "train"))
    return lambda tokens: table[tokens]


@pytest.fixture
def head(run: Run, honest: Model) -> dict[str, Any]:
    """An honest model that later ones are compared with."""
    found = run.model(honest, out="head", seed=5)
    run.head = run.folder / "head"
    return found
