from __future__ import annotations

import ast
import difflib
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import training
from loop.errors import UserError
from loop.program.constants import Literal, find_constants, replace_constants
from loop.program.simplify import Simplification, simplifications

TEMPLATE = (Path(training.__file__).parent / "train.py").read_text()


def found(source: str, *frozen: str) -> list[Simplification]:
    return list(simplifications(textwrap.dedent(source), frozenset(frozen)))


def simpler(source: str) -> tuple[str, str]:
    """What is dropped, in words, and the program that is left, where there is one simplification."""
    (one,) = found(source)
    return one.what, one.source


def test_the_template_can_do_without_factors_cap_decays_ramp_and_floor() -> None:
    changes = {}
    for one in simplifications(TEMPLATE):
        lines = list(difflib.ndiff(TEMPLATE.splitlines(), one.source.splitlines()))
        removed = [line[2:].strip() for line in lines if line.startswith("- ")]
        added = [line[2:].strip() for line in lines if line.startswith("+ ")]
        changes[one.name, one.what] = removed[1:], added
        assert removed[0].startswith(f"{one.name} = ")
        compile(one.source, "train.py", "exec")
    assert changes == {
        ("QK_SCALE", "factor"): (
            ["q, k = norm(rotate(q, cos, sin)) * QK_SCALE, norm(rotate(k, cos, sin))"],
            ["q, k = norm(rotate(q, cos, sin)), norm(rotate(k, cos, sin))"],
        ),
        ("INIT_SCALE", "factor"): (
            ["bound = INIT_SCALE * math.sqrt(3 / self.config.width)"],
            ["bound = math.sqrt(3 / self.config.width)"],
        ),
        ("LOGIT_SOFTCAP", "cap"): (
            ["logits = LOGIT_SOFTCAP * torch.tanh(self.unembedding(norm(x) / LOGIT_SOFTCAP).float())"],
            ["logits = self.unembedding(norm(x)).float()"],
        ),
        ("WEIGHT_DECAY", "regularisation"): (
            ["self.muon.step(factor, 0.85 + (MUON_MOMENTUM - 0.85) * warm, WEIGHT_DECAY * (1 - progress))"],
            ["self.muon.step(factor, 0.85 + (MUON_MOMENTUM - 0.85) * warm, 0.0)"],
        ),
        ("EMBEDDING_DECAY", "regularisation"): (
            ["AdamW([model.embedding.weight], EMBEDDING_LR * wide, ADAM_BETAS, EMBEDDING_DECAY),"],
            ["AdamW([model.embedding.weight], EMBEDDING_LR * wide, ADAM_BETAS, 0.0),"],
        ),
        ("VALUE_DECAY", "regularisation"): (
            ["AdamW([*model.value_embeddings.parameters()], EMBEDDING_LR * wide, ADAM_BETAS, VALUE_DECAY),"],
            ["AdamW([*model.value_embeddings.parameters()], EMBEDDING_LR * wide, ADAM_BETAS, 0.0),"],
        ),
        ("NGRAM_DECAY", "regularisation"): (
            ["AdamW([*model.ngrams.parameters()], NGRAM_LR * wide, ADAM_BETAS, NGRAM_DECAY),"],
            ["AdamW([*model.ngrams.parameters()], NGRAM_LR * wide, ADAM_BETAS, 0.0),"],
        ),
        ("FINAL_LR_FRAC", "term"): (
            ["return left + (1 - left) * FINAL_LR_FRAC"],
            ["return left"],
        ),
        ("MOMENTUM_WARMUP", "ramp"): (
            ["warm = min(1.0, number / max(1, MOMENTUM_WARMUP))"],
            ["warm = 1.0"],
        ),
    }


