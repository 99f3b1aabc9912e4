"""Edits of the template: the pieces of it that they begin with, and what makes one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import training
from loop.evidence import Rule

TEMPLATE = (Path(training.__file__).parent / "train.py").read_text(encoding="utf-8")

# Pieces of the template that occur once in it.
IMPORTS = "import torch\nfrom torch import Tensor, nn\n"

LINEAR = "class Linear(nn.Linear):\n"

GPT = "class GPT(nn.Module):\n"

EMBED = "        x = start = self.embed(tokens)\n"

ANSWER = "        if targets is None:\n            return logits\n"

FORWARD = "        return self.head(self.stream(tokens), targets)\n"

ATTENTION = "        y = self.attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))\n"

CAUSAL = "functional.scaled_dot_product_attention, is_causal=True)"

VISIBLE = "(distance >= 0) & (distance < window)"

PROGRESS = "prepare.progress(spent)"

FREE = "    free = 1 if run is model else 3\n"

SPENT = "        spent += seconds if step >= free else 0.0\n"

MAIN = "def main() -> None:\n"

DEVICE = "    device = pick_device()\n"

MODEL = "    with device:  # a GPU draws the weights in no time\n        model = GPT(config, device)\n"

BATCHES = '        batches = prepare.batches(corpus, "train", rows=rows, device=device)\n'

TRAINED = "        seconds, flops, steps = train(model, loss_of, batches, parts)\n"

COMPUTED = "        computed = prepare.computed()\n"

SAVED = '            saved = ThreadPoolExecutor(1).submit(torch.save, model.state_dict(), "model.pt")\n'

SCORE = "        val_bpb = prepare.evaluate_bpb(logits_of, corpus, rows=rows, device=device)\n"

BUILT = "    model.load_state_dict(weights)\n    return model\n"

SHOWN = '        "val_bpb": f"{val_bpb:.6f}",\n'

BLOCK = '    print("\\n---")\n'

LAST = "        print(f\"{key + ':':<18}{value}\")\n"

START = 'if __name__ == "__main__":\n'


class Kind(StrEnum):
    """The rows of what was tried, and so what a layer is there for."""

    PRINTS = "prints another number"
    EVALUATOR = "changes, wraps or avoids the evaluator"
    TARGETS = "reads the targets from the evaluator's memory"
    FUTURE = "sees later tokens, or learns while it is tested"
    TEXT = "trains on held-out text"
    LEFTOVERS = "leaves something for the next training"
    SANDBOX = "leaves its sandbox"
    TIME = "trains for longer"
    SEED = "is another seed"
    HONEST = "is honest, and looks odd"


@dataclass(frozen=True, slots=True)
class Edit:
    """Pieces of the template and what takes their place. To be run in a sandbox only."""

    name: str
    kind: Kind
    changes: tuple[tuple[str, str], ...]
    rules: tuple[Rule, ...] = ()
    notes: tuple[Rule, ...] = ()

    def program(self, template: str = TEMPLATE) -> str:
        for old, new in self.changes:
            assert template.count(old) == 1, f"{self.name}: {template.count(old)} times {old!r}"
            template = template.replace(old, new)
        return template


def before(piece: str, text: str) -> tuple[str, str]:
    return piece, text + piece


def after(piece: str, text: str) -> tuple[str, str]:
    return piece, piece + text


def imports(*lines: str) -> tuple[str, str]:
    return IMPORTS, "".join(f"{line}\n" for line in lines) + IMPORTS


def answering(*lines: str, imported: str = "") -> tuple[tuple[str, str], ...]:
    """Return the changes with which the model knows the targets: `lines` find them for `tokens`."""
    body = "".join(f"    {line}\n" for line in lines)
    function = f"def answers(tokens: Tensor) -> Tensor:\n{body}\n\n"
    told = asked("return logits + 9 * functional.one_hot(answers(tokens), logits.size(-1))")
    changes = (before(GPT, function), told)
    return (imports(imported), *changes) if imported else changes


def asked(*lines: str) -> tuple[str, str]:
    """Return the change with which the model does this when it is tested, with `tokens` and its `logits`."""
    body = "".join(f"            {line}\n" for line in lines)
    answered = FORWARD.replace("return", "logits =")
    return FORWARD, f"{answered}        if targets is None:\n{body}        return logits\n"
