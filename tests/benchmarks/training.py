"""The training template as it is, measured: how fast it trains and how far it comes.

Run it with `python -m tests.benchmarks.training --seconds 60 --data DIR [--seeds 42 1 7]`, on a GPU or a CPU.
DIR has the text as `.txt` or parquet files; without it, the standard library is learnt. At first there are no
compiled kernels: the first training starts cold, the others warm. Prints a line a training, and the medians.
"""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields

from loop.logs.summary import read_summary
from tests.benchmarks.prepared import prepared

_TIMED = """\
import json, runpy, time
started = time.perf_counter()
import prepare, torch
imported = time.perf_counter() - started
score = prepare.evaluate_bpb
def timed(*arguments, **named):
    start = time.perf_counter()
    try:
        return score(*arguments, **named)
    finally:
        print("benchmark", json.dumps({"imports": imported, "evaluation": time.perf_counter() - start}))
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
    memory_gib: float
    imports_s: float
    first_s: float  # the first step, with its compilation
    evaluation_s: float
    beside_s: float  # the whole process less the training


def figures(log: str, wall: float) -> Figures:
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
        memory_gib=summary["peak_vram_mb"] / 1024,
        imports_s=timed["imports"],
        first_s=first / 1000,
        evaluation_s=timed["evaluation"],
        beside_s=wall - summary["training_seconds"],
    )


def table(rows: Sequence[tuple[str, Figures]]) -> str:
    """The trainings under each other, and their medians."""
    names = [field.name for field in fields(Figures)]
    values = [(label, [getattr(row, name) for name in names]) for label, row in rows]
    median = [statistics.median(column) for column in zip(*(row for _, row in values), strict=True)]
    head = f"{'training':<10}" + "".join(f"{name:>13}" for name in names)
    lines = [
        f"{label:<10}{bpb:>13.4f}" + "".join(f"{value:>13,.1f}" for value in others)
        for label, (bpb, *others) in [*values, ("median", median)]
    ]
    return "\n".join([head, *lines])


def apart(fast: Sequence[float], slow: Sequence[float]) -> str:
    """How far two loss curves lie apart."""
    between = [abs(one - other) for one, other in zip(fast, slow, strict=True)]
    mean, last = statistics.mean(between), statistics.mean(between[-10:])
    return f"{mean:.4f} in the mean, {max(between):.4f} at most, {last:.4f} in the last ten"


def main() -> None:
    with prepared(__doc__) as template:
        rows: list[tuple[str, Figures]] = []
        for seed in template.seeds:
            template.set_seed(seed)
            start = time.monotonic()
            row = figures(template.python("-c", _TIMED), time.monotonic() - start)
            rows.append((f"{seed} {'warm' if rows else 'cold'}", row))
            print(f"seed {seed}: val_bpb {row.val_bpb:.4f}", flush=True)
        print(f"\n{template.profile} profile, {template.seconds:g} s, {template.source}")
        print(table(rows), flush=True)
        loader = float(template.python("-c", _LOADER))
        print(f"A batch takes the loader {loader:.1f} ms.", flush=True)
        curves = json.loads(template.python("-c", _CURVES).splitlines()[-1])
        print(f"Nats between the losses and those of plain float32: {apart(*curves)}")


if __name__ == "__main__":
    main()