def test_what_was_switched_on_since_can_be_dropped_again() -> None:
    moved = {"WARMUP_RATIO": 0.1, "FINAL_LR_FRAC": 0.02, "EMBEDDING_DECAY": 0.01}
    source = replace_constants(TEMPLATE, moved)
    sources = {one.name: one.source for one in simplifications(source)}
    assert set(moved) <= set(sources)
    assert "if progress < WARMUP_RATIO:" not in sources["WARMUP_RATIO"]
    assert sources["WARMUP_RATIO"].count("\n") == source.count("\n") - 3
    assert "    return left\n" in sources["FINAL_LR_FRAC"]
    assert "ADAM_BETAS, 0.0)," in sources["EMBEDDING_DECAY"]


@pytest.mark.parametrize(
    ("source", "what", "left"),
    [
        ("AUX = 0.1\nloss = main + AUX * other  # both\n", "term", "loss = main  # both\n"),
        ("AUX = 0.1\nloss = main - other * AUX / 2\n", "term", "loss = main\n"),
        ("AUX = 0.1\nloss = AUX * other + (a if b else c)\n", "term", "loss = a if b else c\n"),
        ("AUX = 0.1\nloss = 2 * (AUX * x + y)\n", "term", "loss = 2 * (y)\n"),
        ("AUX = 0.1\nloss = AUX * x + (y if z else w) - v\n", "term", "loss = (y if z else w) - v\n"),
        ("AUX = 0.1\nloss = y\nloss += AUX * z\nprint(loss)\n", "term", "loss = y\nprint(loss)\n"),
        ("AUX = 0.1\nloss = y\nloss = loss + AUX * z\n", "term", "loss = y\n"),
        ("SCALE = 1.2\nq = f(SCALE * (q + k))\n", "factor", "q = f(q + k)\n"),
        ("SCALE = 1.2\ny = p / (SCALE * (q + k))\n", "factor", "y = p / ((q + k))\n"),
        ("CAP = 15.0\ny = CAP * tanh(x / CAP)\n", "cap", "y = x\n"),
        ("CAP = 15.0\nreturn_ = tanh(f(x + 1) / CAP) * CAP\n", "cap", "return_ = f(x + 1)\n"),
        ("CAP = 15.0\ny = 1 + CAP * tanh((a + b) / CAP)\n", "cap", "y = 1 + (a + b)\n"),
        ("CAP = 15\nx = f()\nx = CAP * tanh(x / CAP)\n", "cap", "x = f()\n"),
        ("CLIP = 1.0\nclip_grad_norm_(p, CLIP)\nstep()\n", "clipping", "step()\n"),
        ("LABEL_SMOOTHING = 0.1\nf(x, s=LABEL_SMOOTHING)\n", "regularisation", "f(x, s=0.0)\n"),
        ("WEIGHT_DECAY = 0.1\np.mul_(1 - lr * WEIGHT_DECAY)\n", "term", "p.mul_(1)\n"),
        ("WARMUP = 30\nlr = min(n / WARMUP, 1)\n", "ramp", "lr = 1.0\n"),
        ("USE_BIAS = True\nm = f(bias=USE_BIAS)\n", "branch", "m = f(bias=False)\n"),
        ("USE_BIAS = True\nm = a if USE_BIAS else b\n", "branch", "m = b\n"),
        ("USE_BIAS = True\nm = 2 * (a if not USE_BIAS else b)\n", "branch", "m = 2 * (a)\n"),
    ],
)
def test_one_constant_and_what_it_stands_in_go(source: str, what: str, left: str) -> None:
    assert simpler(source) == (what, left)


SCHEDULE = """
    WARMUP_RATIO = {warmup}
    WARMDOWN_RATIO = 0.5
    def get_lr_multiplier(progress):
        if progress < WARMUP_RATIO:
            return progress / WARMUP_RATIO if WARMUP_RATIO > 0 else 1.0
        elif progress < 1.0 - WARMDOWN_RATIO:
            return 1.0
        else:
            return (1.0 - progress) / WARMDOWN_RATIO
"""


