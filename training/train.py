"""Train a small GPT for a fixed time, then print its bits per byte on text it has not seen.

    python train.py

This is the file that experiments change, and all of it may change. What stays is in `prepare.py`: the text,
the batches, the time and the score. The model: rotary positions, RMS norm without weights, layers of sliding
window and of full attention, n-gram and value embeddings, squared ReLU, capped logits. The optimizers: Muon
for the matrices inside the layers, AdamW for everything else.
"""

from __future__ import annotations

import functools
import gc
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import prepare  # type: ignore[import-not-found]
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

# ---------------------------------------------------------------------------------------------------------
# Constants. Learning rates of AdamW are those of a model 768 wide and grow with the root of 768 / width.

DEPTH = 8  # layers
ASPECT_RATIO = 64  # channels of width per layer; the width is rounded up to whole heads
HEAD_DIM = 128  # channels in an attention head
WINDOW_PATTERN = "SSSL"  # letters, a layer each, over and over: S short window, L all; the last layer is L
SHORT_WINDOW = 256  # tokens that an S layer sees, the present one among them
ROTARY_BASE = 200_000  # ratio of the longest to the shortest wavelength of the rotary positions
QK_SCALE = 1.2  # what the products of normed queries and keys are multiplied by: sharper attention
LOGIT_SOFTCAP = 15.0  # nats; logits stay between minus and plus this
NGRAM_ROWS = 2**17  # rows of the table for the last two tokens, and of that for the last three; 0: no tables
INIT_SCALE = 0.68  # of the uniform weights at the start; 1 gives them a variance of 1 / width
RECALL_INIT = 0.05  # share of the token's embedding that each layer gets once more, at the start

TOTAL_BATCH_SIZE = 2**17  # tokens per optimizer step
DEVICE_BATCH_SIZE = 64  # rows computed at once
EMBEDDING_LR = 0.9  # AdamW: step of token and value embeddings
NGRAM_LR = 0.3  # AdamW: step of the n-gram tables
UNEMBEDDING_LR = 0.005  # AdamW: step of the last matrix, from width to vocabulary
SCALAR_LR = 0.05  # AdamW: step of the two scalars of each layer
MATRIX_LR = 0.04  # Muon: step, in units of an orthogonal matrix
WEIGHT_DECAY = 0.2  # Muon: share of a weight lost per unit of step; falls to 0 with the time
EMBEDDING_DECAY = 0.001  # AdamW: the same for token embeddings, constant
VALUE_DECAY = 0.003  # AdamW: the same for value embeddings
NGRAM_DECAY = 0.05  # AdamW: the same for n-grams; without it a second epoch learns the first one by heart
ADAM_BETAS = (0.8, 0.95)  # AdamW: share that a mean and a square keep per step
MUON_MOMENTUM = 0.95  # Muon: share that a mean keeps per step
MOMENTUM_WARMUP = 200  # steps in which that share rises from 0.85
WARMUP_RATIO = 0.0  # share of the time in which the learning rates rise from 0
WARMDOWN_RATIO = 0.7  # share of the time in which they fall again
FINAL_LR_FRAC = 0.05  # share of them that is left at the end
SEED = 42  # seed of the initial weights

# ---------------------------------------------------------------------------------------------------------
# Model

Batches = Iterator[tuple[Tensor, Tensor, int]]  # inputs and targets of shape (rows, time), and the epoch
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # queries, keys, values: (batch, head, time, channel)
Within = Callable[[int, int, torch.device], Attend]  # of a window and a context


@dataclass(frozen=True, slots=True)
class Config:
    """The size of a model. `windows` has the number of tokens that each layer sees."""

    vocabulary: int
    context: int
    width: int
    heads: int
    windows: tuple[int, ...]
    ngrams: int  # rows of each n-gram table
    dtype: torch.dtype  # of the computation; weights are float32


