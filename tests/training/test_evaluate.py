"""The scorer against models of every kind: honest ones, and those that cheat. Models run in a thread here."""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from training import evaluate, train

exchange = importlib.import_module("exchange")  # the modules as evaluate.py itself imports them
prepare = importlib.import_module("prepare")
sources = importlib.import_module("sources")

CPU = torch.device("cpu")
LENGTH, VOCABULARY = 32, 50
BOS = VOCABULARY - 1
ROWS = {"train": 900, "val": 240, "audit": 60}

Model = Callable[[Tensor], Tensor]
Serve = Callable[[Any, int], None]


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
    monkeypatch.setattr(evaluate, "BATCH_TOKENS", (8 * LENGTH, 8 * LENGTH))
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


def rows_of(corpus: Any, split: str) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = prepare.Rows(corpus, split, LENGTH).take(np.arange(ROWS[split]))
    return found


class Run:
    """Scores models of one corpus; `found` is what the last one got."""

    def __init__(self, corpus: Any, folder: Path) -> None:
        self.corpus, self.folder = corpus, folder
        self.head: Path | None = None

    def model(self, model: Callable[[Tensor], Any], *, seed: int = 1, out: str = "losses") -> dict[str, Any]:
        def serve(channel: Any, memory: int) -> None:
            try:
                exchange.serve(model, CPU, channel, memory)
            except exchange.RefusedError as error:
                channel.send({"refused": str(error)})

        return self.process(serve, seed=seed, out=out)

    def process(
        self, serve: Serve, *, seed: int = 1, out: str = "losses", seconds: float = 60
    ) -> dict[str, Any]:
        memory = os.memfd_create("exchange")
        to_model, to_scorer = os.pipe(), os.pipe()

        def other_side() -> None:
            try:
                serve(exchange.Channel(to_model[0], to_scorer[1]), memory)
            except (exchange.RefusedError, OSError):
                pass  # the scorer has gone
            finally:
                os.close(to_scorer[1])

        thread = threading.Thread(target=other_side)
        thread.start()
        try:
            channel = exchange.Channel(to_scorer[0], to_model[1], time.monotonic() + seconds)
            found: dict[str, Any] = evaluate.score(
                self.corpus, channel, memory, seed=seed, out=self.folder / out, head=self.head
            )
        finally:
            os.close(to_model[1])
            os.close(to_scorer[0])
            thread.join()
            os.close(to_model[0])
            os.close(memory)
        json.dumps(found, allow_nan=False)
        return found


@pytest.fixture
def run(corpus: Any, tmp_path: Path) -> Run:
    return Run(corpus, tmp_path)


# ---------------------------------------------------------------------------------------------------------
# Models


def bigrams(*texts: npt.NDArray[np.int64]) -> Tensor:
    """What follows each token how often, as logits."""
    counts = np.full((VOCABULARY, VOCABULARY), 0.05)
    for inputs, targets in texts:
        np.add.at(counts, (inputs.ravel(), targets.ravel()), 1)
    return torch.from_numpy(np.log(counts)).float()


def trigrams(*texts: npt.NDArray[np.int64], prior: float = 0.05) -> Tensor:
    """The same of each two tokens."""
    counts = np.full((VOCABULARY, VOCABULARY, VOCABULARY), prior)
    for inputs, targets in texts:
        before = np.pad(inputs[:, :-1], ((0, 0), (1, 0)))
        np.add.at(counts, (before.ravel(), inputs.ravel(), targets.ravel()), 1)
    return torch.from_numpy(np.log(counts)).float()


def by_two(table: Tensor) -> Model:
    return lambda tokens: table[functional.pad(tokens[:, :-1], (1, 0)), tokens]


def next_tokens(tokens: Tensor) -> Tensor:
    """Logits that are certain of the tokens that follow in the row."""
    sure = 12.0 * functional.one_hot(tokens[:, 1:], VOCABULARY).float()
    return functional.pad(sure, (0, 0, 0, 1))


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