def test_a_schedule_goes_as_a_whole_or_not_at_all() -> None:
    """As it is in karpathy/autoresearch: the warm-up alone was taken out, and WARMDOWN_RATIO still read."""
    assert found(SCHEDULE.format(warmup=0.0)) == []
    (one,) = found(SCHEDULE.format(warmup=0.1))
    assert (one.name, one.what) == ("WARMUP_RATIO", "ramp")
    scope: dict[str, Callable[[float], float]] = {}
    exec(one.source, scope)
    assert [scope["get_lr_multiplier"](progress) for progress in (0.0, 0.05, 0.75)] == [1.0, 1.0, 0.5]


@pytest.mark.parametrize(
    "source",
    [
        "USE_GATE = True\ndef f(x):\n    if USE_GATE:\n        y = gate(x)\n    return y\n",
        "USE_GATE = True\nif USE_GATE:\n    import gates\nprint(gates)\n",
        "USE_GATE = True\nif USE_GATE:\n    def gate(x):\n        return x\nclass A:\n    g = gate(1)\n",
        "USE_GATE = True\nif x:\n    pass\nif USE_GATE:\n    y = 1\nf = lambda: y\n",
        "AUX = 0.1\nloss += AUX * z\nprint(loss)\n",
    ],
)
def test_no_program_reads_what_went_with_the_constant(source: str) -> None:
    assert found(source) == []
    kept = source.replace("\n", "\nx = y = gate = gates = loss = 1\n", 1)
    if "def f" not in source:  # where the name is one of the function's own
        assert [one.name for one in found(kept)] == [source.split(maxsplit=1)[0]]


def test_the_branches_of_a_switch() -> None:
    source = """
        USE_GATE = True  # or not
        def forward(x):
            # first
            if USE_GATE:
                x = gate(x)
            if not USE_GATE:  # plain
                for y in x:
                    x = plain(y)
            else:
                x = other(x)
            if x:
                pass
            elif done(x):
                pass
            if USE_GATE:
                return x
            elif x:
                return y
            return None
    """
    left = """
        def forward(x):
            # first
            for y in x:
                x = plain(y)
            if x:
                pass
            elif done(x):
                pass
            if x:
                return y
            return None
    """
    assert simpler(source) == ("branch", textwrap.dedent(left))


@pytest.mark.parametrize(
    "source",
    [
        "AUX = 0.0\nloss = main + AUX * other\n",  # off already
        "USE_BIAS = False\nm = f(USE_BIAS)\n",
        "MATRIX_LR = 0.6\nw = w - MATRIX_LR * g\n",  # nothing would be learnt
        "SCALAR_LR = 0.6\nw = f(SCALAR_LR * g)\n",
        "EMA_DECAY = 0.99\nm = f(EMA_DECAY)\n",  # what a mean keeps
        "BETA = 0.8\nm = BETA * m + (1 - BETA) * g\n",
        "DEPTH = 8\nwidth = DEPTH * 64 + 1\n",  # a size
        "STEP = 2\ncount += STEP\n",  # a counter
        "DROPOUT = 0.1\ny = x / DROPOUT\n",
        "AUX = 0.1\nloss = main + AUX * a\nprint(AUX)\n",  # not all uses can go
        "AUX = 0.1\ndef f(AUX):\n    return a + AUX * b\n",  # another one of that name
        "AUX = 0.1\ndef f():\n    AUX = 2\n    return a + AUX * b\n",
        "EVAL_DECAY = 0.1\nf(EVAL_DECAY)\n",  # protected
        "WARMUP = 30\nif step < WARMUP:\n    lr = f(WARMUP)\nf(lr)\n",  # it sets something
        'AUX = 0.1\nprint(f"{x + AUX * y}")\n',
        "AUX = 0.1\ndef f():\n    from other import AUX\n    return a + AUX * b\n",
        "WARMUP = 0.1\nif step < WARMUP:\n    go(WARMUP)\ngo(1)\n",
        "USE_A = True\nif not USE_A: f()\nelse: g()\n",  # on one line
        "USE_A = True\ndef go():\n    if USE_A:\n        f()\n",  # nothing would be left
        'USE_A = True\nif USE_A:\n    g()\nelse:\n    f("""a\n    b""")\n',  # the margin is part of it
        "USE_A = True\nif x:\n    f()\nelif USE_A:\n    g()\n",
        "USE_A = True; m = f(USE_A)\n",
        'PATTERN = "SL"\nf(PATTERN)\n',
        "BETAS = (0.8, 0.9)\nf(BETAS)\n",
        "UNUSED = 0.1\n",
    ],
)
def test_what_is_left_alone(source: str) -> None:
    assert found(source) == []


