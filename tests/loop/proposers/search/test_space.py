from __future__ import annotations

from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.program.constants import find_constants, is_protected, write_value
from loop.proposers.search.space import Axis, Scalar, find_axes


def axes_of(*lines: str, frozen: tuple[str, ...] = ()) -> tuple[Axis, ...]:
    return find_axes(find_constants("\n".join(lines)), frozen)


def ladder_of(line: str) -> tuple[Scalar, ...]:
    """The values that the one constant of `line` may take."""
    (axis,) = axes_of(line)
    return axis.ladder


@pytest.mark.parametrize(
    "name",
    [
        "TIME_BUDGET",
        "TRAIN_SECONDS",
        "SEED",
        "DATA_SEED",
        "EVAL_TOKENS",
        "EVAL_BATCH_SIZE",
        "VAL_SHARD",
        "DEVICE",
        "DEVICE_BATCH_SIZE",
        "CUDA_GRAPHS",
        "CACHE_DIR",
        "DATA_PATH",
        "LOG_EVERY",
        "VERSION",
        "VOCAB_SIZE",
        "BOS_ID",
        "MAX_STEPS",
        "NUM_ITERATIONS",
        "EPOCHS",
        "UNTIMED_STEPS",
        "H100_BF16_PEAK_FLOPS",
        "AUTOTUNE_WARMUP_STEPS",
        "MAX_MEMORY_FRACTION",
        "VRAM_FLOOR_GB",
        "NUM_WORKERS",
        "MICRO_BATCH",
    ],
)
def test_budget_seed_score_machine_and_files_are_left_alone(name: str) -> None:
    assert is_protected(name)
    assert axes_of(f"{name} = 3") == ()


@pytest.mark.parametrize(
    "name",
    ["WARMUP_STEPS", "GRAD_ACCUM_STEPS", "BATCH_TOKENS", "EMBEDDING_LR", "RUNTIME_LR", "OUTPUT_SCALE"],
)
def test_what_only_sounds_like_it_is_varied(name: str) -> None:
    assert [axis.constant.name for axis in axes_of(f"{name} = 3")] == [name]


def test_frozen_names_are_left_alone() -> None:
    axes = axes_of("DEPTH = 8", "BETAS = (0.8, 0.95)", "LR = 0.1", frozen=("DEPTH", "BETAS"))
    assert [axis.key for axis in axes] == [("LR", -1)]


def test_a_rate_has_round_values_on_both_sides() -> None:
    ladder = ladder_of("EMBEDDING_LR = 0.6")
    assert ladder == (0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 1.8)


def test_a_negative_rate_mirrors_its_positive() -> None:
    assert ladder_of("SLOPE = -1.5") == (
        -4.0,
        -3.5,
        -3.0,
        -2.5,
        -2.0,
        -1.8,
        -1.5,
        -1.2,
        -1.0,
        -0.9,
        -0.8,
        -0.7,
        -0.6,
        -0.5,
    )


def test_a_value_between_round_ones_keeps_its_place() -> None:
    ladder = ladder_of("UNEMBEDDING_LR = 0.0047")
    place = ladder.index(0.0047)
    assert ladder[place - 1 : place + 2] == (0.004, 0.0047, 0.005)