# ---------------------------------------------------------------------------------------------------------
# Numbers


class TestNumbers:
    def test_they_are_those_of_evaluate_bpb(self, run: Run, honest: Model, corpus: Any) -> None:
        found = run.model(honest)
        assert found["refused"] == found["prefix"] == ""
        expected = prepare.evaluate_bpb(honest, corpus, rows=16, device=CPU)
        assert found["val_bpb"] == pytest.approx(expected, rel=1e-6)
        assert 0 < found["val_bpb_se"] < 0.1
        assert found["audit_bpb"] == pytest.approx(found["val_bpb"], abs=0.1)
        assert found["gain_val"] is found["gain_audit"] is None

    def test_they_do_not_depend_on_the_order(self, run: Run, honest: Model) -> None:
        one, other = (run.model(honest, seed=seed) for seed in (1, 2))
        assert one["val_bpb"] == pytest.approx(other["val_bpb"], rel=1e-9)
        assert one["audit_bpb"] == pytest.approx(other["audit_bpb"], rel=1e-9)

    def test_a_gain_is_found_position_by_position(self, run: Run, honest: Model, corpus: Any) -> None:
        first = run.model(honest, out="head")
        run.head = run.folder / "head"
        found = run.model(by_two(trigrams(rows_of(corpus, "train"))))
        assert found["prefix"] == ""
        assert found["gain_val"] == pytest.approx(first["val_bpb"] - found["val_bpb"])
        assert found["gain_audit"] == pytest.approx(first["audit_bpb"] - found["audit_bpb"])
        assert found["gain_val_se"] < first["val_bpb_se"]
        assert found["gain_audit"] > 3 * found["gain_audit_se"]

    def test_the_standard_error_is_that_of_other_text_of_the_kind(self) -> None:
        random = np.random.default_rng(0)
        sizes = np.full((400, 9), 2)
        shared = random.normal(1, 0.3, (200, 400, 1))  # positions of a row are alike
        found = [evaluate.bits(rows + np.zeros((400, 9)), sizes) for rows in shared]
        ratios, errors = np.array(found).T
        assert errors.mean() == pytest.approx(ratios.std(), rel=0.15)

    def test_float16_across_is_exact_enough(
        self, run: Run, honest: Model, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        full = run.model(lambda tokens: honest(tokens) + 3e4)  # far from 0, as some models have it
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, 0))
        half = run.model(lambda tokens: honest(tokens).bfloat16() + 0)
        exact = run.model(honest)
        assert exact["val_bpb"] == pytest.approx(full["val_bpb"], abs=1e-3)
        assert half["val_bpb"] == pytest.approx(exact["val_bpb"], abs=3e-3)
        monkeypatch.undo()

    def test_without_an_audit_text_there_is_no_number_of_it(
        self, run: Run, honest: Model, corpus: Any
    ) -> None:
        path = corpus.tokens / "manifest.json"
        path.write_text(path.read_text().replace(f'"audit": {60 * LENGTH}', '"audit": 0'))
        (corpus.tokens / "audit_00000.npy").unlink()
        found = run.model(honest)
        run.head = run.folder / "losses"
        again = run.model(honest, out="again")
        assert found["refused"] == again["prefix"] == ""
        assert again["gain_val"] == 0
        assert found["audit_bpb"] is again["gain_audit"] is None

    @pytest.mark.parametrize("harm", ["missing", "not losses", "of another text"])
    def test_a_head_that_cannot_be_compared_gives_no_gain(
        self, harm: str, run: Run, honest: Model, corpus: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run.head = run.folder / "head"
        if harm == "not losses":
            run.head.write_bytes(b"PK or something else")
        elif harm == "of another text":
            run.model(honest, out="head")
            run.head = run.folder / "head"
            tokens = np.load(corpus.tokens / "val_00000.npy")
            tokens[7] += 1
            np.save(corpus.tokens / "val_00000.npy", tokens)
        assert run.model(honest)["gain_val"] is None
        assert "no gain is known" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------
# Honest models that look odd


def small_gpt(**changes: Any) -> nn.Module:
    torch.manual_seed(0)
    config = train.Config(VOCABULARY, LENGTH, 32, 2, (8, LENGTH), 64, torch.float32)
    model = train.GPT(replace(config, **changes), CPU)
    with torch.no_grad():
        for parameter in model.parameters():  # as after a training: everything acts
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.unembedding.weight.mul_(8)
    return model


def then(model: Model, change: Callable[[Tensor], Tensor]) -> Model:
    return lambda tokens: change(model(tokens))


def never_bos(logits: Tensor) -> Tensor:
    return functional.pad(logits[..., :-1], (0, 1), value=-math.inf)


def one_by_one(model: Model) -> Model:
    """A model that computes the first row alone, then the others."""
    return lambda tokens: torch.cat([model(tokens[:1]), model(tokens[1:])])


class Tied(nn.Module):
    """Tied embeddings, dropout that is off, rotary positions stretched by the length (dynamic NTK)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(VOCABULARY, 16)
        self.attention = nn.MultiheadAttention(16, 2, dropout=0.5, batch_first=True)
        self.dropout = nn.Dropout(0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        time = tokens.shape[1]
        base = 10_000 * (2 * time / 16 - 1)
        angles = torch.outer(torch.arange(time), base ** (-torch.arange(16) / 16))
        x = self.dropout(self.embedding(tokens) + angles.sin())
        mask = nn.Transformer.generate_square_subsequent_mask(time)
        mixed, _ = self.attention(x, x, x, attn_mask=mask, need_weights=False)
        logits: Tensor = functional.linear(x + mixed, self.embedding.weight)
        return logits


HONEST: dict[str, Callable[[], Model]] = {
    "the template's": small_gpt,
    "the template's, in bfloat16": lambda: small_gpt(dtype=torch.bfloat16),
    "other sizes of batches": lambda: one_by_one(small_gpt(dtype=torch.bfloat16)),
    "tied embeddings, dynamic NTK, dropout off": lambda: Tied().eval(),
    "logits in bfloat16": lambda: then(small_gpt(), torch.Tensor.bfloat16),
    "a token that is impossible": lambda: then(small_gpt(), never_bos),
    "logits that are not contiguous": lambda: then(small_gpt(), lambda x: x.mT.contiguous().mT),
}


@pytest.mark.parametrize("kind", HONEST)
def test_an_honest_model_is_scored_as_it_scores_itself(kind: str, run: Run, corpus: Any) -> None:
    model = HONEST[kind]()
    found = run.model(model)
    assert found["refused"] == found["prefix"] == ""
    with torch.no_grad():
        expected = prepare.evaluate_bpb(model, corpus, rows=16, device=CPU)
    assert found["val_bpb"] == pytest.approx(expected, abs=1e-4)


def test_the_tolerance_is_far_above_the_rounding_of_bfloat16(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "SAME_ANSWER", evaluate.SAME_ANSWER / 10)
    assert run.model(one_by_one(small_gpt(dtype=torch.bfloat16)))["prefix"] == ""


# ---------------------------------------------------------------------------------------------------------
# Cheats


class Remembering:
    """Answers each beginning of a row as it did the first time, so that two answers never differ."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.known: dict[tuple[int, ...], Tensor] = {}

    def __call__(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.model(tokens)
        for row, found in zip(tokens.tolist(), logits, strict=True):
            for place in range(len(row)):
                found[place] = self.known.setdefault(tuple(row[: place + 1]), found[place].clone())
        return logits


class Learning:
    """Counts the text that it is asked about, after it has answered."""

    def __init__(self, table: Tensor) -> None:
        self.counts = table.exp()

    def __call__(self, tokens: Tensor) -> Tensor:
        before = functional.pad(tokens[:, :-1], (1, 0))
        logits = self.counts[before, tokens].log()
        places = before[:, :-1].flatten(), tokens[:, :-1].flatten(), tokens[:, 1:].flatten()
        self.counts.index_put_(places, torch.tensor(3.0), accumulate=True)
        return logits


def cheats(corpus: Any) -> dict[str, Model]:
    table = bigrams(rows_of(corpus, "train"))
    more = trigrams(rows_of(corpus, "train"))

    def sometimes(tokens: Tensor) -> Tensor:  # where the token before says so
        peeks = (tokens % 3 == 0).unsqueeze(-1)
        return torch.where(peeks, next_tokens(tokens), table[tokens])

    def words_of_the_row(tokens: Tensor) -> Tensor:
        there = functional.one_hot(tokens, VOCABULARY).sum(1, keepdim=True) > 0
        return table[tokens] + 1.0 * there

    def words_of_the_batch(tokens: Tensor) -> Tensor:
        frequent = functional.one_hot(tokens, VOCABULARY).float().mean((0, 1))
        return table[tokens] + (frequent + 1e-3).log()

    def batch_norm(tokens: Tensor) -> Tensor:
        logits = table[tokens]
        return (logits - logits.mean((0, 1))) / (logits.std((0, 1)) + 0.1) * 2

    def other_rows(tokens: Tensor) -> Tensor:  # the text that follows may stand in another row
        follows = functional.one_hot(tokens.roll(-1, 0)[:, 1:2], VOCABULARY)
        return table[tokens] + 2.0 * follows

    def two_ahead(tokens: Tensor) -> Tensor:
        ahead = functional.pad(tokens[:, 2:], (0, 2))
        return table[tokens] + table.T[ahead]

    return {
        "the next token": next_tokens,
        "the next token, at times": sometimes,
        "the next token, remembered": Remembering(next_tokens),
        "the next token, at times, remembered": Remembering(sometimes),
        "the token after the next": two_ahead,
        "the words of the row": words_of_the_row,
        "the words of the batch": words_of_the_batch,
        "statistics of the batch": batch_norm,
        "other rows": other_rows,
        "learns while it is tested": Learning(more),
        "n-grams filled while it is tested": Learning(torch.full((VOCABULARY,) * 3, -4.0)),
        "n-grams filled while it is tested, remembered": Remembering(
            Learning(torch.full((VOCABULARY,) * 3, -4.0))
        ),
    }


CHEATS = (
    "the next token", "the next token, at times", "the next token, remembered",
    "the next token, at times, remembered", "the token after the next", "the words of the row",
    "the words of the batch", "statistics of the batch", "other rows", "learns while it is tested",
    "n-grams filled while it is tested", "n-grams filled while it is tested, remembered",
)  # fmt: skip


@pytest.mark.parametrize("compared", [False, True], ids=["alone", "with the head"])
@pytest.mark.parametrize("kind", CHEATS)
def test_a_cheat_is_found(kind: str, compared: bool, run: Run, corpus: Any, honest: Model) -> None:
    if compared:
        run.model(honest, out="head", seed=5)
        run.head = run.folder / "head"
    found = run.model(cheats(corpus)[kind])
    assert found["refused"] == ""
    assert found["prefix"].startswith("Answers depend on ")


@pytest.mark.parametrize("seed", range(10))
def test_an_honest_model_is_never_suspected(
    seed: int, run: Run, head: dict[str, Any], corpus: Any, honest: Model
) -> None:
    better = by_two(trigrams(rows_of(corpus, "train")))
    assert run.model(better, seed=seed)["prefix"] == ""
    assert run.model(honest, seed=seed)["prefix"] == ""
    run.head = None
    assert run.model(better, seed=seed)["prefix"] == ""


def test_who_learnt_the_validation_text_has_no_gain_on_the_audit(
    run: Run, head: dict[str, Any], corpus: Any
) -> None:
    table = 0.5 * trigrams(rows_of(corpus, "val"), prior=0.2)
    alike = bigrams(rows_of(corpus, "train"))
    found = run.model(lambda tokens: by_two(table)(tokens) + 0.5 * alike[tokens])
    assert found["prefix"] == ""
    assert found["gain_val"] > 5 * found["gain_val_se"]
    assert found["gain_audit"] < found["gain_val"] - 5 * found["gain_audit_se"]


# ---------------------------------------------------------------------------------------------------------
# Answers that are none


SHAPES: dict[str, Callable[[Tensor], Any]] = {
    "another vocabulary": lambda tokens: torch.zeros(*tokens.shape, 7),
    "fewer positions": lambda tokens: torch.zeros(tokens.shape[0], 3, VOCABULARY),
    "one row": lambda tokens: torch.zeros(1, LENGTH, VOCABULARY),
    "flat": lambda tokens: torch.zeros(tokens.numel(), VOCABULARY),
    "whole numbers": lambda tokens: torch.zeros(*tokens.shape, VOCABULARY, dtype=torch.int64),
    "complex numbers": lambda tokens: torch.zeros(*tokens.shape, VOCABULARY, dtype=torch.complex64),
    "no tensor": lambda tokens: [[0.0]],
    "nothing": lambda tokens: None,
}


@pytest.mark.parametrize("kind", SHAPES)
def test_logits_of_another_shape_are_refused(kind: str, run: Run) -> None:
    found = run.model(SHAPES[kind])
    assert found["refused"].startswith("The model's logits must be floats of the shape (8, 32, 50)")
    assert found["val_bpb"] is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["everywhere", "at one position", "on one token"])
def test_what_is_no_number_is_refused(value: float, where: str, run: Run, honest: Model) -> None:
    def model(tokens: Tensor) -> Tensor:
        logits = honest(tokens).clone()
        if where == "on one token":
            logits[..., 3] = value
        elif where == "at one position":
            logits[0, 5] = value
        else:
            logits[:] = value
        return logits

    found = run.model(model)
    assert found["refused"].startswith("The loss is no finite number at ")
    assert not (run.folder / "losses").exists()


def test_huge_logits_are_only_a_bad_model(run: Run, head: dict[str, Any], honest: Model) -> None:
    found = run.model(lambda tokens: honest(tokens) * 1e20)
    assert found["val_bpb"] > head["val_bpb"]


# ---------------------------------------------------------------------------------------------------------
# A process that means harm


def raw(channel: Any, *parts: bytes) -> None:
    for part in parts:
        os.set_blocking(channel.writing, True)
        os.write(channel.writing, part)


def framed(text: bytes) -> bytes:
    return len(text).to_bytes(4, "big") + text


def flood(channel: Any, memory: int) -> None:
    while True:
        raw(channel, b"x" * 65536)


def flood_of_answers(channel: Any, memory: int) -> None:
    exchange.Channel.send(channel, {"ready": True})
    channel.receive()
    while True:
        raw(channel, framed(b'{"slot": 0}'))


def hang(channel: Any, memory: int) -> None:
    channel.read(10**9)  # nothing comes that long


def hang_half_way(channel: Any, memory: int) -> None:
    channel.send({"ready": True})
    raw(channel, b"\0\0")
    hang(channel, memory)


def cut_the_file(channel: Any, memory: int) -> None:
    channel.send({"ready": True})
    channel.receive()
    os.ftruncate(memory, 100)
    channel.send({"slot": channel.receive()["slot"]})
    hang(channel, memory)


HARM: dict[str, tuple[Serve, str]] = {
    "noise": (lambda channel, memory: raw(channel, b"\xff" * 100), "no message"),
    "not JSON": (lambda channel, memory: raw(channel, framed(b"{")), "no message"),
    "not UTF-8": (lambda channel, memory: raw(channel, framed(b"\xff\xfe")), "no message"),
    "no object": (lambda channel, memory: raw(channel, framed(b"[1]")), "no message"),
    "very deep": (lambda channel, memory: raw(channel, framed(b"[" * 4000)), "no message"),
    "a huge number": (
        lambda channel, memory: raw(channel, framed(b'{"slot": 1%b}' % (b"0" * 4000))),
        "not asked",
    ),
    "another slot": (lambda channel, memory: channel.send({"slot": 1}), "not asked"),
    "more than was asked": (lambda channel, memory: channel.send({"ready": True, "a": 1}), "not asked"),
    "a flood": (flood, "no message"),
    "a flood of answers": (flood_of_answers, "not asked"),
    "silence": (hang, "in time"),
    "half a message": (hang_half_way, "no message|in time"),
    "an early end": (lambda channel, memory: None, "ended"),
    "an end half-way": (lambda channel, memory: channel.send({"ready": True}), "ended"),
    "a file that shrinks": (cut_the_file, "short|in time"),
    "its own words": (
        lambda channel, memory: channel.send({"refused": "no\x1b[2Jway" + 500 * "!"}),
        r"no\[2Jway!+$",
    ),
    "no words": (lambda channel, memory: channel.send({"refused": "\n"}), "gave up"),
}


@pytest.mark.parametrize("kind", HARM)
def test_harm_is_a_refusal_in_good_time(kind: str, run: Run) -> None:
    serve, sentence = HARM[kind]
    found = run.process(serve, seconds=2)
    assert len(found["refused"]) <= 300
    assert re.search(sentence, found["refused"])


def test_what_is_written_after_an_answer_changes_nothing(
    run: Run, honest: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run.model(honest)
    copy = evaluate.Scorer.copy

    def copy_then_lose(self: Any, memory: int, slot: int, pool: Any) -> None:
        copy(self, memory, slot, pool)
        size = self.shape.slot_bytes
        os.pwrite(memory, b"\xff" * (size - 8 * self.shape.tokens), slot * size + 8 * self.shape.tokens)

    monkeypatch.setattr(evaluate.Scorer, "copy", copy_then_lose)
    assert run.model(honest) == expected


def test_the_model_gets_the_tokens_it_is_asked_with_and_no_target(
    run: Run, honest: Model, corpus: Any
) -> None:
    seen: list[int] = []

    def model(tokens: Tensor) -> Tensor:
        seen.append(tokens.untyped_storage().nbytes() // 8 - tokens.numel())
        return honest(tokens)

    run.model(model)
    assert set(seen) == {0}


# ---------------------------------------------------------------------------------------------------------
# What no training may see


class TestHidden:
    def of(self, source: str, root: Path, *there: str) -> set[str]:
        for name in there:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        paths = list(evaluate.hidden(prepare.Corpus(source, 1, VOCABULARY, root)))
        assert all(path.exists() for path in paths)
        return {str(path.relative_to(root) if path.is_relative_to(root) else path) for path in paths}

    def test_the_audit_of_every_corpus_in_the_cache_is_hidden(self, tmp_path: Path) -> None:
        audits = {
            "data/climbmix-10-v8192/audit_00000.npy",
            "data/climbmix-10-v8192/audit_00001.npy",
            "data/path-novel-12345678/audit_00000.parquet",
            "data/.new-python-3.11.7-2/audit_00000.parquet",
            "data/climbmix/shard_06541.parquet",
            "data/climbmix/shard_06541.parquet.part",
        }
        others = ("data/climbmix-10-v8192/val_00000.npy", "data/climbmix/shard_06542.parquet")
        assert self.of("climbmix", tmp_path, *audits, *others) == audits

    def test_folders_of_the_standard_library_are_hidden_when_it_is_the_text(self, tmp_path: Path) -> None:
        folders = {Path(path).name for path in self.of("python", tmp_path)}
        assert folders <= {"idlelib", "turtledemo", "test"}
        assert folders == {path.name for path in sources.python_audit_folders()}

    def test_a_parquet_file_that_is_the_audit_is_hidden(self, tmp_path: Path) -> None:
        names = ("own/1.parquet", "own/2.parquet", "own/3.parquet")
        assert self.of(str(tmp_path / "own"), tmp_path, *names) == {"own/2.parquet"}
        assert self.of(str(tmp_path / "own" / "1.parquet"), tmp_path) == set()
        assert self.of(str(tmp_path / "away"), tmp_path) == set()
