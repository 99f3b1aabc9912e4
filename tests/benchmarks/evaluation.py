"""The template's evaluator, measured: what it costs, and how well it agrees with what the training printed.

Run it with `python -m tests.benchmarks.evaluation --seconds 60 --data DIR [--seeds 42 1]`, on a GPU or a CPU.
DIR has the text as `.txt` or parquet files; without it, the standard library is learnt. Each seed is trained,
then evaluated twice; the model of the first seed is the head of the others.
"""

from __future__ import annotations

import time
from pathlib import Path

from loop.logs.summary import read_summary
from tests.benchmarks.prepared import Prepared, prepared
from tests.training.evaluating import evaluate

_COLUMNS = (
    ("val_bpb", 10), ("val_bpb_se", 12), ("audit_bpb", 11), ("gain_val", 10), ("gain_val_se", 13),
    ("gain_audit", 12), ("gain_audit_se", 15), ("apart", 10),
)  # fmt: skip


def main() -> None:
    with prepared(__doc__) as template:
        start = time.monotonic()
        described = template.python("evaluate.py", "describe")
        print(f"describe ({time.monotonic() - start:.1f} s): {described}")
        print(
            f"{'seed':>5}{'printed':>10}{'seconds':>9}{'wall':>7}"
            + "".join(f"{name:>{width}}" for name, width in _COLUMNS)
        )
        head: Path | None = None
        for seed in template.seeds:
            template.set_seed(seed)
            printed = read_summary(template.python("train.py"))["val_bpb"]
            out = evaluate_twice(template, seed, printed, head)
            head = head or out


def evaluate_twice(template: Prepared, seed: int, printed: float, head: Path | None) -> Path:
    """Print what two evaluations of the trained model find; return the losses of the second."""
    folder = template.folder
    for secret in (1, 2):
        start = time.monotonic()
        out = folder / f"{seed}-{secret}.npz"
        found = evaluate(folder, folder, out, head=head, seed=secret, environment=template.own)
        wall = time.monotonic() - start
        numbers = [(found[name], width) for name, width in _COLUMNS]
        row = "".join(f"{'' if x is None else f'{x:.6f}':>{width}}" for x, width in numbers)
        print(f"{seed:>5}{printed:>10.6f}{found['seconds']:>9.1f}{wall:>7.1f}{row}", flush=True)
        if refused := found["refused"] or found["prefix"]:
            print(refused, found.model_said[-1000:])
    return out


if __name__ == "__main__":
    main()
