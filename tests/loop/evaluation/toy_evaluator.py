"""An evaluate.py without models: `model.pt` is Python, which sets `value` and perhaps `audit`.

Beside the gate of the laboratory may lie `gate.damaged`, a sentence, and `gate.audit`, which is hidden.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

GATE = os.environ["TORCH_GATE"]


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def describe() -> None:
    damaged, audit = Path(GATE + ".damaged"), Path(GATE + ".audit")
    said = {
        "hidden": [str(audit)] if audit.exists() else [],
        "audit": "a secret text" if audit.exists() else "",
        "damaged": damaged.read_text() if damaged.exists() else "",
    }
    say(json.dumps(said))


def model(exchange: int) -> None:
    names: dict[str, Any] = {"exchange": exchange}
    exec(Path("model.pt").read_text(), names)
    for _ in sys.stdin:
        os.pwrite(exchange, json.dumps([names["value"], names.get("audit", names["value"])]).encode(), 0)
        say("ready")


def score(options: argparse.Namespace) -> None:
    found: dict[str, Any] = {
        "prefix": "",
        "refused": "",
        "audit_bpb": None,
        "gain_val": None,
        "gain_audit": None,
    }
    with suppress(BrokenPipeError):
        say("ask")
    if sys.stdin.readline() != "ready\n":
        found["refused"] = "The model's process gave no answer."
    else:
        val, audit = json.loads(os.pread(options.exchange, 1000, 0))
        found |= {"val_bpb": val, "audit_bpb": audit, "val_bpb_se": 0.0}
        if options.head:
            before = json.loads(options.head.read_text())
            found |= {"gain_val": before[0] - val, "gain_audit": before[1] - audit}
            found |= {"gain_val_se": 0.0001, "gain_audit_se": 0.0001}
        options.out.write_text(json.dumps([val, audit]))
    Path(str(options.out) + ".json").write_text(json.dumps(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("--exchange", type=int)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--head", type=Path)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    if options.command == "describe":
        describe()
    elif options.command == "model":
        model(options.exchange)
    else:
        score(options)
