"""The template's evaluator, measured: what it costs, and how well it agrees with what the training printed.

Run it with `python -m tests.benchmarks.evaluation --seconds 60 --data DIR [--seeds 42 1]`, on a GPU or a CPU.
DIR has the text as `.txt` or parquet files; without it, the standard library is learnt. Each seed is trained,
then evaluated twice; the model of the first seed is the head of the others.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bot.setup.template import Profile, template_files
from loop.logs.summary import read_summary
from loop.program.constants import replace_constants
from tests.benchmarks.training import has_gpu
from tests.training.evaluating import evaluate

_COLUMNS = (
    ("val_bpb", 10), ("val_bpb_se", 12), ("audit_bpb", 11), ("gain_val", 10), ("gain_val_se", 13),
    ("gain_audit", 12), ("gain_audit_se", 15), ("apart", 10),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of training (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="folder of the text")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1], metavar="SEED")
    parser.add_argument("--profile", choices=["gpu", "cpu"], help="default: what the machine has")
    parser.add_argument("--cache", type=Path, help="where prepared text lies from before, or shall stay")
    arguments = parser.parse_args()
    profile: Profile = arguments.profile or ("gpu" if has_gpu() else "cpu")
    files = template_files(profile, arguments.seconds)
    source = str(arguments.data.resolve()) if arguments.data else "python"
    files["prepare.py"] = replace_constants(files["prepare.py"], {"SOURCE": source})
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        own = {"AUTORESEARCH_CACHE": str((arguments.cache or folder / "cache").resolve())}

        def python(*command: str) -> str:
            done = subprocess.run(
                [sys.executable, *command],
                cwd=folder,
                env=os.environ | own,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            return done.stdout

        python("prepare.py")
        start = time.monotonic()
        described = python("evaluate.py", "describe")
        print(f"describe ({time.monotonic() - start:.1f} s): {described}")
        print(
            f"{'seed':>5}{'printed':>10}{'seconds':>9}{'wall':>7}"
            + "".join(f"{name:>{width}}" for name, width in _COLUMNS)
        )
        head: Path | None = None
        for seed in arguments.seeds:
            changed = replace_constants(files["train.py"], {"SEED": seed})
            (folder / "train.py").write_text(changed, encoding="utf-8")
            printed = read_summary(python("train.py"))["val_bpb"]
            for secret in (1, 2):
                start = time.monotonic()
                out = folder / f"{seed}-{secret}.npz"
                found = evaluate(folder, folder, out, head=head, seed=secret, environment=own)
                wall = time.monotonic() - start
                numbers = [(found[name], width) for name, width in _COLUMNS]
                row = "".join(f"{'' if x is None else f'{x:.6f}':>{width}}" for x, width in numbers)
                print(f"{seed:>5}{printed:>10.6f}{found['seconds']:>9.1f}{wall:>7.1f}{row}", flush=True)
                if refused := found["refused"] or found["prefix"]:
                    print(refused, found.model_said[-1000:])
            head = head or out


if __name__ == "__main__":
    main()
