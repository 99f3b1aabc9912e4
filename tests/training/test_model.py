"""The model and the optimizers, small and in float32 on the CPU."""

from __future__ import annotations

import functools
import importlib
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.training.conftest import HarnessError
from training import train
from training.train import GPT, AdamW, Config, Muon, Optimizer, orthogonalize

CPU = torch.device("cpu")
HARNESS = importlib.import_module("prepare")  # the one that train.py has
VOCABULARY, CONTEXT = 96, 32


def build(
    *windows: int, width: int = 32, ngrams: int = 512, dtype: torch.dtype = torch.float32, seed: int = 0
) -> GPT:
    torch.manual_seed(seed)
    return GPT(Config(VOCABULARY, CONTEXT, width, 2, windows or (8, CONTEXT), ngrams, dtype), CPU)


def shaken(model: GPT) -> GPT:
    """The same with no weight left at 0, so that every part has a say."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def tokens(rows: int = 4, seed: int = 0) -> Tensor:
    return torch.randint(0, VOCABULARY, (rows, CONTEXT), generator=torch.Generator().manual_seed(seed))


def train_on(
    model: GPT, steps: int, batches: int = 1, run: Callable[..., Tensor] | None = None
) -> list[float]:
    """Losses of some steps on the same few batches; `run` is the compiled model."""
    optimizer = Optimizer(model)
    pairs = [(tokens(seed=2 * number), tokens(seed=2 * number + 1), 0) for number in range(batches)]
    source = itertools.cycle(pairs)
    losses = []
    for step in range(steps):
        losses.append(train.gradients(run or model, source, 1).item())
        optimizer.step(step, step / steps)
        model.zero_grad()
    return losses


class TestModel:
    def test_the_first_loss_is_that_of_guessing(self) -> None:
        loss = build()(tokens(), tokens(seed=1)).item()
        assert loss == pytest.approx(math.log(VOCABULARY), rel=0.02)

    def test_one_batch_is_learnt_by_heart(self) -> None:
        losses = train_on(build(width=64), 20)
        assert losses[-1] < 0.1 < 4 < losses[0]

    @pytest.mark.parametrize("pattern", ["L", "S", "SL", "SSSL", "LS", "LLS"])
    def test_later_tokens_change_no_earlier_logits(
        self, pattern: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(train, "WINDOW_PATTERN", pattern)
        monkeypatch.setattr(train, "SHORT_WINDOW", 5)
        monkeypatch.setattr(train, "DEPTH", 5)
        monkeypatch.setattr(HARNESS, "MAX_SEQ_LEN", CONTEXT)
        windows = train.config_for(CPU).windows
        assert windows[-1] == CONTEXT
        assert [window == 5 for window in windows[:-1]] == [
            pattern[n % len(pattern)] == "S" for n in range(4)
        ]
        model = shaken(build(*windows))
        first = tokens()
        for cut in (1, 4, 5, 6, CONTEXT - 1):
            second = torch.cat((first[:, :cut], tokens(seed=1)[:, cut:]), dim=1)
            before, after = model(first).detach(), model(second).detach()
            assert torch.equal(before[:, :cut], after[:, :cut])
            assert not torch.allclose(before[:, cut:], after[:, cut:])

    def test_rows_do_not_see_each_other(self) -> None:
        model = shaken(build())
        rows = tokens()
        torch.testing.assert_close(model(rows)[:1], model(rows[:1]))

    def test_order_matters(self) -> None:
        model = shaken(build(CONTEXT, CONTEXT))
        rows = tokens()
        swapped = rows[:, [1, 0, *range(2, CONTEXT)]]
        assert not torch.allclose(model(rows)[:, -1], model(swapped)[:, -1], atol=1e-5)

    def test_logits_are_capped(self) -> None:
        model = shaken(build())
        with torch.no_grad():
            model.unembedding.weight.mul_(1000)
        assert model(tokens()).abs().max() <= train.LOGIT_SOFTCAP

    def test_the_loss_is_the_cross_entropy_of_the_logits(self) -> None:
        model = shaken(build())
        logits = model(tokens()).detach().double().numpy()
        answers = tokens(seed=1).numpy()
        chosen = np.take_along_axis(logits, answers[..., None], -1)[..., 0]
        expected = (np.log(np.exp(logits).sum(-1)) - chosen).mean()
        assert model(tokens(), tokens(seed=1)).item() == pytest.approx(expected, rel=1e-5)

    def test_every_weight_learns(self) -> None:
        model = shaken(build(8, 8, CONTEXT))
        model(tokens(), tokens(seed=1)).backward()
        assert [
            name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()
        ] == []

    def test_an_embedding_tells_of_the_last_three_tokens_and_of_nothing_else(self) -> None:
        model = shaken(build(width=64))
        with torch.no_grad():
            for changed in range(8):
                others = tokens()
                others[:, changed] = (others[:, changed] + 1) % VOCABULARY
                differs = (model.embed(others) != model.embed(tokens())).any(-1).all(0)
                assert differs.nonzero().flatten().tolist() == [changed, changed + 1, changed + 2]

    def test_without_rows_there_are_no_ngrams(self) -> None:
        model = build(ngrams=0)
        assert not list(model.ngrams.parameters())
        expected = train.norm(model.embedding(tokens()))
        assert torch.equal(model.embed(tokens()), expected)
        assert train_on(model, 3)[-1] < math.log(VOCABULARY)

    def test_every_second_layer_up_to_the_last_has_value_embeddings(self) -> None:
        assert list(build(8, 8, CONTEXT).value_embeddings) == ["0", "2"]
        assert list(build(8, 8, 8, CONTEXT).value_embeddings) == ["1", "3"]

    def test_the_gpu_profile_has_fifty_million_weights_beside_its_ngrams(self) -> None:
        with torch.device("meta"):
            config = train.config_for(torch.device("cuda"))
            model = GPT(config, torch.device("meta"))
        assert (config.width, config.heads, config.dtype) == (512, 4, torch.bfloat16)
        assert config.windows == (256, 256, 256, 2048) * 2
        ngrams = sum(weight.numel() for weight in model.ngrams.parameters())
        assert ngrams == 2 * 2**17 * 512
        everything = sum(weight.numel() for weight in model.parameters())
        assert everything - ngrams == pytest.approx(50.3e6, rel=1e-3)
        assert train.split_batch() == (64, 1)
        assert model.flops_per_token() == pytest.approx(211e6, rel=2e-3)

    def test_half_precision_stays_close(self) -> None:
        model, half = shaken(build()), shaken(build())
        half.config = Config(VOCABULARY, CONTEXT, 32, 2, (8, CONTEXT), 512, torch.bfloat16)
        half.cos, half.sin = half.cos.bfloat16(), half.sin.bfloat16()
        logits = half(tokens())
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits, model(tokens()), atol=0.5, rtol=0)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # Dynamo looks at it, and hides that
@pytest.mark.filterwarnings("ignore:Guards may run slower")  # on Python 3.13.0
class TestCompiled:
    """As on a GPU: in half precision, and by graphs, here without a compiler behind them."""

    @pytest.fixture(autouse=True)
    def _graphs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))

    def test_it_learns_as_plain_float32_does(self) -> None:
        slow, fast = build(width=64), build(width=64, dtype=torch.bfloat16)
        fast.load_state_dict(slow.state_dict())
        plain, quick = train_on(slow, 30, 2), train_on(fast, 30, 2, train.compiled(fast)[0])
        between = [abs(one - other) for one, other in zip(plain, quick, strict=True)]
        assert max(between) < 0.1
        assert sum(between) / len(between) < 0.02
        assert plain[-1] < 0.1 < 4 < plain[0]

    def test_logits_are_those_of_the_model_and_carry_no_gradient(self) -> None:
        model = shaken(build())
        with torch.no_grad():
            logits = train.compiled(model)[1](tokens())
        assert not logits.requires_grad
        torch.testing.assert_close(logits, model(tokens()).detach())


class TestAttention:
    @pytest.mark.parametrize("window", [1, 5, CONTEXT - 1])
    def test_a_window_sees_so_many_tokens_and_no_more(self, window: int) -> None:
        attend = train.attention_within(window, CONTEXT, CPU)
        q, k, v = torch.randn(3, 1, 2, CONTEXT, 8).unbind()
        before = attend(q, k, v)
        changed = v.clone()
        changed[:, :, 10] += 1
        differs = (attend(q, k, changed) - before).abs().amax(dim=(0, 1, 3)) > 1e-7
        assert differs.nonzero().flatten().tolist() == list(range(10, min(10 + window, CONTEXT)))

    @pytest.mark.filterwarnings("ignore::UserWarning")  # FlexAttention complains that it is not compiled
    @pytest.mark.parametrize("window", [1, 5, 130])
    def test_the_kernel_of_the_gpu_means_the_same(self, window: int) -> None:
        q, k, v = torch.randn(3, 1, 2, 256, 16).unbind()
        flex = train.flex_within(window, 256, CPU)(q, k, v)
        torch.testing.assert_close(flex, train.attention_within(window, 256, CPU)(q, k, v))


class TestOptimizers:
    @pytest.mark.parametrize("shape", [(3, 32, 32), (2, 64, 16), (2, 16, 64), (1, 4, 32)])
    def test_orthogonalize_finds_what_a_singular_value_decomposition_finds(
        self, shape: tuple[int, ...]
    ) -> None:
        u, _, v = torch.linalg.svd(torch.randn(shape, generator=torch.Generator().manual_seed(0)), False)
        spread = torch.logspace(-2, 0, u.size(-1))  # singular values, a hundredfold apart
        found = orthogonalize(u @ torch.diag(spread) @ v)
        values = torch.linalg.svdvals(found)
        assert 0.85 < values.min() <= values.max() < 1.15
        cosines = (found * (u @ v)).sum((-2, -1)) / found.norm(dim=(-2, -1)) / (u @ v).norm(dim=(-2, -1))
        assert cosines.min() > 0.99

    @pytest.mark.parametrize("scale", [1e-4, 1e6])
    def test_orthogonalize_does_not_care_for_the_scale(self, scale: float) -> None:
        matrices = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(
            orthogonalize(matrices * scale), orthogonalize(matrices), atol=0.02, rtol=0
        )

    def test_no_gradient_at_all_is_no_number_gone_wrong(self) -> None:
        weights = [nn.Parameter(torch.randn(8, 4)), nn.Parameter(torch.randn(4, 8))]
        before = [weight.detach().clone() for weight in weights]
        for weight in weights:
            weight.grad = torch.zeros_like(weight)
        Muon(list(weights), 0.1).step(1.0, 0.95, 0.0)
        assert all(torch.equal(weight, old) for weight, old in zip(weights, before, strict=True))

    def test_muon_goes_downhill_by_its_step_whatever_the_gradient(self) -> None:
        for size in (1e-3, 1e3):
            weight = nn.Parameter(torch.zeros(16, 16))
            weight.grad = size * torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
            Muon([weight], 0.1).step(1.0, 0.0, 0.0)
            assert (weight * weight.grad).sum() < 0
            assert weight.detach().norm() == pytest.approx(0.1 * math.sqrt(16), rel=0.1)

    def test_weight_decay_only_helps_the_update(self) -> None:
        gradient = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
        plain, decayed = (nn.Parameter(torch.ones(16, 16)) for _ in range(2))
        for weight, decay in ((plain, 0.0), (decayed, 0.5)):
            weight.grad = gradient.clone()
            Muon([weight], 0.1).step(1.0, 0.0, decay)
        shrinks = plain.detach() < 1
        torch.testing.assert_close(decayed[shrinks], plain[shrinks] - 0.1 * 0.5)
        torch.testing.assert_close(decayed[~shrinks], plain[~shrinks])

    @pytest.mark.parametrize("decay", [0.0, 0.1])
    def test_adamw_is_that_of_pytorch(self, decay: float) -> None:
        ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4)) for _ in range(2))
        own = AdamW([ours], 0.01, (0.8, 0.95), decay)
        other = torch.optim.AdamW([theirs], 0.01, (0.8, 0.95), eps=1e-10, weight_decay=decay)
        for step in range(5):
            for weight in (ours, theirs):
                weight.grad = torch.sin(weight.detach() * 3 + step)
            own.step(1.0)
            other.step()
        torch.testing.assert_close(ours, theirs)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_rounding_decides_nothing_in_the_first_step(self, dtype: torch.dtype) -> None:
        """The scalars' gradient is 0 but for rounding, whose sign differs by seed and by machine."""
        for seed in range(6):
            model = build(*[CONTEXT] * 8, dtype=dtype, seed=seed)
            model(tokens(), tokens(seed=1)).backward()
            Optimizer(model).step(0, 0.0)
            share = 1.0  # of the embedding in the stream after the last layer
            for keep, recall in zip(model.keep.tolist(), model.recall.tolist(), strict=True):
                share = keep * share + recall
            assert 0.5 < share < 3.0

    def test_equal_seeds_and_steps_give_equal_numbers(self) -> None:
        losses = [train_on(build(seed=seed), 8, batches=3) for seed in (1, 1, 2)]
        assert losses[0] == losses[1]
        assert losses[0] != losses[2]

    def test_parts_of_a_batch_give_the_gradient_of_the_whole(self) -> None:
        whole, parts = build(), build()
        inputs, targets = tokens(), tokens(seed=1)
        loss = train.gradients(whole, iter([(inputs, targets, 0)]), 1)
        halves = [(inputs[:2], targets[:2], 0), (inputs[2:], targets[2:], 0)]
        assert train.gradients(parts, iter(halves), 2).item() == pytest.approx(loss.item())
        for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, atol=1e-6, rtol=1e-4)

    def test_learning_rates_rise_stay_and_fall(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(train, "WARMUP_RATIO", 0.1)
        monkeypatch.setattr(train, "WARMDOWN_RATIO", 0.5)
        monkeypatch.setattr(train, "FINAL_LR_FRAC", 0.2)
        found = [train.lr_factor(progress) for progress in (0, 0.05, 0.1, 0.5, 0.75, 1.0, 1.01)]
        assert found == pytest.approx([0, 0.5, 1, 1, 0.6, 0.2, 0.2])
        monkeypatch.setattr(train, "WARMUP_RATIO", 0.0)
        monkeypatch.setattr(train, "WARMDOWN_RATIO", 0.0)
        assert [train.lr_factor(progress) for progress in (0, 0.5, 1.0)] == [1, 1, 1]


class TestConstants:
    @pytest.mark.parametrize("pattern", ["", "SX", "sl"])
    def test_a_pattern_of_other_letters_is_refused(
        self, pattern: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(train, "WINDOW_PATTERN", pattern)
        with pytest.raises(HarnessError, match="WINDOW_PATTERN"):
            train.config_for(CPU)

    @pytest.mark.parametrize("total", [1000, 2048 * 3 * 64 // 2])
    def test_a_batch_that_is_no_multiple_is_refused(
        self, total: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(train, "TOTAL_BATCH_SIZE", total)
        with pytest.raises(HarnessError, match="TOTAL_BATCH_SIZE"):
            train.split_batch()

    def test_a_batch_smaller_than_the_device_takes_is_computed_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(train, "TOTAL_BATCH_SIZE", 2048 * 16)
        assert train.split_batch() == (16, 1)

    def test_the_width_is_made_of_whole_heads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(train, "ASPECT_RATIO", 57)
        monkeypatch.setattr(train, "DEPTH", 9)
        config = train.config_for(CPU)
        assert (config.width, config.heads) == (640, 5)
