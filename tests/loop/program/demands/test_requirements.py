from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.errors import UserError
from loop.program.constants import Value, find_constants
from loop.program.demands.requirements import Requirements, known_letters, read_requirements

PREPARE = {"prepare.py": "MAX_SEQ_LEN = 2048\n", "program.md": "# A text\n", "broken.py": "X = ("}

# Written for these tests in the form that many repositories have.
PROGRAM = textwrap.dedent(
    """
    import math
    from dataclasses import dataclass
    from prepare import MAX_SEQ_LEN

    ASPECT_RATIO = 64
    HEAD_DIM = 128
    WINDOW_PATTERN = "SSSL"
    TOTAL_BATCH_SIZE = 2**17
    DEVICE_BATCH_SIZE = 64
    WARMUP = 0.0
    DEPTH = 8
    OPTIMIZER = "muon"

    @dataclass
    class Shape:
        n_layer: int = 12
        n_embd: int = 768
        windows: str = "L"

    class Model:
        def __init__(self, shape):
            self.n_layer = shape.n_layer
            pattern = shape.windows.upper()
            assert all(letter in "SL" for letter in pattern)

    def shape_of(depth):
        base = depth * ASPECT_RATIO
        width = ((base + HEAD_DIM - 1) // HEAD_DIM) * HEAD_DIM
        return Shape(n_layer=depth, n_embd=width, windows=WINDOW_PATTERN)

    model = Model(shape_of(DEPTH))
    tokens = DEVICE_BATCH_SIZE * MAX_SEQ_LEN
    assert TOTAL_BATCH_SIZE % tokens == 0, "no multiple"
    steps = TOTAL_BATCH_SIZE // tokens
    if OPTIMIZER == "muon":
        train(steps, WARMUP)
    elif OPTIMIZER == "adam":
        train(steps, WARMUP)
    else:
        raise ValueError(OPTIMIZER)
    print(f"aspect {ASPECT_RATIO}")
    """
)


def requirements_of(source: str, files: dict[str, str] | None = None) -> Requirements:
    found = read_requirements(textwrap.dedent(source), files or {})
    assert found is not None
    return found


def with_values(source: str, **changed: Value) -> dict[str, Value]:
    return {constant.name: constant.value for constant in find_constants(textwrap.dedent(source))} | changed


def broken(source: str, files: dict[str, str] | None = None, /, **changed: Value) -> set[str]:
    return set(requirements_of(source, files).broken(with_values(source, **changed)))


def has_effect(source: str, name: str, **changed: Value) -> bool:
    return requirements_of(source).has_effect(name, with_values(source, **changed))


@pytest.mark.parametrize(
    ("changed", "about"),
    [
        ({}, set()),
        ({"TOTAL_BATCH_SIZE": 2**18}, set()),
        ({"TOTAL_BATCH_SIZE": 2**16}, {"TOTAL_BATCH_SIZE", "DEVICE_BATCH_SIZE"}),
        ({"TOTAL_BATCH_SIZE": 2**16, "DEVICE_BATCH_SIZE": 32}, set()),
        ({"DEVICE_BATCH_SIZE": 48}, {"TOTAL_BATCH_SIZE", "DEVICE_BATCH_SIZE"}),
        ({"WINDOW_PATTERN": "SSL"}, set()),
        ({"WINDOW_PATTERN": "sl"}, set()),
        ({"WINDOW_PATTERN": "SXL"}, {"WINDOW_PATTERN"}),
        ({"OPTIMIZER": "adam"}, set()),
        ({"OPTIMIZER": "sgd"}, {"OPTIMIZER"}),
        ({"DEPTH": 9, "ASPECT_RATIO": 57, "HEAD_DIM": 64}, set()),
    ],
)
def test_what_assertions_conditions_and_divisions_demand(changed: dict[str, Value], about: set[str]) -> None:
    assert broken(PROGRAM, PREPARE, **changed) == about


def test_what_another_file_holds_is_unknown_without_it() -> None:
    assert broken(PROGRAM, TOTAL_BATCH_SIZE=2**16) == set()
    assert broken(PROGRAM, {"prepare.py": "MAX_SEQ_LEN = size()"}, TOTAL_BATCH_SIZE=2**16) == set()


@pytest.mark.parametrize(
    "source",
    [
        "import prepare\nassert A % (B * prepare.T) == 0",
        "from prepare import T\nif A % (B * T) != 0:\n    raise ValueError",
        "from prepare import T as time\nif A % (B * time):\n    exit(1)",
        "import prepare as p, sys\nif not A % (B * p.T) == 0:\n    sys.exit('no')",
        "from prepare import T\nparts = A // (B * T)",
        "from prepare import T\ndef parts(rows):\n    assert A % (rows * T) == 0\nparts(B)",
        "from prepare import T\ndef rest(a, b):\n    return a % b\nassert rest(A, B * T) == 0",
        "from prepare import T\ndef f(rows=B):\n    assert A % (rows * T) == 0\nf()",
        "from prepare import T\nassert A // T in [B * n for n in range(99)]",
        "from prepare import T\nif ready:\n    with torch.no_grad():\n        assert not A % (B * T)",
        "from prepare import T\nassert A > 0 and A % (B * T) == 0",
        "from prepare import T\nassert max(A % (B * T), min(0, 1)) == 0",
        "import math\nfrom prepare import T\nassert math.gcd(A, B * T) == B * T",
    ],
)
def test_demands_in_many_forms(source: str) -> None:
    program = f"A = 2**15\nB = 16\n{source}"
    files = {"prepare.py": "T = 2048"}
    assert broken(program, files, A=2**14) == {"A", "B"}
    assert broken(program, files, A=2**16) == set()


