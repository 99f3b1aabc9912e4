"""Between the two processes of an evaluation: what they send each other, and the one that has the model.

Part of the fixed half. Messages go over two pipes; tokens and logits lie in one file that both have mapped or
read. The process with the model imports `train.py`, so the other one trusts nothing of what comes from it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import math
import mmap
import os
import select
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SLOTS = 2  # batches under way: one is computed while the other is scored
MESSAGE = 4096  # bytes of a message, at most
MODEL_BYTES = 32 * 2**30  # bytes of `model.pt`, at most


class RefusedError(Exception):
    """The model cannot be scored; the message says why."""


# ---------------------------------------------------------------------------------------------------------
# Messages


class Channel:
    """Messages over two pipes, each four bytes of length and a JSON object, until `deadline` (monotonic)."""

    def __init__(self, reading: int, writing: int, deadline: float = math.inf) -> None:
        self.reading, self.writing, self.deadline = reading, writing, deadline
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)

    def send(self, message: dict[str, Any]) -> None:
        text = json.dumps(message).encode()
        left = memoryview(len(text).to_bytes(4, "big") + text)
        while left:
            self.wait_for(self.writing, select.POLLOUT)
            try:
                left = left[os.write(self.writing, left) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise RefusedError("The model's process ended before it was asked everything.") from error

    def receive(self) -> dict[str, Any]:
        length = int.from_bytes(self.read(4), "big")
        if length > MESSAGE:
            raise RefusedError("The model's process wrote something that is no message.")
        try:
            message = json.loads(self.read(length))
        except (ValueError, RecursionError) as error:
            raise RefusedError("The model's process wrote something that is no message.") from error
        if not isinstance(message, dict):
            raise RefusedError("The model's process wrote something that is no message.")
        return message

    def read(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            self.wait_for(self.reading, select.POLLIN)
            try:
                part = os.read(self.reading, count - len(found))
            except BlockingIOError:
                continue
            if not part:
                raise RefusedError("The model's process ended before it had answered.")
            found += part
        return found

    def wait_for(self, descriptor: int, event: int) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        left = self.deadline - time.monotonic()
        if left <= 0 or not poll.poll(None if left == math.inf else max(1, int(1000 * left))):
            raise RefusedError("The model's process did not answer in time.")


def own_pipes() -> tuple[int, int]:
    """Take stdin and stdout for messages; what is printed from now on goes to stderr."""
    pipes = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return pipes


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a batch: `SLOTS` of them lie in the shared file, each its tokens and then its logits."""

    rows: int
    length: int
    vocabulary: int
    half: bool  # logits in float16, less the largest of each position; else in float32

    @property
    def tokens(self) -> int:
        return self.rows * self.length

    @property
    def logits_bytes(self) -> int:
        return self.tokens * self.vocabulary * (2 if self.half else 4)

    @property
    def slot_bytes(self) -> int:
        return 8 * self.tokens + self.logits_bytes

    def logits_at(self, slot: int) -> int:
        return slot * self.slot_bytes + 8 * self.tokens


# ---------------------------------------------------------------------------------------------------------
# The model's process


def answer(exchange: int) -> None:
    """Build the model, then map tokens to logits until the other side has enough."""
    channel = Channel(*own_pipes())
    try:
        gc.disable()  # imports make many objects and no garbage
        model, device = load_model()
        gc.enable()
        serve(model, device, channel, exchange)
    except (Exception, SystemExit) as error:
        words = str(error) if isinstance(error, RefusedError) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(RefusedError):  # the other side has ended
            channel.send({"refused": words[:500]})
        if not isinstance(error, RefusedError):
            raise


def serve(
    model: Callable[[torch.Tensor], Any], device: torch.device, channel: Channel, exchange: int
) -> None:
    channel.send({"ready": True})
    shape = Shape(**channel.receive())
    memory = mmap.mmap(exchange, SLOTS * shape.slot_bytes)
    if device.type == "cuda":
        pin(memory)
    while (slot := channel.receive()["slot"]) is not None:
        compute(model, device, memory, shape, slot)
        channel.send({"slot": slot})


def pin(memory: mmap.mmap) -> None:
    """Let the GPU write there itself. Where the driver will not, answers are copied as before, and slower."""
    import torch

    whole = torch.frombuffer(memory, dtype=torch.uint8)
    runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]  # PyTorch gives it no types
    runtime.cudaHostRegister(whole.data_ptr(), whole.numel(), 0)


def load_model() -> tuple[Callable[[torch.Tensor], Any], torch.device]:
    import torch

    path = Path("model.pt")
    try:
        found = path.lstat()
    except OSError as error:
        raise RefusedError("The training has left no model.pt.") from error
    if not stat.S_ISREG(found.st_mode):
        raise RefusedError("model.pt is no ordinary file.")
    if found.st_size > MODEL_BYTES:
        raise RefusedError(
            f"model.pt has {found.st_size / 2**30:.0f} GiB, more than {MODEL_BYTES / 2**30:.0f}."
        )
    train = importlib.import_module("train")
    if not callable(builder := getattr(train, "build_model", None)):
        raise RefusedError("train.py has no function build_model(weights, device).")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if torch.backends.mps.is_available():
        device = torch.device("mps")
    try:
        weights = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        kind = type(error).__name__
        raise RefusedError(f"model.pt holds other things than weights, or is not whole ({kind}).") from error
    return builder(weights, device), device


def compute(
    model: Callable[[torch.Tensor], Any], device: torch.device, memory: mmap.mmap, shape: Shape, slot: int
) -> None:
    import torch

    start = slot * shape.slot_bytes
    tokens = torch.frombuffer(memory, dtype=torch.int64, count=shape.tokens, offset=start)
    with torch.no_grad():
        logits = model(tokens.view(shape.rows, shape.length).to(device, copy=True))
        wanted = (shape.rows, shape.length, shape.vocabulary)
        if not isinstance(logits, torch.Tensor) or logits.shape != wanted or not logits.is_floating_point():
            raise RefusedError(f"The model's logits must be floats of the shape {wanted}, and are not.")
        kind = torch.float16 if shape.half else torch.float32
        count = shape.tokens * shape.vocabulary
        place = torch.frombuffer(memory, dtype=kind, count=count, offset=shape.logits_at(slot))
        if shape.half:  # the likely tokens are near 0, where float16 is exact enough
            logits = logits.float()
            logits = (logits - logits.amax(-1, keepdim=True)).half()
        place.view(wanted).copy_(logits)
