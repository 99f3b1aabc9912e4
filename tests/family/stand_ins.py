"""The programs of the stand-ins, as texts: trainings of some milliseconds, in the forms that forks have.

All fit a polynomial to points by gradient descent. The number of points that a training may look at is fixed,
so a smaller batch means more steps, as with a real budget.
"""

from __future__ import annotations

from collections.abc import Mapping

Files = Mapping[str, str]

LOCK = """\
version = 1
revision = 3
requires-python = ">=3.11"

[[package]]
name = "stand-in"
version = "0.1.0"
source = { virtual = "." }
"""
PROJECT = """\
[project]
name = "stand-in"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = []
"""

_POINTS = '''\
def points(seed, count):
    """Points of a cubic, with some noise."""
    draw = random.Random(seed)
    xs = [draw.uniform(-1, 1) for _ in range(count)]
    return [(x, 0.5 - x + 0.8 * x**3 + draw.gauss(0, 0.05)) for x in xs]
'''
_SCORE = '''\
def evaluate_bpb(weights):
    """Mean squared error of the held-out points, on a scale of bits."""
    rows = load("val")
    error = sum((predict(weights, x) - y) ** 2 for x, y in rows) / len(rows)
    return 1 + 0.5 * math.log2(1 + error)


def predict(weights, x):
    return sum(weight * x**power for power, weight in enumerate(weights))
'''
_FLAT = """\
CACHE_DIR = os.path.join(os.path.expanduser("~"), ".cache", "autoresearch")
DATA_DIR = os.path.join(CACHE_DIR, "data")
TOKENIZER_DIR = os.path.join(CACHE_DIR, "tokenizer")
"""
PREPARE = f'''\
"""One-time preparation of the data, and the fixed evaluation."""

import json
import math
import os
import random

MAX_SEQ_LEN = 2048
TIME_BUDGET = 5
{_FLAT}

{_POINTS}

def load(split):
    with open(os.path.join(TOKENIZER_DIR, "scale.json")) as file:
        scale = json.load(file)
    with open(os.path.join(DATA_DIR, split + ".json")) as file:
        return [(x * scale, y * scale) for x, y in json.load(file)]


{_SCORE}

if __name__ == "__main__":
    os.makedirs(DATA_DIR, exist_ok=True)
    os.makedirs(TOKENIZER_DIR, exist_ok=True)
    for number, split in enumerate(("train", "val")):
        with open(os.path.join(DATA_DIR, split + ".json"), "w") as file:
            json.dump(points(number, 200), file)
    with open(os.path.join(TOKENIZER_DIR, "scale.json"), "w") as file:
        json.dump(1.0, file)
    print("Done! Ready to train.")
'''

_FIT = """\
def fit(rows):
    weights = [0.0] * (DEGREE + 1)
    speed = [0.0] * (DEGREE + 1)
    steps = TOKENS // TOTAL_BATCH_SIZE
    draw = random.Random(42)
    for step in range(steps):
        left = 1 - step / steps
        rate = LEARNING_RATE * min(1.0, left / WARMDOWN_RATIO if WARMDOWN_RATIO else 1.0)
        x, y = draw.choice(rows)
        error = sum(weight * x**power for power, weight in enumerate(weights)) - y
        for power in range(len(weights)):
            speed[power] = MOMENTUM * speed[power] + (1 - MOMENTUM) * error * x**power
            weights[power] -= rate * speed[power]
    return weights, steps
"""
_CONSTANTS = """\
DEGREE = 3               # of the polynomial
LEARNING_RATE = 0.05     # of gradient descent
MOMENTUM = 0.5           # of the steps before
WARMDOWN_RATIO = 0.2     # fraction of the steps in which the rate falls
TOTAL_BATCH_SIZE = 2**16 # tokens of a step
"""
_BLOCK = """\
print("---")
print(f"val_bpb:          {val_bpb:.6f}")
print(f"training_seconds: {time.time() - t_start_training:.1f}")
print(f"total_seconds:    {time.time() - t_start:.1f}")
print(f"peak_vram_mb:     {210.5:.1f}")
print(f"num_steps:        {steps}")
print(f"degree:           {DEGREE}")
"""


def _train(*, imports: str, constants: str = _CONSTANTS, setup: str = "", end: str = _BLOCK) -> str:
    return f"""\
import random
import time

{imports}

TOKENS = 2**22           # that a training looks at

# Hyperparameters
{constants}
t_start = time.time()
{setup}

{_FIT}

t_start_training = time.time()
weights, steps = fit(load("train"))
val_bpb = evaluate_bpb(weights)

{end}"""


_IMPORTS = "from prepare import MAX_SEQ_LEN, TIME_BUDGET, evaluate_bpb, load"

USUAL: Files = {"prepare.py": PREPARE, "train.py": _train(imports=_IMPORTS)}
"""As in most: `prepare.py` with its folders below ~/.cache, `train.py` with a summary block."""

IN_CHECKOUT: Files = {
    **USUAL,
    "prepare.py": PREPARE.replace(
        _FLAT,
        'DATA_DIR = "data"\nTOKENIZER_DIR = "tokenizer"\n',
    ),
    ".gitignore": "/data/\n/tokenizer/\n",
}
"""Data in folders of the checkout that git ignores."""

