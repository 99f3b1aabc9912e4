"""The training template as it is, measured: how fast it trains and how far it comes.

Run it with `python -m tests.benchmarks.training --seconds 60 --data DIR [--seeds 42 1 7]`, on a GPU or a CPU.
DIR has the text as `.txt` or parquet files; without it, the standard library is learnt. At first there are no
compiled kernels: the first training starts cold, the others warm. Prints a line a training, and the medians.
Exit status 1: the losses were further from those of plain float32 than `APART` allows.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields

from loop.logs.summary import read_summary
from tests.benchmarks.prepared import prepared

_TIMED = """\
import json, resource, runpy, time
started = time.perf_counter()
import prepare, torch
imported = time.perf_counter() - started
score = prepare.evaluate_bpb
def timed(*arguments, **named):
    start = time.perf_counter()
    try:
        return score(*arguments, **named)
    finally:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        took = time.perf_counter() - start
        print("benchmark", json.dumps({"imports": imported, "evaluation": took, "memory": memory}))
prepare.evaluate_bpb = timed
runpy.run_path("train.py", run_name="__main__")
"""
"""Starts train.py as a user does and tells the seconds that its summary does not."""

_LOADER = """\
import itertools, statistics, time
import prepare, train
source = prepare.batches(prepare.Corpus(), "train", rows=train.split_batch()[0], device=train.pick_device())
clock, taken = time.perf_counter(), []
for _ in itertools.islice(source, 50):
    now = time.perf_counter()
    clock, taken = now, [*taken, now - clock]
print(1000 * statistics.median(taken))
"""

_CURVES = """\
import dataclasses, json
import prepare, torch, train
device = train.pick_device()
torch.manual_seed(1)
config = train.config_for(device)
with device:
    fast = train.GPT(config, device)
    slow = train.GPT(dataclasses.replace(config, dtype=torch.float32), device)
slow.load_state_dict(fast.state_dict())
def losses(model, run):
    optimizer = train.Optimizer(model)
    batches = prepare.batches(prepare.Corpus(), "train", rows=8, device=device)
    for step in range(60):
        yield train.gradients(run, batches, 1).item()
        optimizer.step(step, 0.0)
        model.zero_grad(set_to_none=True)
run = train.compiled(fast)[0] if device.type == "cuda" else fast
print(json.dumps([list(losses(fast, run)), list(losses(slow, slow))]))
"""
"""The losses of 60 steps as train.py computes them and by plain float32, from the same weights."""

APART = 0.03, 0.02
"""Nats between them, at most: in the mean, and in the mean of the last ten steps. An H200: 0.011, 0.005."""

_COLD = "cold"  # ends the label of a training that has nothing compiled yet
_STARTS = ("imports_s", "first_s", "evaluation_s", "beside_s")  # columns in which that makes a difference

_STEP = re.compile(r"^step \d+ .* dt: (\d+)ms \| tok/sec: ([\d,]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one training came to."""

    val_bpb: float
    steps: float
    tokens_m: float  # millions
    tokens_s: float  # a second of training, the median
    step_ms: float  # the median of those that were printed
    step_p95: float
    mfu: float  # per cent
    memory_gib: float  # of the accelerator; of the process where there is none
    loader_ms: float  # a batch, by the loader alone
    imports_s: float
    first_s: float  # the first step, with its compilation
    evaluation_s: float
    beside_s: float  # the whole process less the training


def figures(log: str, wall: float, loader_ms: float) -> Figures:
    """The figures of a training that took `wall` seconds in all and printed `log`."""
    summary = read_summary(log)
    timed = json.loads(re.findall(r"^benchmark (.*)$", log, re.MULTILINE)[-1])
    steps = [(int(milliseconds), int(speed.replace(",", ""))) for milliseconds, speed in _STEP.findall(log)]
    first, usual = steps[0][0], steps[1:] or steps
    return Figures(
        val_bpb=summary["val_bpb"],
        steps=summary["num_steps"],
        tokens_m=summary["total_tokens_M"],
        tokens_s=statistics.median(speed for _, speed in usual),
        step_ms=statistics.median(milliseconds for milliseconds, _ in usual),
        step_p95=sorted(milliseconds for milliseconds, _ in usual)[int(0.95 * len(usual))],
        mfu=summary["mfu_percent"],
        memory_gib=(summary["peak_vram_mb"] or timed["memory"]) / 1024,
        loader_ms=loader_ms,
        imports_s=timed["imports"],
        first_s=first / 1000,
        evaluation_s=timed["evaluation"],
        beside_s=wall - summary["training_seconds"],
    )


def table(rows: Sequence[tuple[str, Figures]]) -> str:
    """The trainings under each other, and their medians, those of the start without the cold one."""
    names = [field.name for field in fields(Figures)]
    values = [(label, [getattr(row, name) for name in names]) for label, row in rows]
    warm = [row for label, row in rows if not label.endswith(_COLD)]
    usual = {name: warm or [row for _, row in rows] for name in _STARTS}
    everything = [row for _, row in rows]
    median = [statistics.median(getattr(row, name) for row in usual.get(name, everything)) for name in names]
    head = f"{'training':<10}" + "".join(f"{name:>13}" for name in names)
    lines = [
        f"{label:<10}{bpb:>13.4f}" + "".join(f"{value:>13,.1f}" for value in others)
        for label, (bpb, *others) in [*values, ("median", median)]
    ]
    return "\n".join([head, *lines])


def apart(fast: Sequence[float], slow: Sequence[float]) -> tuple[float, float, float]:
    """How far two loss curves lie apart: in the mean, at most, and in the mean of the last ten steps."""
    between = [abs(one - other) for one, other in zip(fast, slow, strict=True)]
    return statistics.mean(between), max(between), statistics.mean(between[-10:])


def main() -> None:
    with prepared(__doc__) as template:
        loader = float(template.python("-c", _LOADER))
        rows: list[tuple[str, Figures]] = []
        for seed in template.seeds:
            template.set_seed(seed)
            start = time.monotonic()
            row = figures(template.python("-c", _TIMED), time.monotonic() - start, loader)
            rows.append((f"{seed} {'warm' if rows else _COLD}", row))
            print(f"seed {seed}: val_bpb {row.val_bpb:.4f}", flush=True)
        print(f"\n{template.profile} profile, {template.seconds:g} s, {template.source}")
        print(table(rows), flush=True)
        mean, most, last = apart(*json.loads(template.python("-c", _CURVES).splitlines()[-1]))
        between = f"{mean:.4f} in the mean, {most:.4f} at most, {last:.4f} in the last ten"
        print(f"Nats between the losses and those of plain float32: {between}")
        print(f"Allowed are {APART[0]} in the mean and {APART[1]} in the last ten.")
        sys.exit(mean > APART[0] or last > APART[1])


if __name__ == "__main__":
    main()
