from __future__ import annotations

import ast
import contextlib
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.program.fingerprint import fingerprint
from loop.program.seed import seed_of, with_seed
from tests.loop.program.test_fingerprint import TEMPLATE

seeds = st.integers(0, 2**63)

OF_ITS_OWN = [
    "SEED = 7",
    "RANDOM_SEED: int = 7",
    "import torch; SEED=7; torch.manual_seed(SEED)",
    "seed = (7)",
    "@dataclass\nclass Config:\n    width: int = 5\n    seed: int = 7\n",
    "@dataclass\nclass Config:\n    seed: int = field(default=7)\n",
    "torch.manual_seed(7)",
    "set_seed(seed=7)",
    "def main():\n    if True:\n        torch.cuda.manual_seed_all(0x7)\n",
    "def main():\n    seed = 7\n    torch.manual_seed(seed)\n",
    "parser.add_argument('--seed', type=int, default=7)",
    "key = jax.random.PRNGKey(7)",
    "'größe 🙂'; SEED = 7  # größer",
]
WITHOUT = [
    "",
    "SEED = None",
    "SEED = True",
    "SEED = 7.0",
    "SEED = int(os.environ.get('SEED', 7))",
    "VAL_SEED = 7",
    "SPLIT_SEED = 7",
    "N_SEEDS = 7",
    "SEEDS = 7",
    "SEEDLINGS = 7",
    "torch.manual_seed(SEED + 7)",
    "batches = random.Random(7)",
    "parts = data.train_test_split(seed=7)",
    "parser.add_argument('--val-seed', type=int, default=7)",
    "parser.add_argument('--seed', type=int)",
    "class Config:\n    seed: int = field(init=False)",
    "def main(:",
    "SEED = 7\0",
]


@settings(max_examples=10)
@given(seeds)
def test_the_template_with_another_seed_is_the_same_but_for_one_number(seed: int) -> None:
    changed = with_seed(TEMPLATE, seed)
    assert changed == TEMPLATE.replace("SEED = 42", f"SEED = {seed}")
    assert seed_of(changed) == seed
    assert with_seed(changed, 42) == TEMPLATE


@pytest.mark.parametrize("source", OF_ITS_OWN)
def test_every_way_to_write_a_seed(source: str) -> None:
    assert seed_of(source) == 7
    assert seed_of(with_seed(source, 11)) == 11
    assert with_seed(source, 7).replace("0x7", "7") == source.replace("0x7", "7")


@pytest.mark.parametrize("source", WITHOUT)
def test_what_is_no_seed_of_the_program_is_left_alone(source: str) -> None:
    assert seed_of(source) is None
    assert with_seed(source, 11) == source


def test_a_constant_comes_before_what_calls_have() -> None:
    source = "SEED = 7\nbatches = torch.Generator().manual_seed(3)\n"
    assert with_seed(source, 11) == source.replace("7", "11")


def test_all_generators_get_the_seed() -> None:
    source = "random.seed(1)\nnp.random.seed(2)\ntorch.manual_seed(3)\n"
    assert seed_of(source) == 1
    assert with_seed(source, 11) == "random.seed(11)\nnp.random.seed(11)\ntorch.manual_seed(11)\n"


lines = st.sampled_from(
    [
        *OF_ITS_OWN,
        *WITHOUT[:-2],
        "X = '\u2028\x0b'",
        "Y = 'ü🙂'; SEED = 7",
        "SEED = 1_0",
        "SEED = -3",
        "'''\n'''",
    ]
)


@given(
    parts=st.lists(lines, max_size=6),
    seed=seeds,
    mark=st.sampled_from(["", "\ufeff"]),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_only_whole_numbers_change_and_the_program_stays_the_same(
    parts: list[str], seed: int, mark: str, newline: str
) -> None:
    source = mark + "\n".join(textwrap.dedent(part) for part in parts).replace("\n", newline)
    changed = with_seed(source, seed)
    assert fingerprint(changed) == fingerprint(source)
    if seed_of(source) is None:
        assert changed == source
    else:
        assert seed_of(changed) == seed
        assert with_seed(changed, seed) == changed


@given(st.text(max_size=80) | st.text("SED=eds()manul_.:\n 0123456789x-+#'\"", max_size=80))
def test_no_text_is_too_odd(source: str) -> None:
    changed = with_seed(source, 5)
    if changed != source:
        ast.parse(changed.removeprefix("\ufeff"))
    with contextlib.suppress(UnicodeEncodeError):
        source.encode()
        assert (seed_of(source) is None) <= (changed == source)
