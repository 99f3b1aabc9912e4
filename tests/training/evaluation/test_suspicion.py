"""Which models are suspected: those that cheat, and no honest one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.training.evaluation.scored import (
    CPU,
    LENGTH,
    VOCABULARY,
    Head,
    Model,
    Run,
    asked,
    by_two,
    exchange,
    next_tokens,
    prepare,
    rows_of,
    trigrams,
)
from training import evaluate, train


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


SHAPE = exchange.Shape(2, LENGTH, VOCABULARY, half=False)

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
def test_an_honest_model_is_scored_as_it_scores_itself(
    kind: str, run: Run, corpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "EVAL_TOKENS", asked.ROWS * LENGTH)  # as few as on a CPU
    model = HONEST[kind]()
    found = run.model(model)
    assert found["refused"] == found["prefix"] == ""
    assert found["apart"] < evaluate.SAME_ANSWER / 10  # far above the rounding of bfloat16
    with torch.no_grad():
        expected = prepare.evaluate_bpb(model, corpus, rows=16, device=CPU)
    assert found["val_bpb"] == pytest.approx(expected, abs=1e-4)


class Remembering:
    """Answers each beginning of a row as it did the first time, so that two answers never differ."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.known: dict[tuple[int, ...], Tensor] = {}

    def __call__(self, tokens: Tensor) -> Tensor:
        answers = []
        for row, logits in zip(tokens.tolist(), self.model(tokens), strict=True):
            for place, found in enumerate(logits.unbind()):
                answers.append(self.known.setdefault(tuple(row[: place + 1]), found))
        return torch.stack(answers).view(*tokens.shape, -1)


class Learning:
    """Counts the text that it is asked about, after it has answered; `most` is how many batches of it."""

    def __init__(self, table: Tensor, counts: float = 3.0, most: int = 1_000) -> None:
        self.counts, self.each, self.left = table.exp(), counts, most

    def __call__(self, tokens: Tensor) -> Tensor:
        before = functional.pad(tokens[:, :-1], (1, 0))
        logits = self.counts[before, tokens].log()
        places = before[:, :-1].flatten(), tokens[:, :-1].flatten(), tokens[:, 1:].flatten()
        self.left -= 1
        self.counts.index_put_(places, torch.tensor(self.each * (self.left >= 0)), accumulate=True)
        return logits


def in_few_rows(tokens: Tensor) -> Tensor:
    begins = tokens[:, :2] @ torch.tensor([7, 1])
    return (begins % 60 == 7)[:, None].expand(tokens.shape)


def at_few_places(tokens: Tensor) -> Tensor:
    before = functional.pad(tokens[:, :-1], (1, 0))
    return (31 * tokens + before) % 499 == 5


def cheats(honest: Model, more: Tensor) -> dict[str, Model]:
    table = honest(torch.arange(VOCABULARY))

    def peeking(when: Callable[[Tensor], Tensor]) -> Model:
        return lambda tokens: torch.where(when(tokens).unsqueeze(-1), next_tokens(tokens), table[tokens])

    def hints(tokens: Tensor) -> Tensor:  # so seldom and so weak that only what follows by chance shows it
        peeks = (tokens % 5 == 0).unsqueeze(-1)
        follows = functional.one_hot(functional.pad(tokens[:, 1:], (0, 1)), VOCABULARY)
        return table[tokens] + 2.0 * peeks * follows

    def slight(tokens: Tensor) -> Tensor:
        follows = functional.one_hot(functional.pad(tokens[:, 1:], (0, 1)), VOCABULARY)
        return table[tokens] + 0.02 * follows

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
        "the next token, at times": peeking(lambda tokens: tokens % 3 == 0),
        "the next token, remembered": Remembering(next_tokens),
        "the next token, at times, remembered": Remembering(peeking(lambda tokens: tokens % 3 == 0)),
        "a hint of the next token, at times, remembered": Remembering(hints),
        "the token after the next": two_ahead,
        "the words of the row": words_of_the_row,
        "the words of the batch": words_of_the_batch,
        "statistics of the batch": batch_norm,
        "other rows": other_rows,
        "learns while it is tested": Learning(more),
        "learns very little while it is tested": Learning(more, 0.001),
        "learns very little while it is tested, remembered": Remembering(Learning(more, 0.001)),
        "learns from what it is asked first": Learning(more, 0.1, most=1),
        "a hint of a hint of the next token": slight,
        "the next token in few rows": peeking(in_few_rows),
        "the next token at few places": peeking(at_few_places),
        "n-grams filled while it is tested": Learning(torch.full((VOCABULARY,) * 3, -4.0)),
        "n-grams filled while it is tested, remembered": Remembering(
            Learning(torch.full((VOCABULARY,) * 3, -4.0))
        ),
    }


CHEATS = (
    "the next token", "the next token, at times", "the next token, remembered",
    "the next token, at times, remembered", "a hint of the next token, at times, remembered",
    "the token after the next", "the words of the row",
    "the words of the batch", "statistics of the batch", "other rows", "learns while it is tested",
    "learns very little while it is tested", "learns very little while it is tested, remembered",
    "learns from what it is asked first", "a hint of a hint of the next token",
    "the next token in few rows", "the next token at few places",
    "n-grams filled while it is tested", "n-grams filled while it is tested, remembered",
)  # fmt: skip


