"""An evaluate.py without models: `model.pt` is Python, which sets `value` and perhaps `audit`.

Beside the gate of the laboratory may lie `gate.damaged`, a sentence, and `gate.audit`, which is hidden. It is
started hundreds of times, so it imports little.
"""

from __future__ import annotations

import json
import os
import sys

GATE = os.environ["TORCH_GATE"]


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def write(path: str, found: object) -> None:
    with open(path, "w") as file:
        json.dump(found, file)


def describe() -> None:
    damaged, audit = GATE + ".damaged", GATE + ".audit"
    said = {
        "hidden": [audit] if os.path.exists(audit) else [],
        "audit": "a secret text" if os.path.exists(audit) else "",
        "damaged": read(damaged) if os.path.exists(damaged) else "",
    }
    say(json.dumps(said))


def model(exchange: int) -> None:
    names: dict[str, object] = {"exchange": exchange}
    exec(read("model.pt"), names)
    for _ in sys.stdin:
        os.pwrite(exchange, json.dumps([names["value"], names.get("audit", names["value"])]).encode(), 0)
        say("ready")


def score(exchange: int, out: str, head: str | None) -> None:
    found: dict[str, object] = {
        "prefix": "",
        "refused": "",
        "audit_bpb": None,
        "gain_val": None,
        "gain_audit": None,
    }
    try:
        say("ask")
    except BrokenPipeError:
        pass
    if sys.stdin.readline() != "ready\n":
        found["refused"] = "The model's process gave no answer."
    else:
        val, audit = json.loads(os.pread(exchange, 1000, 0))
        found |= {"val_bpb": val, "audit_bpb": audit, "val_bpb_se": 0.0}
        if head:
            before = json.loads(read(head))
            found |= {"gain_val": before[0] - val, "gain_audit": before[1] - audit}
            found |= {"gain_val_se": 0.0001, "gain_audit_se": 0.0001}
        write(out, [val, audit])
    write(out + ".json", found)


if __name__ == "__main__":
    command, *words = sys.argv[1:]
    options = dict(zip(words[::2], words[1::2], strict=True))
    if command == "describe":
        describe()
    elif command == "model":
        model(int(options["--exchange"]))
    else:
        score(int(options["--exchange"]), options["--out"], options.get("--head"))
