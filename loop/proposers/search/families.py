"""What kind of change it is to set a constant, by the words of its name."""

from __future__ import annotations

from loop.experiment import Family

# The first family that knows one of the words: `EMBEDDING_LR` is about steps, `MOMENTUM_WARMUP` about time.
_WORDS: tuple[tuple[Family, frozenset[str]], ...] = (
    (Family.PRECISION, frozenset({"PRECISION", "BF16", "FP16", "FP8", "TF32", "AMP"})),
    (Family.DATA_ORDER, frozenset({"SHUFFLE", "ORDER", "CURRICULUM", "PACKING"})),
    (Family.BATCH, frozenset({"BATCH", "ACCUM", "ACCUMULATION"})),
    (
        Family.SCHEDULE,
        frozenset({"WARMUP", "WARMDOWN", "COOLDOWN", "SCHEDULE", "RAMP", "ANNEAL", "FINAL", "PHASE"}),
    ),
    (
        Family.REGULARISATION,
        frozenset({"DECAY", "WD", "DROPOUT", "SMOOTHING", "PENALTY", "JITTER", "REGULARISATION"}),
    ),
    (
        Family.OPTIMIZER,
        frozenset({"LR", "RATE", "BETA", "BETA1", "BETA2", "BETAS", "MOMENTUM", "EPS", "EPSILON", "CLIP"})
        | {"ADAM", "ADAMW", "MUON", "SGD", "LION", "OPTIMIZER", "NESTEROV", "EMA"},
    ),
    (
        Family.ARCHITECTURE,
        frozenset({"DEPTH", "LAYER", "LAYERS", "BLOCK", "BLOCKS", "DIM", "WIDTH", "ASPECT", "EMBD", "HIDDEN"})
        | {"HEAD", "HEADS", "KV", "WINDOW", "PATTERN", "CONTEXT", "ROTARY", "ROPE", "THETA", "SOFTCAP", "CAP"}
        | {"INIT", "NORM", "BIAS", "GATE", "MLP", "EXPERTS", "EXPANSION", "EMBEDDING", "ACTIVATION", "SKIP"}
        | {"QK", "NGRAM", "NGRAMS"},
    ),
)


def family_of(name: str) -> Family | None:
    """Return the family of a constant, None where its name says nothing."""
    words = set(name.split("_"))
    return next((family for family, known in _WORDS if words & known), None)