@pytest.mark.parametrize("compared", [False, True], ids=["alone", "with the head"])
@pytest.mark.parametrize("kind", CHEATS)
def test_a_cheat_is_found(
    kind: str, compared: bool, run: Run, of_head: Head, honest: Model, learnt: Tensor
) -> None:
    run.head = of_head.losses if compared else None
    found = run.model(cheats(honest, learnt)[kind])
    assert found["refused"] == ""
    assert found["prefix"].startswith("Answers depend on ")


@pytest.mark.parametrize("seed", range(10))
def test_an_honest_model_is_never_suspected(
    seed: int, run: Run, head: dict[str, Any], honest: Model, learnt: Tensor
) -> None:
    better = by_two(learnt)
    assert run.model(better, seed=seed)["prefix"] == ""
    assert run.model(honest, seed=seed)["prefix"] == ""
    run.head = None
    assert run.model(better, seed=seed)["prefix"] == ""


def asked_twice(change: Callable[[Any, Any], Any], seed: int, *, gpu: bool, rounding: float = 0.0) -> Any:
    """What two processes were asked, and losses, in which the first rounds and the second is changed."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, 100, (512, 1024))
    text = asked.Text(np.roll(targets, 1, 1), targets, np.ones(100, dtype=np.int64), 400, 1.0, "")
    losses = math.log(100) + random.exponential(0.3, targets.shape)
    first = losses + random.normal(0.0, rounding, losses.shape)
    questions = asked.Questions(text, seed, 128)
    drawn = len(questions.probed)
    questions.look_closer(5.0 - first)
    scorer = evaluate.Scorer(text, questions, replace(SHAPE, half=gpu), None)
    scorer.losses[:] = np.concatenate([first, change(losses[questions.probed], random)])
    scorer.apart = dict.fromkeys(range(drawn), 0.001)
    return scorer


@pytest.mark.parametrize("seed", range(20))
def test_what_other_kernels_round_otherwise_on_a_gpu_is_no_leak(seed: int) -> None:
    def rounded(losses: Any, random: Any) -> Any:  # more than was measured between compiled kernels and plain
        return losses + random.normal(0.0, 0.012, losses.shape)

    assert evaluate.leaks(asked_twice(rounded, seed, gpu=True, rounding=0.012)) == ""


@pytest.mark.parametrize("seed", range(5))
def test_a_mean_that_is_lower_where_more_was_asked_is_one(seed: int) -> None:
    def knows_less(losses: Any, random: Any) -> Any:
        return losses + random.normal(0.0006, 0.01, losses.shape)

    found = evaluate.leaks(asked_twice(knows_less, seed, gpu=True, rounding=0.01))
    assert found.startswith("Answers depend on rows asked before: without them the loss is 0.000")


@pytest.mark.parametrize(("by", "suspected"), [(0.0, False), (1e-6, False), (1e-4, True)])
def test_without_a_gpu_losses_are_the_same_but_for_rounding(by: float, suspected: bool) -> None:
    def otherwise(losses: Any, random: Any) -> Any:
        return losses + by * random.choice([-1, 1], losses.shape)

    assert bool(evaluate.leaks(asked_twice(otherwise, 1, gpu=False))) is suspected


def losses_by(
    given: Callable[[Any, Any], Any], seed: int, *, rows: int = 300, length: int = 256
) -> tuple[Any, Any, Any]:
    """Text of random tokens, what is asked of it, and the losses of a model with these probabilities."""
    random = np.random.default_rng(seed)
    share = 1 / np.arange(1, 301) / (1 / np.arange(1, 301)).sum()
    targets = random.choice(300, (rows, length), p=share)
    inputs = np.pad(targets[:, :-1], ((0, 0), (1, 0)))
    text = asked.Text(inputs, targets, np.ones(300, dtype=np.int64), rows * 4 // 5, 1.0, "")
    questions = asked.Questions(text, seed, 128)
    questions.look_closer(random.random(targets.shape))
    probabilities = given(share[questions.targets], random)
    return text, questions, -np.log(probabilities).astype(np.float32)


@pytest.mark.parametrize("seed", range(10))
def test_who_looks_ahead_seldom_and_remembers_is_found_by_what_follows_by_chance(seed: int) -> None:
    def seldom(share: Any, random: Any) -> Any:
        return np.where(random.random(share.shape) < 1 / 20, 0.7, share)

    assert evaluate.foresees(*losses_by(seldom, seed)) > 2


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("first", [7, 15])
def test_who_looks_ahead_at_each_sixteenth_token_of_short_rows_is_found(seed: int, first: int) -> None:
    def at_some_places(share: Any, random: Any) -> Any:
        return np.where(np.arange(share.shape[1]) % 16 == first, 0.4, share)

    assert evaluate.foresees(*losses_by(at_some_places, seed, rows=96, length=64)) > 2


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("sure", [0.0, 0.9])
def test_nobody_foresees_what_follows_by_chance(seed: int, sure: float) -> None:
    def honest(share: Any, random: Any) -> Any:  # it is sure of one token, which differs from place to place
        right = random.random(share.shape) < share
        return (1 - sure) * share + sure * np.where(right, 1.0, 1e-9)

    assert evaluate.foresees(*losses_by(honest, seed)) == 0


def test_who_learnt_the_validation_text_has_no_gain_on_the_audit(
    run: Run, head: dict[str, Any], corpus: Any, honest: Model
) -> None:
    table = 0.5 * trigrams(rows_of(corpus, "val"), prior=0.2)
    found = run.model(lambda tokens: by_two(table)(tokens) + 0.5 * honest(tokens))
    assert found["prefix"] == ""
    assert found["gain_val"] > 5 * found["gain_val_se"]
    assert found["gain_audit"] < found["gain_val"] - 5 * found["gain_audit_se"]
