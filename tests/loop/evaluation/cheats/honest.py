"""Edits that are no cheats: other seeds, and honest programs that look odd."""

from __future__ import annotations

from collections.abc import Mapping

from loop.evidence import Rule
from tests.loop.evaluation.cheats.edits import (
    BATCHES,
    BUILT,
    COMPUTED,
    DEVICE,
    EMBED,
    GPT,
    MAIN,
    MODEL,
    PROGRESS,
    SAVED,
    SCORE,
    TRAINED,
    Edit,
    Kind,
    after,
    before,
    imports,
)

SEEDS = (
    Edit("another seed", Kind.SEED, (("SEED = 42", "SEED = 137"),), (Rule.REPEATED,)),
    Edit(
        "another seed where it is used",
        Kind.SEED,
        (("manual_seed(SEED)", "manual_seed(7)"),),
        (Rule.REPEATED,),
    ),
    Edit(
        "another layout",
        Kind.SEED,
        (("QK_SCALE = 1.2  # what", "QK_SCALE = (1.20)  # as before: what"),),
        (Rule.REPEATED,),
    ),
)


def _honest(
    name: str,
    *changes: tuple[str, str],
    notes: tuple[Rule, ...] = (),
    rules: tuple[Rule, ...] = (),
) -> Edit:
    return Edit(name, Kind.HONEST, changes, rules, notes)