def test_frozen_names_stay() -> None:
    assert found("AUX = 0.1\nloss = main + AUX * other\n", "AUX") == []


def test_invalid_python_is_a_sentence() -> None:
    with pytest.raises(UserError, match="line 1"):
        found("DEPTH = (")


NAMES = ["AUX", "WEIGHT_DECAY", "WARMUP_RATIO", "USE_GATE", "CAP", "MATRIX_LR", "DEPTH"]
TEXTS = st.recursive(
    st.sampled_from([*NAMES, "x", "y", "f(x)", "1", "-x"]),
    lambda inner: st.one_of(
        st.builds("{} {} {}".format, inner, st.sampled_from(["+", "-", "*", "/", "**", "<", "and"]), inner),
        st.builds("({})".format, inner),
        st.builds("f({}, k={})".format, inner, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("min(1, {})".format, inner),
        st.builds("(not {})".format, inner),
    ),
    max_leaves=8,
)
STATEMENTS = st.one_of(
    st.builds("x = {}".format, TEXTS),
    st.builds("x += {}".format, TEXTS),
    st.builds("if {}:\n    return {}".format, TEXTS, TEXTS),
    st.builds("if {}:\n    x = {}\nelse:\n    y = {}".format, TEXTS, TEXTS, TEXTS),
    st.builds("clip({})".format, TEXTS),
)


@given(st.lists(STATEMENTS, min_size=1, max_size=4), st.sampled_from(["0.1", "0.9", "True", "3", "1.5"]))
def test_every_result_is_a_program_with_one_constant_less(statements: list[str], value: str) -> None:
    body = textwrap.indent("\n".join([*statements, "return x"]), "    ")
    source = "".join(f"{name} = {value}  # {name}\n" for name in NAMES) + f"def step(x, y):\n{body}\n"
    constants = {constant.name: constant.value for constant in find_constants(source)}
    for one in simplifications(source):
        tree = ast.parse(one.source)
        left = {constant.name: constant.value for constant in find_constants(one.source)}
        assert left == {name: constants[name] for name in constants if name != one.name}
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == one.name]


@given(st.lists(st.sampled_from(["AUX", "2", "(x + 3)", "y"]), min_size=2, max_size=4), st.data())
def test_without_a_term_or_a_factor_the_value_is_that_with_0_or_1(
    parts: list[str], data: st.DataObject
) -> None:
    signs = data.draw(st.lists(st.sampled_from(["+", "-", "*"]), min_size=len(parts) - 1, max_size=3))
    text = parts[0] + "".join(f" {sign} {part}" for sign, part in zip(signs, parts[1:], strict=False))
    source = f"AUX = 0.75\nresult = 5 - ({text}) * 7\n"
    for one in simplifications(source):
        neutral = replace_constants(source, {"AUX": Literal("0.0" if one.what == "term" else "1.0")})
        values: list[dict[str, float]] = [{"x": 11.0, "y": 13.0}, {"x": 11.0, "y": 13.0}]
        exec(one.source, values[0])
        exec(neutral, values[1])
        assert values[0]["result"] == pytest.approx(values[1]["result"])