def test_a_fraction_stays_between_nothing_and_all() -> None:
    assert ladder_of("WARMDOWN_RATIO = 0.9") == (0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    assert ladder_of("FINAL_LR_FRAC = 0.05")[0] == 0.0
    assert ladder_of("THRESHOLD = 0.5") == tuple(round(0.05 * step, 10) for step in range(4, 17))
    assert ladder_of("DROPOUT = 1")[-2:] == (0.95, 1)


@pytest.mark.parametrize(
    "line", ["ADAM_BETA2 = 0.95", "MUON_MOMENTUM = 0.95", "EMA_DECAY = 0.999", "KEEP = 0.99"]
)
def test_a_memory_near_one_moves_by_its_rest(line: str) -> None:
    (axis,) = axes_of(line)
    rests = [1 - float(value) for value in axis.ladder]
    rest = 1 - float(axis.current)
    assert all(rest / 3.01 < other < rest * 3.01 for other in rests)


def test_each_element_of_a_tuple_is_an_axis() -> None:
    first, second = axes_of("ADAM_BETAS = (0.8, 0.95)")
    assert (first.current, second.current) == (0.8, 0.95)
    assert second.moved(0.99, (0.8, 0.95)) == (0.8, 0.99)
    assert second.read({"ADAM_BETAS": (0.7, 0.9)}) == 0.9
    assert second.read({"ADAM_BETAS": [0.7, 0.9]}) == 0.9
    assert second.read({"ADAM_BETAS": 0.9}) is None
    assert second.read({}) is None


@pytest.mark.parametrize(
    ("line", "ladder"),
    [
        ("TOTAL_BATCH_SIZE = 2**19", (2**18, 2**19, 2**20)),
        ("HEAD_DIM = 128", (64, 128, 256)),
        ("HEAD_DIM = 256", (128, 256)),
        ("head_size = 256\nf(head_size)", (128, 256)),
        ("config = {'n_layer': 8}", (6, 7, 8, 9, 10)),
        ("p.add_argument('--weight-decay', default=0.0)", (0.0, 0.001, 0.01, 0.1)),
        ("N_EMBD = 384", (192, 384, 768)),
        ("WIDTH = 75", (75, 150)),
        ("DEPTH = 8", (6, 7, 8, 9, 10)),
        ("DEPTH = 1", (1, 2, 3)),
        ("N_HEAD = 32", (16, 30, 31, 32, 33, 34, 64)),
        ("SOFTCAP = 15", (8, 9, 10, 12, 15, 18, 20, 25, 30)),
        ("WARMUP_RATIO = 0.0", (0.0, 0.02, 0.05, 0.1)),
        ("WEIGHT_DECAY = 0.0", (0.0, 0.001, 0.01, 0.1)),
        ("WARMUP_STEPS = 0", (0, 10, 30, 100)),
        ("EXTRA = 0", (0, 1, 2)),
        ("USE_BIAS = False", (False, True)),
    ],
)
def test_ladders(line: str, ladder: tuple[Scalar, ...]) -> None:
    assert ladder_of(line) == ladder


@pytest.mark.parametrize(
    "line",
    [
        "LOOKBACK = -1",
        'ACTIVATION = "relu"',
        'NORM = "RMS"',
        'MODE = "AABBCCDD"',
        "EPS = 1e-300",
        "X = 10**40",
    ],
)
def test_markers_and_plain_words_are_left_alone(line: str) -> None:
    assert axes_of(line) == ()


def test_a_pattern_changes_by_one_letter() -> None:
    ladder = ladder_of('WINDOW_PATTERN = "SSSL"')
    assert ladder[0] == "SSSL"
    assert {"SSSSL", "SSL", "SLSL", "SSSS"} <= set(ladder) | {"SSSS"}
    assert all(isinstance(word, str) and set(word) <= {"S", "L"} for word in ladder)


SL, SML = frozenset("SL"), frozenset("SML")


@pytest.mark.parametrize(
    ("pattern", "letters", "found"),
    [
        ("L", (), set()),
        ("SSSL", (), set("SL")),
        ("L", (SL,), set("SL")),
        ("SSSL", (SL, SML), set("SML")),
        ("SSSL", (frozenset("LX"),), set("SL")),
    ],
)
def test_a_pattern_has_only_letters_that_the_program_tells_apart(
    pattern: str, letters: tuple[frozenset[str], ...], found: set[str]
) -> None:
    axes = find_axes(find_constants(f'WINDOW_PATTERN = "{pattern}"'), (), letters)
    assert {letter for axis in axes for word in axis.ladder for letter in str(word)} == found


def test_patterns_that_give_the_same_layers_are_one() -> None:
    _, axis = axes_of("DEPTH = 2", 'WINDOW_PATTERN = "SL"')
    assert axis.ladder == ("SL", "L")


def test_places_between_and_beyond_the_steps() -> None:
    (axis,) = axes_of("DEPTH = 8")
    assert [axis.place(value) for value in (6, 7.5, 10)] == [0, 1.5, 4]
    assert [axis.place(value) for value in (-1e300, 5, 11, 10**400)] == [0, 0, 4, 4]
    assert axis.place("eight") is None
    assert axis.place(float("nan")) is None
    (pattern,) = axes_of('WINDOW_PATTERN = "SSSL"')
    assert pattern.place("SSSL") == 0
    assert pattern.place("XX") is None


@given(
    name=st.sampled_from(["LR", "DEPTH", "WIDTH", "RATIO", "BETA", "X", "WINDOW_PATTERN", "WARMUP_STEPS"]),
    value=st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**200), 2**200)
    | st.text(max_size=20),
)
def test_every_ladder_is_finite_holds_the_value_and_keeps_its_kind(
    name: str, value: float | int | str
) -> None:
    for axis in axes_of(f"{name} = {write_value(value)}"):
        assert axis.current == value
        assert 1 < len(axis.ladder) == len(set(axis.ladder)) < 60
        assert value in axis.ladder
        assert all(isinstance(step, str) == isinstance(value, str) for step in axis.ladder)
        if axis.ordered:
            numbers = [float(step) for step in axis.ladder]
            assert numbers == sorted(numbers)
            assert all(map(isfinite, numbers))
            assert all(step >= 0 for step in numbers) or float(value) < 0
            assert [axis.place(step) for step in axis.ladder] == list(range(len(numbers)))