@pytest.mark.parametrize(
    "source",
    [
        "assert A % 7 == 3",  # does not hold now: it is not understood
        "assert A % unknown == 0",
        "try:\n    assert A == 64\nexcept AssertionError:\n    A2 = 1",
        "if __debug__:\n    pass\nwhile A != 64:\n    pass",
        "B = 64\nB = f(B)\nassert A % B == 0",
        "for B in range(9, 99):\n    assert A % B == 0",
        "def f(B):\n    assert A % B == 0\nf(64)\nf(x)",
        "parts = (A + 63) // 64",
        "half = A // 2",
        "assert A.bit_length() == 7",
        "assert 'a' * 10**9 != A",
        "assert 2 ** (A * 10**6) > 1",
        "assert 1 << A * 10**9 > 1",
        "assert A / 0 == 0",
        "X = Y\nY = X\nassert A % X == 0",
        "raise ValueError",
    ],
)
def test_what_is_not_understood_demands_nothing(source: str) -> None:
    assert broken(f"A = 64\n{source}\n", A=65) == set()


def test_heads_divide() -> None:
    source = "N_EMBD = 384\nN_HEAD = 6\nhead_dim = N_EMBD // N_HEAD\n"
    assert broken(source, N_HEAD=5) == {"N_EMBD", "N_HEAD"}
    assert broken(source, N_EMBD=768, N_HEAD=8) == set()
    own = "class A:\n    def __init__(self, config):\n        assert config.n_embd % config.n_head == 0\n"
    lower = "@dataclass\nclass Config:\n    n_embd: int = 384\n    n_head: int = 6\nA(Config())\n"
    assert broken(own + lower, **{"Config.n_head": 7}) == {"Config.n_embd", "Config.n_head"}
    options = "p.add_argument('--n-embd', default=384)\np.add_argument('--n-head', default=6)\n"
    assert broken(own + options, **{"--n-head": 7}) == {"--n-embd", "--n-head"}
    entries = "config = {'n_embd': 384, 'n_head': 6}\nassert config['n_embd'] % config['n_head'] == 0\n"
    assert broken(entries, **{"config.n_head": 7}) == {"config.n_embd", "config.n_head"}


def test_a_value_that_is_rounded_back_has_no_effect() -> None:
    assert not has_effect(PROGRAM, "ASPECT_RATIO", ASPECT_RATIO=60)
    assert has_effect(PROGRAM, "ASPECT_RATIO", ASPECT_RATIO=70)
    assert not has_effect(PROGRAM, "ASPECT_RATIO", ASPECT_RATIO=70, DEPTH=9)  # 576 and 630 are 640
    assert has_effect(PROGRAM, "DEPTH", ASPECT_RATIO=70, DEPTH=9)
    assert has_effect(PROGRAM, "HEAD_DIM", HEAD_DIM=384)
    assert not has_effect(PROGRAM, "HEAD_DIM", HEAD_DIM=256)
    assert not has_effect(PROGRAM, "DEPTH")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("f(A)", True),
        ("A", True),
        ("f(x / A)", True),
        ("b = A\nf(b)", True),
        ("b = A // 64\nf(b)", False),
        ("b = A // 64\nb = g(b)\nf(b)", False),
        ("b = A // 64\nf(A)", True),
        ("b = A // 64\nf(f'{A}')", True),
        ("b = A\nf(globals())", True),
        ("b = A // 64\nf(vars())", True),
        ("f(min(A, 32))", False),
        ("f(A if A > 99 else 5)", False),
        ("b: int = A // 64\nf(b)\nprint(A)", False),
        ("print(A)", True),
        ("assert A > 3", True),  # used nowhere: nothing is known of it
        ("", True),
    ],
)
def test_effects(source: str, expected: bool) -> None:
    assert has_effect(f"A = 64\n{source}\n", "A", A=65) is expected


@pytest.mark.parametrize(
    "source",
    [
        'assert all(c in "SML" for c in PATTERN)',
        'windows = {"S": short, "M": 2 * short, "L": long}',
        "known = set('SML')",
        'if c == "S":\n    pass\nelif c == "M" or c == "L":\n    pass',
        'match c:\n    case "S": pass\n    case "M": pass\n    case "L": pass',
    ],
)
def test_letters_that_a_program_tells_apart_are_known(source: str) -> None:
    assert known_letters(f"{source}\nmode = {{'x': 1, 'LONG': 2}}\n") == (frozenset("SML"),)


def test_a_program_that_cannot_be_read_has_no_requirements() -> None:
    assert known_letters("A = (") == ()
    assert read_requirements("A = (", {}) is None
    with pytest.raises(UserError):
        Requirements("A = (", {})


@given(st.text(alphabet="AB=%()[]:\n 0.,+-*/<>'\"", max_size=60))
def test_any_text_does_no_harm(text: str) -> None:
    found = read_requirements(f"A = 2\nB = 3\nassert A\n{text}", {})
    if found is not None:
        values = with_values(f"A = 2\nB = 3\nassert A\n{text}")
        assert found.broken(values) == frozenset()
