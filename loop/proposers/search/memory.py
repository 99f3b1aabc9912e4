"""How much memory a training will take, from what those so far took, and whether the device has it.

Most of it holds what the layers compute, in proportion to depth x width x rows x length, and a rest that does
not grow. With one training the whole is taken to grow, with more a line is fitted. It goes through the best
program's own number, because code may have changed since.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loop.program.constants import LAYERS, Value
from loop.program.demands.requirements import Requirements

_USABLE = 0.95  # of a device: the rest is for the driver and for gaps between blocks
_STEP = 1.3  # times what ran: no more is tried at once where it is unknown how much there is
_MEBIBYTES = re.compile(r"(\d+) MiB")  # as nvidia-smi writes what a GPU has

# Factors of the size, by whole names in capitals. Where the first are not known, the next ones are taken.
_FACTORS: tuple[tuple[frozenset[str], ...], ...] = (
    (LAYERS,),
    (
        frozenset({"MODEL_DIM", "N_EMBD", "D_MODEL", "WIDTH", "EMBED_DIM", "EMBEDDING_DIM"}),
        frozenset({"DIM", "HIDDEN_DIM", "HIDDEN_SIZE"}),
    ),
    (
        frozenset({"DEVICE_BATCH_SIZE", "DEVICE_BATCH", "MICRO_BATCH_SIZE", "MICRO_BATCH"})
        | {"PER_DEVICE_BATCH_SIZE", "BATCH_SIZE_PER_GPU", "PER_DEVICE_TRAIN_BATCH_SIZE"},
        frozenset({"BATCH_SIZE", "BATCH"}),
    ),
    (
        frozenset({"MAX_SEQ_LEN", "SEQ_LEN", "SEQUENCE_LEN", "SEQUENCE_LENGTH", "SEQ_LENGTH", "CONTEXT"})
        | {"BLOCK_SIZE", "CONTEXT_LENGTH", "MAX_LENGTH", "MAX_LEN", "IMAGE_SIZE"},
    ),
)


def size_of(requirements: Requirements, values: Mapping[str, Value]) -> float:
    """Return what a training's memory grows with: depth x width x rows x length, as far as known."""
    size = 1.0
    for names in _FACTORS:
        known = (requirements.amount(each, values) for each in names)
        size *= next((amount for amount in known if amount is not None), 1.0)
    return size


def memory_of(device: str) -> float | None:
    """Return the MiB of the smallest of the GPUs that `nvidia-smi` describes; None where it does not."""
    sizes = [float(size) for size in _MEBIBYTES.findall(device)]
    return min(sizes, default=None)


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """The size of a program, and the MiB that its training took: None where it ran out of memory."""

    size: float
    peak: float | None


@dataclass(frozen=True, slots=True)
class MemoryModel:
    """Peaks in MiB as `base + slope * size`; `limit` is what there is, infinite where that is unknown."""

    base: float = 0.0
    slope: float = 0.0
    limit: float = math.inf

    def peak(self, size: float) -> float:
        return self.base + self.slope * size

    def fits(self, size: float) -> bool:
        return self.peak(size) <= self.limit


def fit_memory(trainings: Sequence[MemoryUse], best: MemoryUse | None, device: float | None) -> MemoryModel:
    """Return what these trainings tell. `best` is the best program's, `device` the MiB that there are.

    What ran fits, and what ran out of memory does not. Where `device` is None, memory grows step by step, and
    no further than half way to what ran out of it.
    """
    known = [(each.size, each.peak) for each in trainings if each.peak]
    if not known:
        return MemoryModel()
    base, slope = _line(known)
    if best is not None and best.peak:
        scale = best.peak / (base + slope * best.size)
        base, slope = base * scale, slope * scale
    largest = base + slope * max(size for size, _ in known)
    full = [base + slope * each.size for each in trainings if each.peak is None]
    least = min((peak for peak in full if peak > largest), default=math.inf)
    if device is None:
        return MemoryModel(base, slope, min(_STEP * largest, (largest + least) / 2))
    return MemoryModel(base, slope, min(max(_USABLE * device, largest), math.nextafter(least, 0)))


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return base and slope, neither below 0, of the line through sizes and peaks."""
    sizes = [size for size, _ in points]
    if len(set(sizes)) > 1:
        slope, base = statistics.linear_regression(sizes, [peak for _, peak in points])
        if slope >= 0 and base >= 0:
            return base, slope
    return 0.0, statistics.median(peak / size for size, peak in points)