def config_for(device: torch.device) -> Config:
    """The model that the constants describe."""
    if not WINDOW_PATTERN or set(WINDOW_PATTERN) - set("SL"):
        raise prepare.HarnessError(f"WINDOW_PATTERN is {WINDOW_PATTERN!r}, and must be made of S and L.")
    heads = math.ceil(DEPTH * ASPECT_RATIO / HEAD_DIM)
    context = prepare.MAX_SEQ_LEN
    sees = {"S": min(SHORT_WINDOW, context), "L": context}
    windows = [sees[WINDOW_PATTERN[layer % len(WINDOW_PATTERN)]] for layer in range(DEPTH - 1)]
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    width = heads * HEAD_DIM
    return Config(prepare.VOCAB_SIZE, context, width, heads, (*windows, context), NGRAM_ROWS, dtype)


def attention_within(window: int, context: int, device: torch.device) -> Attend:
    """Causal attention to the last `window` tokens, by the fastest kernel that PyTorch brings."""
    if device.type == "cuda" and window < context:
        return flex_within(window, context, device)
    return plain_within(window, context, device)


def plain_within(window: int, context: int, device: torch.device) -> Attend:
    """The same without anything that has to be compiled."""
    if window >= context:
        return functools.partial(functional.scaled_dot_product_attention, is_causal=True)
    distance = torch.arange(context)[:, None] - torch.arange(context)
    mask = ((distance >= 0) & (distance < window)).to(device)
    return functools.partial(functional.scaled_dot_product_attention, attn_mask=mask)


def flex_within(window: int, context: int, device: torch.device) -> Attend:
    """The same by FlexAttention, which skips what no query sees."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention  # slow to import

    def visible(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (query - key < window)

    blocks = create_block_mask(visible, None, None, context, context, device=device)
    return functools.partial(flex_attention, block_mask=blocks)


def norm(x: Tensor) -> Tensor:
    return functional.rms_norm(x, (x.size(-1),))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pairs of channels by their position; x is (batch, time, heads, channels)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1)


class Linear(nn.Linear):
    """A matrix that is kept in float32 and multiplies in the type of its input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight.to(x.dtype))


class Attention(nn.Module):
    def __init__(self, config: Config, attend: Attend, *, gated: bool) -> None:
        super().__init__()
        self.heads, self.attend = config.heads, attend
        self.query = Linear(config.width, config.width)
        self.key = Linear(config.width, config.width)
        self.value = Linear(config.width, config.width)
        self.output = Linear(config.width, config.width)
        self.gate = Linear(min(32, config.width), config.heads) if gated else None  # 32 channels tell enough

    def forward(self, x: Tensor, values: Tensor | None, cos: Tensor, sin: Tensor) -> Tensor:
        split = (*x.shape[:2], self.heads, -1)
        q, k, v = self.query(x).view(split), self.key(x).view(split), self.value(x).view(split)
        if self.gate is not None and values is not None:
            gate = 2 * torch.sigmoid(self.gate(x[..., : self.gate.in_features]))
            v = v + gate.unsqueeze(-1) * values.view(split)
        q, k = norm(rotate(q, cos, sin)) * QK_SCALE, norm(rotate(k, cos, sin))
        y = self.attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        mixed: Tensor = self.output(y.transpose(1, 2).flatten(2))
        return mixed


