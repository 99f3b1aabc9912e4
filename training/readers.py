"""How a model's answers become losses, on a CPU without PyTorch and on a GPU. Part of the fixed half."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import prepare  # type: ignore[import-not-found]
from exchange import RefusedError, Shape  # type: ignore[import-not-found]

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    Floats: TypeAlias = npt.NDArray[np.float32]
    Ints: TypeAlias = npt.NDArray[np.int64]

SCORER_MEMORY = 4 * 2**30  # bytes of a GPU that have to be free to score there
DRIVERS = "/dev/nvidiactl", "/dev/nvhost-ctrl", "/dev/dxg", "/dev/kfd"  # CUDA and ROCm need one of them
BLOCK = 2**18  # logits that a processor scores at once
THREADS = 4  # that read an answer on a CPU
COPIERS = 8  # threads that copy an answer for a GPU: one fills a tenth of what its bus takes


def has_gpu() -> bool:
    """Whether there may be one: only PyTorch knows, whose import takes seconds."""
    return any(Path(driver).exists() for driver in DRIVERS)


def gpu_reader(shape: Shape, token_bytes: Ints) -> Reader:
    """Return a reader that uses the GPU if PyTorch has one with room."""
    import torch  # the other process does so at the same time

    if torch.cuda.is_available() and torch.cuda.mem_get_info()[0] > SCORER_MEMORY:
        return GpuReader(shape, token_bytes, torch.device("cuda"))
    return CpuReader(shape)


class Reader(Protocol):
    """Reads an answer from byte `start` of the shared file.

    Each byte once, as the other side may write to it at any time. Returns the loss at each target, and the
    log-probabilities at the positions that are `wanted`.
    """

    def __call__(self, exchange: int, start: int, targets: Ints, wanted: Ints) -> tuple[Floats, Floats]: ...


class CpuReader:
    """Without PyTorch, whose import takes seconds, and in blocks that a cache holds from copy to loss."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.pool = ThreadPoolExecutor(THREADS)

    def __call__(self, exchange: int, start: int, targets: Ints, wanted: Ints) -> tuple[Floats, Floats]:
        import numpy as np

        size = max(1, BLOCK // self.shape.vocabulary)
        kind = np.float16 if self.shape.half else np.float32

        def block(first: int) -> tuple[Floats, Floats]:
            some = targets[first : first + size]
            logits = np.empty((len(some), self.shape.vocabulary), kind)
            read(exchange, logits.data.cast("B"), start + first * logits[0].nbytes)
            inside = wanted[(first <= wanted) & (wanted < first + size)] - first
            return losses_of(logits.astype(np.float32, copy=False), some, inside)

        losses, found = zip(*self.pool.map(block, range(0, len(targets), size)), strict=True)
        return np.concatenate(losses), np.concatenate(found)


def losses_of(logits: Floats, targets: Ints, wanted: Ints) -> tuple[Floats, Floats]:
    """As a reader returns them; `logits` are written over. `prepare.losses_of` finds the same losses."""
    import numpy as np

    with np.errstate(all="ignore"):  # a model may answer anything
        logits -= logits.max(-1, keepdims=True)
        answers, found = logits[np.arange(len(targets)), targets], logits[wanted]
        sums = np.log(np.exp(logits, out=logits).sum(-1))
        return sums - answers, found - sums[wanted, None]


class GpuReader:
    def __init__(self, shape: Shape, token_bytes: Ints, device: torch.device) -> None:
        import torch

        self.device, self.vocabulary = device, shape.vocabulary
        self.token_bytes = torch.from_numpy(token_bytes).to(device)
        kind = torch.float16 if shape.half else torch.float32
        count = shape.tokens * shape.vocabulary
        self.logits = torch.empty(count, dtype=kind, pin_memory=device.type == "cuda")
        self.pool = ThreadPoolExecutor(COPIERS)

    def __call__(self, exchange: int, start: int, targets: Ints, wanted: Ints) -> tuple[Floats, Floats]:
        import torch

        memory = self.logits.numpy().data.cast("B")
        size = -(-len(memory) // COPIERS)
        parts = range(0, len(memory), size)
        list(self.pool.map(lambda at: read(exchange, memory[at : at + size], start + at), parts))
        logits = self.logits.view(1, -1, self.vocabulary)[:, : len(targets)].to(self.device)
        answers = torch.from_numpy(targets).to(self.device)
        losses, _ = prepare.losses_of(logits, answers, self.token_bytes)
        found = logits[0, torch.from_numpy(wanted).to(self.device)].float().log_softmax(-1)
        return losses.cpu().numpy(), found.cpu().numpy()


def read(exchange: int, memory: memoryview, at: int) -> None:
    while memory:
        if (count := os.preadv(exchange, [memory], at)) == 0:
            raise RefusedError("The model's process has cut the shared file short.")
        memory, at = memory[count:], at + count
