"""The rows, the batches and the score, on tokens written here."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.training.conftest import HarnessError
from training import prepare
from training.prepare import Corpus, Rows, batches, evaluate_bpb

CPU = torch.device("cpu")
LENGTH, VOCABULARY = 8, 50
BOS = VOCABULARY - 1

Tokens = npt.NDArray[np.uint16]
Write = Callable[..., Corpus]


def stream(length: int, seed: int = 0) -> Tokens:
    """Tokens of documents, each after a BOS."""
    tokens = np.random.default_rng(seed).integers(0, VOCABULARY, length).astype(np.uint16)
    tokens[0] = BOS
    return tokens


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """A corpus of these token shards, with rows of `LENGTH` tokens."""
    monkeypatch.setattr(prepare, "MAX_SEQ_LEN", LENGTH)
    monkeypatch.setattr(prepare, "EVAL_TOKENS", 10**6)

    def make(split: str, *shards: Tokens) -> Corpus:
        corpus = Corpus("python", 1, VOCABULARY, tmp_path)
        corpus.tokens.mkdir(parents=True, exist_ok=True)
        corpus.tokenizer.mkdir(parents=True, exist_ok=True)
        for number, shard in enumerate(shards):
            np.save(corpus.tokens / f"{split}_{number:05d}.npy", shard)
        token_bytes = np.arange(VOCABULARY, dtype=np.int64) % 5 + 1
        token_bytes[BOS] = 0
        np.save(corpus.tokenizer / "token_bytes.npy", token_bytes)
        return corpus

    return make


def epoch(corpus: Corpus, rows: int, which: int = 0) -> list[tuple[list[int], list[int]]]:
    """Rows of inputs and targets of one epoch; the size of a batch must divide it."""
    found = []
    source = batches(corpus, "train", rows=rows, device=CPU)
    for inputs, targets, number in itertools.takewhile(lambda batch: batch[2] <= which, source):
        if number == which:
            found += list(zip(inputs.tolist(), targets.tolist(), strict=True))
    return found


class TestBatches:
    def test_every_token_is_a_target_once_per_epoch(self, write: Write) -> None:
        shards = [stream(12 * LENGTH, 0), stream(8 * LENGTH, 1)]
        rows = epoch(write("train", *shards), rows=4)
        expected = np.concatenate(shards).reshape(-1, LENGTH).tolist()
        assert sorted(targets for _, targets in rows) == sorted(expected)

    def test_only_the_tokens_that_fill_no_row_are_left_out(self, write: Write) -> None:
        tokens = stream(10 * LENGTH + 3)
        rows = epoch(write("train", tokens), rows=5)
        assert sorted(targets for _, targets in rows) == sorted(tokens[:-3].reshape(-1, LENGTH).tolist())

    def test_a_second_pass_is_identical_and_so_is_a_second_loader(self, write: Write) -> None:
        corpus = write("train", stream(20 * LENGTH))
        first = epoch(corpus, rows=4)
        assert epoch(corpus, rows=4, which=1) == first
        assert epoch(corpus, rows=4) == first

    def test_rows_are_shuffled(self, write: Write) -> None:
        tokens = stream(20 * LENGTH)
        rows = epoch(write("train", tokens), rows=4)
        assert [targets for _, targets in rows] != tokens.reshape(-1, LENGTH).tolist()

    def test_inputs_are_a_bos_and_the_targets_one_later(self, write: Write) -> None:
        for inputs, targets in epoch(write("train", stream(20 * LENGTH)), rows=4):
            assert inputs == [BOS, *targets[:-1]]

    def test_batches_go_on_into_the_next_epoch(self, write: Write) -> None:
        source = batches(write("train", stream(3 * LENGTH)), "train", rows=2, device=CPU)
        found = list(itertools.islice(source, 6))
        rows = [row for _, targets, _ in found for row in targets.tolist()]
        assert rows == rows[:3] * 4
        assert [number for _, _, number in found] == [0, 0, 1, 2, 2, 3]

    def test_a_batch_may_be_larger_than_the_split(self, write: Write) -> None:
        inputs, _, _ = next(batches(write("train", stream(3 * LENGTH)), "train", rows=7, device=CPU))
        assert inputs.shape == (7, LENGTH)

    def test_tokens_are_whole_numbers_ready_for_an_embedding(self, write: Write) -> None:
        inputs, targets, _ = next(batches(write("train", stream(9 * LENGTH)), "train", rows=2, device=CPU))
        assert inputs.dtype == targets.dtype == torch.int64
        assert inputs.is_contiguous()
        assert targets.is_contiguous()

    def test_rows_of_any_shard_are_found(self, write: Write) -> None:
        shards = [stream(LENGTH * size + 1, size) for size in (1, 4, 2)]
        rows = Rows(write("train", *shards), "train", LENGTH)
        assert len(rows) == 7
        expected = [row for shard in shards for row in shard[:-1].reshape(-1, LENGTH).tolist()]
        assert rows.take(np.arange(7))[1].tolist() == expected


class TestScore:
    def test_a_uniform_model_has_the_closed_form(self, write: Write) -> None:
        tokens = stream(40 * LENGTH)
        corpus = write("val", tokens)
        real = tokens[tokens != BOS].astype(int)
        expected = len(real) * math.log2(VOCABULARY) / (real % 5 + 1).sum()

        def uniform(inputs: torch.Tensor) -> torch.Tensor:
            return torch.zeros(*inputs.shape, VOCABULARY)

        assert evaluate_bpb(uniform, corpus, rows=8, device=CPU) == pytest.approx(expected, rel=1e-6)

    def test_any_model_has_the_sum_that_numpy_finds(self, write: Write) -> None:
        tokens = stream(21 * LENGTH)
        table = torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(0))
        rows = tokens.reshape(-1, LENGTH).astype(int)
        inputs = np.concatenate([np.full((21, 1), BOS), rows[:, :-1]], axis=1)
        logits = table.double().numpy()[inputs]
        losses = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, rows[..., None], -1)[..., 0]
        expected = losses[rows != BOS].sum() / math.log(2) / (rows[rows != BOS] % 5 + 1).sum()
        corpus = write("val", tokens)
        for size in (1, 4, 21, 32):  # the last batch is not full, or is the only one
            found = evaluate_bpb(lambda tokens: table[tokens], corpus, rows=size, device=CPU)
            assert found == pytest.approx(expected, rel=1e-6)

    def test_special_tokens_cost_nothing_however_badly_they_are_foretold(self, write: Write) -> None:
        def blind(inputs: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(*inputs.shape, VOCABULARY)
            logits[..., BOS] = -math.inf
            return logits

        found = evaluate_bpb(blind, write("val", stream(40 * LENGTH)), rows=8, device=CPU)
        assert 0 < found < math.inf

    def test_few_rows_are_spread_over_the_split(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        tokens = np.repeat(np.arange(40, dtype=np.uint16), LENGTH)
        corpus = write("val", tokens)
        monkeypatch.setattr(prepare, "EVAL_TOKENS", 4 * LENGTH)
        seen: list[int] = []

        def uniform(inputs: torch.Tensor) -> torch.Tensor:
            seen.extend(inputs[:, 1].tolist())
            return torch.zeros(*inputs.shape, VOCABULARY)

        evaluate_bpb(uniform, corpus, rows=2, device=CPU)
        assert seen == [0, 10, 20, 30]

    def test_logits_in_half_precision_are_summed_in_full(self, write: Write) -> None:
        corpus = write("val", stream(400 * LENGTH))
        table = torch.randn(VOCABULARY, VOCABULARY).bfloat16()
        half = evaluate_bpb(lambda tokens: table[tokens], corpus, rows=8, device=CPU)
        full = evaluate_bpb(lambda tokens: table.float()[tokens], corpus, rows=8, device=CPU)
        assert half == full

    def test_a_loss_that_is_no_number_is_refused(self, write: Write) -> None:
        corpus = write("val", stream(9 * LENGTH))
        with pytest.raises(HarnessError, match="not a number"):
            evaluate_bpb(
                lambda tokens: torch.full((*tokens.shape, VOCABULARY), math.nan), corpus, rows=4, device=CPU
            )

    def test_logits_of_another_shape_are_refused(self, write: Write) -> None:
        corpus = write("val", stream(9 * LENGTH))
        with pytest.raises(HarnessError, match="wrong shape"):
            evaluate_bpb(lambda tokens: torch.zeros(*tokens.shape, 7), corpus, rows=4, device=CPU)

    def test_no_storage_of_the_inputs_holds_the_targets(self, write: Write) -> None:
        held: list[int] = []

        def model(tokens: torch.Tensor) -> torch.Tensor:
            held.append(tokens.untyped_storage().nbytes() // tokens.element_size() - tokens.numel())
            return torch.zeros(*tokens.shape, VOCABULARY)

        evaluate_bpb(model, write("val", stream(9 * LENGTH)), rows=4, device=CPU)
        assert held == [0, 0, 0]

    def test_no_gradient_is_kept(self, write: Write) -> None:
        table = torch.zeros(VOCABULARY, VOCABULARY, requires_grad=True)
        kept: list[bool] = []

        def model(tokens: torch.Tensor) -> torch.Tensor:
            kept.append((table * 1).requires_grad)
            return table[tokens]

        evaluate_bpb(model, write("val", stream(9 * LENGTH)), rows=4, device=CPU)
        assert not any(kept)


def test_no_training_reads_the_audit_split(write: Write) -> None:
    corpus = write("train", stream(9 * LENGTH))
    write("val", stream(9 * LENGTH))
    audit = corpus.tokens / "audit_00000.npy"
    audit.write_bytes(b"no numbers")
    next(batches(corpus, "train", rows=2, device=CPU))
    evaluate_bpb(lambda tokens: torch.zeros(*tokens.shape, VOCABULARY), corpus, rows=4, device=CPU)
    assert "audit" not in Path(prepare.__file__).with_name("train.py").read_text(encoding="utf-8")