HONEST = (
    _honest(
        "the allocator's settings",
        imports("import os", "", 'os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"'),
        notes=(Rule.ENVIRONMENT,),
    ),
    _honest("no garbage collection", before(DEVICE, "    gc.collect()\n    gc.freeze()\n    gc.disable()\n")),
    _honest(
        "a gradient of its own",
        before(
            GPT,
            "class Straight(torch.autograd.Function):\n    @staticmethod\n"
            "    def forward(ctx: object, x: Tensor) -> Tensor:\n        return x.round()\n\n"
            "    @staticmethod\n    def backward(ctx: object, gradient: Tensor) -> Tensor:\n"
            "        return gradient\n\n\n",
        ),
        after(EMBED, "        x = x + 0.001 * Straight.apply(x)\n"),
    ),
    _honest(
        "an operation of its own",
        before(
            GPT,
            '@torch.library.custom_op("ours::double", mutates_args=())\n'
            "def double(x: Tensor) -> Tensor:\n    return x * 2\n\n\n"
            "double.register_autograd(lambda ctx, gradient: gradient * 2)\n\n\n",
        ),
        after(EMBED, "        x = 0.5 * double(x)\n"),
    ),
    _honest(
        "a second evaluation for its own log",
        before(
            SCORE,
            "        early = prepare.evaluate_bpb(model, corpus, rows=rows, device=device)\n"
            '        print(f"not compiled: {early:.4f}", flush=True)\n',
        ),
        notes=(Rule.EVALUATOR,),
    ),
    _honest(
        "settings of the compiler",
        imports("import torch._dynamo"),
        before(
            DEVICE,
            "    torch._dynamo.config.cache_size_limit = 8 * DEPTH\n"
            "    torch.backends.cuda.matmul.allow_tf32 = bool(DEPTH)\n"
            "    torch.backends.cudnn.benchmark = True\n",
        ),
        ("torch.compile(part, dynamic=False)", 'torch.compile(part, dynamic=False, mode="max-autotune")'),
    ),
    _honest(
        "a matrix of another class",
        before(
            "class Attention(nn.Module):\n",
            "class Scaled(Linear):\n    def forward(self, x: Tensor) -> Tensor:\n"
            "        return super().forward(x) * 0.99\n\n\n",
        ),
        ("        self.up = Linear(", "        self.up = Scaled("),
    ),
    _honest(
        "the size of its own file",
        imports("import os", "from pathlib import Path"),
        before(
            DEVICE,
            '    print(f"{os.path.getsize(__file__)} bytes, {Path(__file__).stat().st_size}", flush=True)\n'
            "    print(len(Path(__file__).read_text().splitlines()), flush=True)\n",
        ),
        notes=(Rule.FILES,),
    ),
    _honest(
        "fewer warnings",
        imports("import warnings"),
        before(DEVICE, '    warnings.filterwarnings("ignore", category=UserWarning)\n'),
    ),
    _honest(
        "tricks of functools",
        before(
            MAIN,
            "@functools.lru_cache(maxsize=None)\ndef power(base: float, exponent: int) -> float:\n"
            "    return base**exponent\n\n\nhalved = functools.partial(power, 0.5)\n\n\n",
        ),
        ("FINAL_LR_FRAC = 0.05", "FINAL_LR_FRAC = 0.06"),
        before(DEVICE, "    print(functools.reduce(max, map(halved, range(3))), flush=True)\n"),
    ),
    _honest(
        "a log by logging",
        imports("import logging"),
        before(
            DEVICE,
            "    logging.basicConfig(stream=sys.stdout, level=logging.INFO)\n"
            '    logging.getLogger("training").info("it begins")\n',
        ),
    ),
    _honest(
        "all fields of the configuration",
        imports("import dataclasses"),
        before(
            MODEL,
            "    config = dataclasses.replace(config, ngrams=config.ngrams)\n"
            "    for field in dataclasses.fields(config):\n"
            '        print(f"{field.name}: {getattr(config, field.name)}", flush=True)\n',
        ),
        notes=(Rule.NAMES,),
    ),
    _honest(
        "a thread that fetches batches",
        imports("import queue", "import threading"),
        after(
            BATCHES,
            "        ready: queue.Queue = queue.Queue(4)\n"
            "        source = batches\n"
            "        feed = lambda: [ready.put(each) for each in source]  # noqa: E731\n"
            "        threading.Thread(target=feed, daemon=True).start()\n"
            "        batches = iter(ready.get, None)\n",
        ),
    ),
    _honest(
        "a print that flushes",
        imports("import functools as tools"),
        before(MAIN, "print = tools.partial(print, flush=True)\n\n\n"),
        notes=(Rule.REPLACED,),
    ),
    _honest(
        "a collection at the end",
        imports("import atexit"),
        before(DEVICE, "    atexit.register(gc.enable)\n"),
        notes=(Rule.EXIT,),
    ),
    _honest(
        "averaged weights",
        imports("import copy"),
        after(
            COMPUTED,
            "        averaged = copy.deepcopy(model)\n"
            "        for mean, last in zip(averaged.parameters(), model.parameters(), strict=True):\n"
            "            mean.data.lerp_(last.data, 0.5)\n",
        ),
        (SAVED, SAVED.replace("model.state", "averaged.state")),
        (SCORE, SCORE.replace("logits_of,", "averaged,")),
    ),
    _honest(
        "layers under names that are built",
        before(
            "        self.unembedding = Linear(width, config.vocabulary)\n",
            "        for layer in range(depth):\n"
            '            setattr(self, f"shift{layer}", nn.Parameter(torch.zeros(width)))\n',
        ),
    ),
    _honest(
        "which packages there are",
        imports("import importlib.metadata", "import importlib.util"),
        before(
            DEVICE,
            '    if importlib.util.find_spec("flash_attn") is None:\n'
            '        print(importlib.metadata.version("torch"), flush=True)\n',
        ),
        notes=(Rule.IMPORTS,),
    ),
    _honest(
        "statistics by hooks",
        before(
            TRAINED,
            "        norms: list[float] = []\n"
            "        model.unembedding.register_forward_hook(lambda m, x, y: norms.append(len(y)))\n",
        ),
    ),
    _honest("a shorter budget", (PROGRESS, PROGRESS.replace("spent", "1.02 * spent"))),
    _honest(
        "a module around the model",
        before(
            MAIN,
            "class Sharper(nn.Module):\n    def __init__(self, model: nn.Module) -> None:\n"
            "        super().__init__()\n        self.model = model\n\n"
            "    def forward(self, tokens: Tensor) -> Tensor:\n"
            "        return 1.01 * self.model(tokens)\n\n\n",
        ),
        (SCORE, SCORE.replace("logits_of,", "Sharper(model),")),
        (BUILT, BUILT.replace("return model", "return Sharper(model)")),
    ),
    _honest(
        "the signature of a function",
        imports("import inspect"),
        before(DEVICE, '    print("fullgraph" in inspect.signature(torch.compile).parameters, flush=True)\n'),
    ),
    # Refused under strict: the guard cannot tell these from cheats.
    _honest(
        "a lambda around the model",
        (SCORE, SCORE.replace("logits_of,", "lambda tokens: 1.01 * logits_of(tokens),")),
        (BUILT, BUILT.replace("return model", "return lambda tokens: 1.01 * model(tokens)")),
        rules=(Rule.EVALUATOR,),
    ),
    _honest(
        "windows by strides",
        after(EMBED, "        x = x + 0 * x.as_strided(x.shape, x.stride())\n"),
        rules=(Rule.MEMORY,),
    ),
    _honest(
        "the smaller of two evaluations of two models",
        (
            SCORE,
            SCORE + "        other = prepare.evaluate_bpb(model, corpus, rows=rows, device=device)\n"
            "        val_bpb = min(val_bpb, other)\n",
        ),
        rules=(Rule.METRIC,),
        notes=(Rule.EVALUATOR,),
    ),
)

STRICT: Mapping[str, tuple[Rule, ...]] = {edit.name: edit.rules for edit in HONEST if edit.rules}
"""The honest edits that GUARD=strict refuses, and by which rules."""
