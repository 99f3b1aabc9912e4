"""A training program that takes no time, and whose result follows from its constants alone.

The storm trains this very file as its `train.py`. In a file of its own (TORCH_LEDGER) it notes when it begins
and, once the whole summary is printed, what it printed; nobody but it writes there.
"""
# ruff: noqa: T201

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import suppress
from hashlib import sha256

with suppress(ImportError):  # a Python that waits for its turn tries it too; `-S` hides it
    import numpy as np  # noqa: F401

LEARNING_RATE = 0.01  # none of these stands for anything
WEIGHT_DECAY = 0.1
MOMENTUM = 0.9
WIDTH = 64
DEPTH = 8
HEAD_DIM = 32
WARMUP_RATIO = 0.1
ROUND = 0  # each is better than the one before; only people set it


def constants() -> dict[str, float]:
    """Return all that the result depends on."""
    return {name: value for name, value in globals().items() if name.isupper()}


def digest() -> str:
    """Return what names this program among all its versions."""
    return sha256(repr(sorted(constants().items())).encode()).hexdigest()


def value() -> float:
    """Return the result: a bowl, and a step down with each round."""
    lowest = {"LEARNING_RATE": 0.02, "WIDTH": 96, "DEPTH": 6, "MOMENTUM": 0.95, "WARMUP_RATIO": 0.2}
    steep = sum(abs(constants()[name] / best - 1) for name, best in lowest.items())
    return round(3 - 0.01 * ROUND + 0.009 * steep / (1 + steep), 6)


def temper() -> str:
    """Return how the training behaves. The baseline is plain."""
    if ROUND == 0 and (LEARNING_RATE, WEIGHT_DECAY, MOMENTUM, WIDTH) == (0.01, 0.1, 0.9, 64):
        return "plain"
    lot = int(digest()[:4], 16) / 0x10000
    for share, kind in ((0.10, "crashing"), (0.13, "hanging"), (0.25, "straggling"), (0.35, "wordy")):
        if lot < share:
            return kind
    return "plain"


def seconds(place: int, longest: float) -> float:
    """Return one of the durations, short as a rule; `place` tells them apart."""
    lot: float = int(digest()[place : place + 4], 16) / 0x10000
    return longest * lot**3


def note(what: str, **more: object) -> None:
    """Append a line to the ledger, in one step."""
    entry = {"what": what, "at": time.time(), "attempt": os.environ["AUTORESEARCH_TRAINING"], **more}
    ledger = os.open(os.environ["TORCH_LEDGER"], os.O_WRONLY | os.O_APPEND)
    os.write(ledger, f"{json.dumps(entry)}\n".encode())
    os.close(ledger)


def straggle() -> None:
    """Leave a process behind that called setsid, deaf to SIGTERM."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        os._exit(0)
    os.wait()


def main() -> None:
    """Train."""
    note("begin", digest=digest(), pid=os.getpid(), waited="/ahead-" in __file__)
    for step in range(100 if temper() == "wordy" else 1):
        print(f"step {step + 1:05d} ({step + 1:.1f}%) | loss: 4.000000 | remaining: 1s", flush=True)
    time.sleep(seconds(8, 2.0))
    if temper() == "crashing":
        raise RuntimeError("CUDA out of memory")
    if temper() == "hanging":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    if temper() == "straggling":
        straggle()
    print("---", flush=True)
    print(f"val_bpb: {value():.6f}", flush=True)
    print("training_seconds: 1.0", flush=True)
    print("total_seconds: 2.0", flush=True)
    print("peak_vram_mb: 512.0", flush=True)
    note("summary", digest=digest(), value=value())
    time.sleep(seconds(12, 1.0))
    sys.exit(0)


if __name__ == "__main__":
    main()
