"""Prints the table of stand-ins: what doctor says before and after, the experiments, the best, the seconds.

python -m tests.family [--only TEXT] [--said]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.family.shapes import SHAPES, Shape
from tests.family.trial import Trial, try_shape


def tried(shape: Shape) -> Trial:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        return try_shape(shape, Path(folder).resolve() / "user", forks=False)


def line(trial: Trial) -> str:
    walk, shape = trial.walk, trial.shape
    measured = [value for value in walk.values if value is not None]
    best = f"{measured[0]:g} → {walk.best:g}" if measured and walk.best is not None else "-"
    told = ", ".join(f"{walk.statuses.count(word)} {word}" for word in dict.fromkeys(walk.statuses)) or "-"
    verdict = ""
    if not trial.is_right:
        verdict = f"  WRONG: {trial.problem or f'not {shape.wrong} any more'}"
    elif trial.problem:
        verdict = f"  as yet: {trial.problem}"
    steps = "".join(f"\n    {step}" for step in walk.steps)
    return (
        f"{shape.name:40} {walk.before:18} {walk.after:18} {told:40} {best:20} {trial.seconds:4.0f} s"
        f"{verdict[:300]}{steps}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="only shapes with this text in their names")
    parser.add_argument("--said", action="store_true", help="print all that the bot said, too")
    options = parser.parse_args()
    sys.stdout.write(f"{'shape':40} {'doctor before':18} {'after':18} {'experiments':40} {'best':20} time\n")
    trials = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for trial in pool.map(tried, [shape for shape in SHAPES if options.only in shape.name]):
            trials.append(trial)
            sys.stdout.write(line(trial))
            if options.said:
                sys.stdout.write("\n".join((*trial.walk.said, "")))
            sys.stdout.flush()
    wrong = [trial.shape.name for trial in trials if not trial.is_right]
    yet = [trial.shape.name for trial in trials if trial.is_right and trial.problem]
    sys.stdout.write(
        f"{len(trials)} shapes; wrong as yet: {yet or 'none'}; not as expected: {wrong or 'none'}\n"
    )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