class Block(nn.Module):
    def __init__(self, config: Config, attend: Attend, *, gated: bool) -> None:
        super().__init__()
        self.attention = Attention(config, attend, gated=gated)
        self.up = Linear(config.width, 4 * config.width)
        self.down = Linear(4 * config.width, config.width)

    def forward(self, x: Tensor, values: Tensor | None, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(norm(x), values, cos, sin)
        deeper: Tensor = x + self.down(functional.relu(self.up(norm(x))).square())
        return deeper


class GPT(nn.Module):
    """Tokens (batch, time) to logits (batch, time, vocabulary), or with targets to their mean loss in nats.

    Every second layer, the last among them, has value embeddings: vectors of the token itself which are
    added to the attention's values by a gate for each head. A token's embedding is its own row plus one for
    the last two tokens and one for the last three, which share the rows of their tables by a hash. Before
    each layer the stream becomes `keep * stream + recall * embedding`.
    """

    def __init__(self, config: Config, device: torch.device, within: Within = attention_within) -> None:
        super().__init__()
        self.config = config
        depth, width = len(config.windows), config.width
        gated = [layer % 2 == (depth - 1) % 2 for layer in range(depth)]
        kernels = {window: within(window, config.context, device) for window in set(config.windows)}
        self.embedding = nn.Embedding(config.vocabulary, width)
        orders = range(2 if config.ngrams else 0)
        self.ngrams = nn.ModuleList(nn.Embedding(config.ngrams, width) for _ in orders)
        self.value_embeddings = nn.ModuleDict(
            {str(layer): nn.Embedding(config.vocabulary, width) for layer in range(depth) if gated[layer]}
        )
        self.blocks = nn.ModuleList(
            Block(config, kernels[config.windows[layer]], gated=gated[layer]) for layer in range(depth)
        )
        self.unembedding = Linear(width, config.vocabulary)
        self.keep = nn.Parameter(torch.ones(depth))
        self.recall = nn.Parameter(torch.full((depth,), RECALL_INIT))
        channels = width // config.heads
        speeds = ROTARY_BASE ** (-torch.arange(0, channels, 2) / channels)
        angles = torch.outer(torch.arange(config.context), speeds)[:, None]  # (time, 1, channels / 2)
        self.register_buffer("cos", angles.cos().to(config.dtype), persistent=False)
        self.register_buffer("sin", angles.sin().to(config.dtype), persistent=False)
        self.initialize()
        self.to(device)

    @torch.no_grad()
    def initialize(self) -> None:
        """What adds to the stream starts at 0, the rest uniform with a variance near 1 / width."""
        bound = INIT_SCALE * math.sqrt(3 / self.config.width)
        for name, parameter in self.named_parameters():
            if name.startswith("ngrams") or name.endswith(("output.weight", "down.weight", "gate.weight")):
                parameter.zero_()
            elif parameter.ndim == 2:
                parameter.uniform_(-bound, bound)
        self.embedding.weight.normal_()
        self.unembedding.weight.normal_(std=0.001)

    def embed(self, tokens: Tensor) -> Tensor:
        x: Tensor = self.embedding(tokens)
        row = tokens
        for order, table in enumerate(self.ngrams):  # hash one more of the tokens before
            earlier = functional.pad(tokens[:, : -1 - order], (1 + order, 0))
            row = (row + (81_001, 50_261)[order] * earlier) % self.config.ngrams
            x = x + table(row)
        return norm(x.to(self.config.dtype))

    def stream(self, tokens: Tensor) -> Tensor:
        """What leaves the last layer."""
        dtype = self.config.dtype
        x = start = self.embed(tokens)
        for layer, block in enumerate(self.blocks):
            x = self.keep[layer] * x + self.recall[layer] * start
            key = str(layer)
            values = self.value_embeddings[key](tokens).to(dtype) if key in self.value_embeddings else None
            x = block(x, values, self.cos, self.sin)
        return x

    def head(self, x: Tensor, targets: Tensor | None = None) -> Tensor:
        logits = LOGIT_SOFTCAP * torch.tanh(self.unembedding(norm(x) / LOGIT_SOFTCAP).float())
        if targets is None:
            return logits
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> Tensor:
        return self.head(self.stream(tokens), targets)

    def flops_per_token(self) -> int:
        """Forward and backward: 6 per weight of a matrix, 12 per channel and visible token of attention."""
        matrices = self.unembedding.weight.numel() + sum(p.numel() for p in self.blocks.parameters())
        return 6 * matrices + 12 * self.config.width * sum(self.config.windows)


# ---------------------------------------------------------------------------------------------------------
# Optimizers. They are plain: on a CPU, importing torch.optim's would take seconds of the start-up.


class AdamW:
    """Adam with weight decay apart from the gradient (Loshchilov and Hutter, arXiv 1711.05101)."""

    def __init__(
        self, parameters: list[Tensor], lr: float, betas: tuple[float, float], decay: float = 0.0
    ) -> None:
        self.parameters, self.lr, self.betas, self.decay = parameters, lr, betas, decay
        self.means = [torch.zeros_like(parameter) for parameter in parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in parameters]
        self.steps = [torch.zeros((), device=parameter.device) for parameter in parameters]

    @torch.no_grad()
    def step(self, factor: float) -> None:
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        if not gradients:
            return
        torch._foreach_add_(self.steps, 1)
        torch._fused_adamw_(  # one kernel; plain operations would read all of it 20 times
            self.parameters, gradients, self.means, self.squares, [], self.steps,
            lr=self.lr * factor, beta1=self.betas[0], beta2=self.betas[1], weight_decay=self.decay, eps=1e-10,
            amsgrad=False, maximize=False,
        )  # fmt: skip


def orthogonalize(matrices: Tensor) -> Tensor:
    """The orthogonal factor U V^T of each matrix U S V^T of a stack (count, rows, columns).

    Five steps of the Polar Express (Amsel et al., arXiv 2505.16932): odd polynomials that bring singular
    values of 1 at most close to 1, as fast as any of their degree can.
    """
    x: Tensor = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-6)
    x = x.bfloat16() if x.is_cuda else x
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    for a, b, c in (
        (8.156554524902461, -22.48329292557795, 15.878769915207462),
        (4.042929935166739, -2.808917465908714, 0.5000178451051316),
        (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
        (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
        (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
    ):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


class Muon:
    """Momentum whose update is made orthogonal (Jordan et al., 2024), all matrices of one shape at once.

    After that each row (column, of a wide matrix) is scaled by its own mean square over the steps, as in
    NorMuon (Li et al., arXiv 2510.05491), and weight decay acts only where it has the update's direction.
    """

    def __init__(self, matrices: list[Tensor], lr: float) -> None:
        self.lr = lr
        shapes = sorted({tuple(matrix.shape) for matrix in matrices})
        self.groups = [[matrix for matrix in matrices if tuple(matrix.shape) == shape] for shape in shapes]
        self.means = [torch.zeros_like(torch.stack(list(group))) for group in self.groups]
        self.squares = [mean.mean(self.across(mean), keepdim=True) for mean in self.means]

    @staticmethod
    def across(stack: Tensor) -> int:
        return -1 if stack.size(-2) >= stack.size(-1) else -2

    @torch.no_grad()
    def step(self, factor: float, momentum: float, decay: float) -> None:
        for group, mean, square in zip(self.groups, self.means, self.squares, strict=True):
            gradient = torch.stack([matrix.grad for matrix in group if matrix.grad is not None])
            mean.lerp_(gradient, 1 - momentum)
            update = orthogonalize(gradient.lerp_(mean, momentum))  # Nesterov's
            square.lerp_(update.square().mean(self.across(update), keepdim=True), 0.05)
            scaled = update * square.clamp_min(1e-10).rsqrt()
            length = update.norm(dim=(-2, -1), keepdim=True)
            update = scaled * (length / scaled.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-10))
            lr = self.lr * factor * max(1.0, update.size(-2) / update.size(-1)) ** 0.5
            weights = torch.stack(list(group))
            decayed = decay * weights * (update * weights >= 0)
            torch._foreach_sub_(group, list(update + decayed), alpha=lr)


class Optimizer:
    """Both, with the schedule of their learning rates."""

    def __init__(self, model: GPT) -> None:
        wide = (model.config.width / 768) ** -0.5
        # In the first step the stream is a multiple of the embedding, and norms undo any factor: the scalars'
        # gradient is 0, and AdamW makes a whole step of its rounding error. So their steps are short.
        self.adams = [
            AdamW([model.embedding.weight], EMBEDDING_LR * wide, ADAM_BETAS, EMBEDDING_DECAY),
            AdamW([*model.value_embeddings.parameters()], EMBEDDING_LR * wide, ADAM_BETAS, VALUE_DECAY),
            AdamW([*model.ngrams.parameters()], NGRAM_LR * wide, ADAM_BETAS, NGRAM_DECAY),
            AdamW([model.unembedding.weight], UNEMBEDDING_LR * wide, ADAM_BETAS),
            AdamW([model.keep], SCALAR_LR * 0.1, ADAM_BETAS),  # it acts on the whole stream
            AdamW([model.recall], SCALAR_LR, (0.96, 0.95)),
        ]
        self.muon = Muon(list(model.blocks.parameters()), MATRIX_LR)

    def step(self, number: int, progress: float) -> None:
        """Change the weights in the `number`th step, when `progress` of the time has gone."""
        factor = lr_factor(progress)
        warm = min(1.0, number / max(1, MOMENTUM_WARMUP))
        for adam in self.adams:
            adam.step(factor)
        self.muon.step(factor, 0.85 + (MUON_MOMENTUM - 0.85) * warm, WEIGHT_DECAY * (1 - progress))


def lr_factor(progress: float) -> float:
    """What the learning rates are multiplied by: up in WARMUP_RATIO, 1, down in WARMDOWN_RATIO."""
    if progress < WARMUP_RATIO:
        return progress / WARMUP_RATIO
    if progress <= 1 - WARMDOWN_RATIO:
        return 1.0
    left = max(0.0, (1 - progress) / WARMDOWN_RATIO)
    return left + (1 - left) * FINAL_LR_FRAC


# ---------------------------------------------------------------------------------------------------------
# Training


def pick_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def split_batch() -> tuple[int, int]:
    """Rows that are computed at once, and how many times that is one step."""
    context = prepare.MAX_SEQ_LEN
    rows = min(DEVICE_BATCH_SIZE, TOTAL_BATCH_SIZE // context)
    if rows < 1 or TOTAL_BATCH_SIZE % (rows * context):
        raise prepare.HarnessError(
            f"TOTAL_BATCH_SIZE is {TOTAL_BATCH_SIZE}, which is no multiple of {DEVICE_BATCH_SIZE} rows "
            f"(DEVICE_BATCH_SIZE) of {context} tokens."
        )
    return rows, TOTAL_BATCH_SIZE // (rows * context)


def peak_flops(device: torch.device) -> float:
    """FLOP/s of dense bfloat16 by the data sheet; infinite, so that the MFU is 0, where we do not know it."""
    sheet = {"H100": 989.5e12, "H200": 989.5e12, "B200": 2250e12, "A100": 312e12, "L40S": 362e12}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((flops for known, flops in sheet.items() if known in name), math.inf)


def peak_memory(device: torch.device) -> int:
    """Bytes of the accelerator's memory that were in use; 0 on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return torch.mps.driver_allocated_memory() if device.type == "mps" else 0


def compiled(model: GPT) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """The functions from tokens and targets to the loss, and from tokens to logits."""
    stream, head = (torch.compile(part, dynamic=False) for part in (model.stream, model.head))

    def logits_of(tokens: Tensor) -> Tensor:
        with torch.enable_grad():  # as in the training: without gradients it would be compiled once more
            x = stream(tokens)
        return head(x.detach())

    return lambda tokens, targets: head(stream(tokens), targets), logits_of


def gradients(run: Callable[..., Tensor], batches: Batches, parts: int) -> Tensor:
    """Leave the mean gradients of `parts` batches in the parameters; returns their mean loss."""
    losses = []
    for _ in range(parts):
        inputs, targets, _epoch = next(batches)
        loss = run(inputs, targets) / parts
        torch.autograd.backward(loss)
        losses.append(loss.detach())
    return torch.stack(losses).sum()


def train(model: GPT, run: Callable[..., Tensor], batches: Batches, parts: int) -> tuple[float, float, int]:
    """Train until the budget is used up; `run` is the model, compiled or as it is.

    Returns the seconds, how many FLOP/s of the model there were in them, and the number of all steps. The
    first few steps, in which kernels are compiled and memory is found, take none of the time.
    """
    free = 1 if run is model else 3
    optimizer = Optimizer(model)
    limit = 3 * math.log(model.config.vocabulary)  # three times as bad as guessing
    flops = TOTAL_BATCH_SIZE * model.flops_per_token()
    peak = peak_flops(model.keep.device)
    step, spent, progress, smooth, printed = 0, 0.0, 0.0, 0.0, -math.inf
    gc.disable()  # a collection would hold up a step
    clock = time.perf_counter()
    while progress < 1:
        mean_loss = gradients(run, batches, parts)
        optimizer.step(step, progress)
        model.zero_grad(set_to_none=True)
        loss = mean_loss.item()  # waits for the device
        if not loss < limit:
            raise prepare.HarnessError(f"The loss is {loss:.3f} at step {step}: the training has failed.")
        now = time.perf_counter()
        seconds, clock = now - clock, now
        spent += seconds if step >= free else 0.0
        step += 1
        factor, progress = lr_factor(progress), prepare.progress(spent)
        smooth = 0.9 * smooth + 0.1 * loss
        if now - printed > 0.5 or progress >= 1:
            printed = now
            left = spent / progress - spent if spent else prepare.TIME_BUDGET
            print(
                f"step {step:05d} ({min(1.0, progress):.1%}) | loss: {smooth / (1 - 0.9**step):.6f} | "
                f"lrm: {factor:.2f} | dt: {seconds * 1000:.0f}ms | "
                f"tok/sec: {TOTAL_BATCH_SIZE / seconds:,.0f} | mfu: {flops / seconds / peak:.1%} | "
                f"remaining: {max(0.0, left):.0f}s",
                end="\r" if sys.stdout.isatty() else "\n",
                flush=True,
            )
    gc.enable()
    return spent, flops * (step - free) / spent if spent else 0.0, step


def build_model(weights: dict[str, Tensor], device: torch.device) -> Callable[[Tensor], Tensor]:
    """Tokens to logits by the weights of `model.pt`: for evaluate.py. Not compiled, which takes too long."""
    torch.set_float32_matmul_precision("high")
    with device:
        model = GPT(config_for(device), device, plain_within)
    model.load_state_dict(weights)
    return model


def main() -> None:
    corpus = prepare.Corpus()
    if missing := corpus.missing():
        raise prepare.HarnessError(missing)
    device = pick_device()
    torch.manual_seed(SEED)
    torch.set_float32_matmul_precision("high")
    rows, parts = split_batch()
    config = config_for(device)
    with device:  # a GPU draws the weights in no time
        model = GPT(config, device)
    loss_of, logits_of = compiled(model) if device.type == "cuda" else (model, model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"parameters: {parameters / 1e6:.1f} M, depth: {DEPTH}, width: {config.width}, "
        f"heads: {config.heads}, tokens per step: {TOTAL_BATCH_SIZE:,} ({parts} x {rows} rows), {device}",
        flush=True,
    )
    sdp = SDPBackend
    fastest_first = [sdp.CUDNN_ATTENTION, sdp.FLASH_ATTENTION, sdp.EFFICIENT_ATTENTION, sdp.MATH]
    with sdpa_kernel(fastest_first, set_priority=True):
        batches = prepare.batches(corpus, "train", rows=rows, device=device)
        seconds, flops, steps = train(model, loss_of, batches, parts)
        computed = prepare.computed()
        if not prepare.COMPILE_ONLY:  # which ends in the evaluation
            torch.serialization.set_crc32_options(False)  # sums take a third of the time
            saved = ThreadPoolExecutor(1).submit(torch.save, model.state_dict(), "model.pt")
        val_bpb = prepare.evaluate_bpb(logits_of, corpus, rows=rows, device=device)
    saved.result()
    summary = {
        "val_bpb": f"{val_bpb:.6f}",
        "training_seconds": f"{seconds:.1f}",
        "training_tflops": f"{computed / 1e12:.4f}",
        "total_seconds": f"{time.perf_counter() - prepare.START:.1f}",
        "peak_vram_mb": f"{peak_memory(device) / 2**20:.1f}",
        "mfu_percent": f"{100 * flops / peak_flops(device):.2f}",
        "total_tokens_M": f"{steps * TOTAL_BATCH_SIZE / 1e6:.2f}",
        "num_steps": f"{steps}",
        "num_params_M": f"{parameters / 1e6:.2f}",
        "depth": f"{DEPTH}",
    }
    print("\n---")
    for key, value in summary.items():
        print(f"{key + ':':<18}{value}")


if __name__ == "__main__":
    try:
        main()
    except prepare.HarnessError as error:
        sys.exit(f"error: {error}")
    sys.stdout.flush()
    os._exit(0)  # to end the compiler's workers and to free all memory piece by piece takes two seconds