LOSS: Files = {**USUAL, "train.py": USUAL["train.py"].replace('"val_bpb: ', '"val_loss:')}
"""Another name for the number."""

LOCKED: Files = {**USUAL, "uv.lock": LOCK, "pyproject.toml": PROJECT, ".python-version": "3.11\n"}
"""The same with a lock file, as karpathy/autoresearch has one."""

_BY_NAME = """\
DEFAULT_DATASET = "tinystories"


def _default_cache_dir():
    env_cache = os.environ.get("AUTORESEARCH_CACHE_DIR")
    if env_cache:
        return os.path.expanduser(env_cache)
    return os.path.join(os.path.expanduser("~"), ".cache", "autoresearch")


CACHE_DIR = _default_cache_dir()
DATASETS_DIR = os.path.join(CACHE_DIR, "datasets")


def _folder(kind):
    return os.path.join(DATASETS_DIR, os.environ.get("AUTORESEARCH_DATASET") or DEFAULT_DATASET, kind)
"""
DATASETS: Files = {
    "prepare.py": PREPARE.replace(_FLAT, _BY_NAME)
    .replace("DATA_DIR,", '_folder("data"),')
    .replace("TOKENIZER_DIR,", '_folder("tokenizer"),'),
    "train.py": _train(
        imports=_IMPORTS,
        constants=f"{_CONSTANTS}AUTOTUNE_MAX_MEMORY_FRACTION = 0.90\nVRAM_FLOOR_TOLERANCE_GB = 0.05\n",
    ),
}
"""Data in ~/.cache/autoresearch/datasets/NAME, or where AUTORESEARCH_CACHE_DIR says: autoresearch-win-rtx."""

DEVICE_BATCH: Files = {
    **LOCKED,
    "train.py": _train(
        imports=_IMPORTS,
        constants=_CONSTANTS.replace("2**16", "2**15")
        + "DEVICE_BATCH_SIZE = 16   # reduce if out of memory\n",
        setup="tokens_per_fwdbwd = DEVICE_BATCH_SIZE * MAX_SEQ_LEN\n"
        "assert TOTAL_BATCH_SIZE % tokens_per_fwdbwd == 0\n"
        "grad_accum_steps = TOTAL_BATCH_SIZE // tokens_per_fwdbwd\n",
    ),
}
"""Where the best batch is smaller than the device's: autoresearch-mlx, autoresearch-macos."""

KEY_VALUE: Files = {
    f"examples/minimal/{name}": text
    for name, text in {
        "prepare.py": f"import math\nimport random\n\nTIME_BUDGET = 5\n\n\n{_POINTS}\n\n"
        'def load(split):\n    return points(("train", "val").index(split), 200)\n\n\n'
        f"{_SCORE}",
        "train.py": _train(
            imports="from prepare import evaluate_bpb, load",
            end='print(f"loss={val_bpb - 1:.6f}")\nprint(f"val_bpb={val_bpb:.6f}")\n'
            'print(f"training_seconds={time.time() - t_start_training:.2f}")\nprint(f"num_steps={steps}")\n',
        ),
    }.items()
}
"""A program in a folder of a larger repository, which prints `key=value`: the examples of autoresearch-rl."""

_OWN_DATA = f"""\
import math
import random
import time


{_POINTS}

def load(split):
    return points(("train", "val").index(split), 200)
"""
_VISION = f"""\
{_OWN_DATA}

TOKENS = 2**22

RUN_NAME = "baseline"
{_CONSTANTS}

{_FIT}

started = time.time()
weights, steps = fit(load("train"))
rows = load("val")
near = [abs(sum(w * x**n for n, w in enumerate(weights)) - y) < 0.35 for x, y in rows]
val_accuracy = sum(near) / len(near)
"""
VISION: Files = {
    "train.py": f"""\
{_VISION}
print("---")
print(f"val_accuracy:     {{val_accuracy:.4f}}")
print(f"val_loss:         {{1 - val_accuracy:.4f}}")
print(f"training_seconds: {{time.time() - started:.1f}}")
print(f"checkpoint:       outputs/{{RUN_NAME}}")
""",
    "program.md": "Raise val_accuracy.\n",
}
"""No prepare.py, and a number that should rise: autoresearch-for-vision with a block."""

VISION_LINE: Files = {
    **VISION,
    "train.py": f"""\
{_VISION}
print("precision={{:.4f}} val_accuracy={{:.4f}} loss={{:.4f}}".format(
    val_accuracy, val_accuracy, 1 - val_accuracy))
print(f"output: outputs/{{RUN_NAME}}")
""".replace("{{", "{").replace("}}", "}"),
}
"""The same as it is: all numbers in one line, `key=value key=value`."""

BENCH: Files = {
    "bench.py": f"""\
{_OWN_DATA}

TOKENS = 2**20

{_CONSTANTS}

{_FIT}

rows = load("train")
weights, steps = fit(rows)
error = sum((sum(w * x**n for n, w in enumerate(weights)) - y) ** 2 for x, y in rows) / len(rows)
print(f"METRIC total_us={{1000 + 1000 * math.sqrt(error):.1f}}")
print(f"METRIC steps={{steps}}")
"""
}
"""Neither train.py nor prepare.py, and `METRIC name=value`: the form of pi-autoresearch."""
