from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.program.constants import Value, find_constants, is_protected, replace_constants, words_of

PROGRAM = textwrap.dedent(
    """
    import argparse
    from dataclasses import dataclass, field

    BATCH = 2**5
    lr = 3e-4  # größer: schneller
    hyper = {"momentum": 0.9, "model": {"depth": 8}}
    settings = dict(width=64)

    @dataclass
    class Config:
        n_layer: int = 12
        dropout: float = field(default=0.1)
        betas: tuple[float, float] = (0.9, 0.95)
        names: list[str] = field(default_factory=list)

    class TrainArgs:
        clip = 1.0

    parser = argparse.ArgumentParser()
    parser.add_argument("-w", "--weight-decay", type=float, default=0.01)
    parser.add_argument("--use-bias", action="store_true", default=False)
    args = parser.parse_args()

    def train(lr, config, more):
        return lr * config.n_layer * TrainArgs.clip

    if __name__ == "__main__":
        steps_of_warmup = 100
        train(lr, Config(), steps_of_warmup)
    """
)
VALUES: dict[str, Value] = {
    "BATCH": 32,
    "lr": 3e-4,
    "hyper.momentum": 0.9,
    "hyper.model.depth": 8,
    "settings.width": 64,
    "Config.n_layer": 12,
    "Config.dropout": 0.1,
    "Config.betas": (0.9, 0.95),
    "TrainArgs.clip": 1.0,
    "--weight-decay": 0.01,
    "--use-bias": False,
    "steps_of_warmup": 100,
}


def values_of(source: str) -> dict[str, Value]:
    return {constant.name: constant.value for constant in find_constants(source)}


def test_every_place_has_a_name_that_people_know() -> None:
    assert values_of(PROGRAM) == VALUES


numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)


@given(st.dictionaries(st.sampled_from(sorted(VALUES)), numbers | st.booleans() | st.text(max_size=8)))
def test_a_replacement_changes_these_literals_and_nothing_else(changes: dict[str, Value]) -> None:
    result = replace_constants(PROGRAM, changes)
    assert values_of(result) == {**VALUES, **changes}
    assert around(result) == around(PROGRAM)
    for before, after in zip(find_constants(PROGRAM), find_constants(result), strict=True):
        assert before.text == after.text or before.name in changes


def around(source: str) -> bytes:
    """The program without the values of its constants."""
    data = source.encode()
    for constant in reversed(find_constants(source)):
        data = data[: constant.start] + b"..." + data[constant.end :]
    return data


@pytest.mark.parametrize(
    "source",
    [
        "lr = 0.1",  # nobody reads it
        "lr = 0.1\nprint(lr)",
        "lr = 0.1\ndef f(lr): return lr",
        "lr = 0.1\ndef f():\n    lr = 2\n    return lr",
        "lr = 0.1\nlr = 0.2\nf(lr)",
        "step = 0\nwhile True:\n    step += 1",
        "_lr = 0.1\nf(_lr)",
        "if fast:\n    lr = 0.1\nf(lr)",
        "def main():\n    lr = 0.1\n    f(lr)",
        "if __name__ == '__main__':\n    LR = 0.1",
        "if __name__ == '__main__':\n    if fast:\n        lr = 0.1\n    f(lr)",
        # Dictionaries
        "labels = {'cat': 0}\nf(labels)",
        "config = {'lr': 0.1}\nconfig['lr'] = 0.2",
        "config = {'lr': 0.1}\nconfig[key] = 0.2",
        "config = {'lr': 0.1}\nconfig.update(lr=0.2)",
        "config = {'model': {'lr': 0.1}}\nconfig['model'].update(more)",
        "config = {'lr': 0.1}\nconfig = {}",
        "config = {'lr': 0.1, 'lr': 0.2}",
        "config = {'lr': [0.1], 2: 0.1, **more}",
        # Classes
        "class Config:\n    lr = 0.1",
        "@dataclass\nclass Config:\n    lr: float = 0.1\nConfig(0.2)",
        "@dataclass\nclass Config:\n    lr: float = 0.1\nConfig(lr=0.2)",
        "@dataclass\nclass Config:\n    lr: float = 0.1\nConfig(**more)",
        "@dataclass\nclass Config:\n    lr: float = 0.1\nConfig(*more)",
        "@dataclass\nclass Config:\n    lr: float = 0.1\nconfig = Config()\nconfig.lr = 0.2",
        "@dataclass\nclass Config:\n    lr: float = 0.1\nsetattr(Config(), 'lr', 0.2)",
        "@dataclass\nclass Config:\n    lr: float = 0.1\nreplace(Config(), lr=0.2)",
        "@dataclass\nclass Config:\n    lr: float = 0.1\n    def f(self):\n        self.lr = 2\nConfig()",
        "@dataclass\nclass Config:\n    lr: float = 0.1\n    lr: float = 0.2\nConfig()",
        "class Kind(Enum):\n    ONE = 1\nKind(1)",
        "class Block(nn.Module):\n    expansion = 4\nBlock()",
        "class Block:\n    expansion = 4\nBlock()",
        # Options
        "p.add_argument('--lr', default=0.1)\nargs.lr = 0.2",
        "p.add_argument('--max-lr', dest='peak', default=0.1)\nargs.peak = 0.2",
        "p.add_argument('--lr', default=0.1)\np.set_defaults(lr=0.2)",
        "p.add_argument('--lr', default=0.1)\nq.add_argument('--lr', default=0.2)",
        "p.add_argument('--size', default=3, choices=[1, 3])",
        "p.add_argument('lr', default=0.1)",
        "p.add_argument('--lr', type=float)",
        "p.add_argument('--lr', default=f(0.1))",
    ],
)
def test_what_is_set_elsewhere_too_or_says_nothing_is_no_constant(source: str) -> None:
    assert values_of(source) == {}


def test_a_class_may_set_an_attribute_of_its_own_of_the_same_name() -> None:
    source = "@dataclass\nclass Config:\n    width: int = 8\n\nclass Model:\n    def f(self, config):\n"
    assert values_of(f"{source}        self.width = config.width\nModel().f(Config())") == {"Config.width": 8}


def test_a_field_that_every_call_gives_has_no_default() -> None:
    source = "@dataclass\nclass Config:\n    width: int = 8\n    depth: int = 2\nConfig(4)"
    assert values_of(source) == {"Config.depth": 2}


@pytest.mark.parametrize("name", ["seed", "--seed", "Config.seed", "data.batch_size", "--num-workers"])
def test_names_are_protected_by_their_words_in_every_form(name: str) -> None:
    assert is_protected(name)


def test_words() -> None:
    assert words_of("Config.n_layer") == {"CONFIG", "N", "LAYER"}
    assert words_of("--batch-size") == {"BATCH", "SIZE"}
