"""Moves of a program whose own text demands something of its constants."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import replace

import pytest

from loop.experiment import Experiment, Status, Training
from loop.program.constants import Value, find_constants
from loop.proposers.protocol import Context
from loop.proposers.search.history import SearchHistory, read_history
from loop.proposers.search.memory import memory_of
from loop.proposers.search.space import BestProgram, Moves, Scalar, find_axes, read_program
from loop.proposers.search.suggest import suggest
from tests.loop.proposers.contexts import context_of, trial

FILES = {"prepare.py": "MAX_SEQ_LEN = 2048\n"}
PROGRAM = textwrap.dedent(
    """
    from prepare import MAX_SEQ_LEN
    DEPTH = 8
    ASPECT_RATIO = 64
    HEAD_DIM = 128
    TOTAL_BATCH_SIZE = 2**15
    DEVICE_BATCH_SIZE = 16
    LR = 0.04
    model_dim = (DEPTH * ASPECT_RATIO + HEAD_DIM - 1) // HEAD_DIM * HEAD_DIM
    model = Model(DEPTH, model_dim, heads=model_dim // HEAD_DIM)
    tokens = DEVICE_BATCH_SIZE * MAX_SEQ_LEN
    assert TOTAL_BATCH_SIZE % tokens == 0
    train(model, TOTAL_BATCH_SIZE // tokens, LR)
    """
)


def program_of(source: str = PROGRAM, frozen: tuple[str, ...] = ()) -> BestProgram:
    return read_program(source, FILES, frozen)


def moves(program: BestProgram, **values: Scalar) -> Moves:
    axes = {axis.key[0]: axis for axis in find_axes(program.constants, ())}
    return tuple((axes[name], value) for name, value in values.items())


def history_of(program: BestProgram, *, device: str = "", peak: float | None = None) -> SearchHistory:
    values: dict[str, object] = dict(program.present)
    baseline = trial(0, "", values, 1.0, Status.KEEP)
    if peak is not None:
        baseline = replace(baseline, training=Training(1, numbers={"peak_vram_mb": peak}))
    return read_history([baseline], find_axes(program.constants, ()), program, memory_of(device))


@pytest.mark.parametrize(("total", "rows"), [(2**14, 8), (2**13, 4), (2**11, 1), (2**16, 16), (2**15, 16)])
def test_a_smaller_batch_brings_the_devices_batch_with_it(total: int, rows: int) -> None:
    program = program_of()
    after = program.after(moves(program, TOTAL_BATCH_SIZE=total, LR=0.05))
    assert (after is None) == (total == 2**15)  # a move that changes nothing is none
    if after is not None:
        assert (after["TOTAL_BATCH_SIZE"], after["DEVICE_BATCH_SIZE"]) == (total, rows)


def test_both_stand_in_the_change() -> None:
    program = program_of()
    change = program.change(moves(program, TOTAL_BATCH_SIZE=2**14))
    assert change.description == "TOTAL_BATCH_SIZE 2**15 → 2**14, DEVICE_BATCH_SIZE 16 → 8"
    assert {c.name: c.value for c in find_constants(change.write())} == change.constants


def test_batch_after_batch_is_halved() -> None:
    source, seen = PROGRAM, []
    for _ in range(4):
        program = program_of(source)
        half = int(str(program.present["TOTAL_BATCH_SIZE"])) // 2
        assert history_of(program).is_open(moves(program, TOTAL_BATCH_SIZE=half))
        source = program.change(moves(program, TOTAL_BATCH_SIZE=half)).write()
        seen.append((half, program_of(source).present["DEVICE_BATCH_SIZE"]))
    assert seen == [(2**14, 8), (2**13, 4), (2**12, 2), (2**11, 1)]
    program = program_of(source)
    assert not history_of(program).is_open(moves(program, TOTAL_BATCH_SIZE=2**10))


def test_a_devices_batch_that_is_frozen_stays() -> None:
    program = program_of(frozen=("DEVICE_BATCH_SIZE",))
    assert not history_of(program).is_open(moves(program, TOTAL_BATCH_SIZE=2**14))


def test_a_devices_batch_alone_is_no_idea() -> None:
    assert "DEVICE_BATCH_SIZE" not in {axis.key[0] for axis in find_axes(program_of().constants, ())}


def test_moves_that_are_rounded_back_are_none() -> None:
    program = program_of()
    history = history_of(program)
    assert not history.is_open(moves(program, ASPECT_RATIO=60))
    assert not history.is_open(moves(program, ASPECT_RATIO=60, LR=0.05))
    assert history.is_open(moves(program, ASPECT_RATIO=70))
    assert not history.is_open(moves(program, ASPECT_RATIO=70, DEPTH=9))
    assert history.is_open(moves(program, ASPECT_RATIO=80, DEPTH=9))


def test_what_will_not_fit_is_not_open() -> None:
    program = program_of()
    device = "NVIDIA A100-SXM4-80GB, 81920 MiB"
    history = history_of(program, device=device, peak=44.0 * 1024)
    assert history.is_open(moves(program, DEPTH=9))
    assert history.is_open(moves(program, DEPTH=10))
    assert not history.is_open(moves(program, ASPECT_RATIO=90, DEPTH=9))
    assert history_of(program, device=device).is_open(moves(program, ASPECT_RATIO=90, DEPTH=9))
    assert history_of(program, peak=44.0 * 1024).is_open(moves(program, ASPECT_RATIO=80))  # a step


def memory(values: Mapping[str, Value]) -> float:
    """MiB that a training takes."""
    depth, aspect, head, rows = (
        int(str(values[name])) for name in ("DEPTH", "ASPECT_RATIO", "HEAD_DIM", "DEVICE_BATCH_SIZE")
    )
    width = -(-depth * aspect // head) * head
    return 4000 + 20000 * depth * width * rows / (8 * 512 * 16)


def test_no_proposal_breaks_a_demand_of_the_program_or_needs_more_memory_than_there_is() -> None:
    def trained(number: int, values: Mapping[str, Value], value: float, status: Status) -> Experiment:
        numbers = Training(1, numbers={"peak_vram_mb": memory(values)})
        return replace(trial(number, "", dict(values), value, status), training=numbers)

    source, trials = PROGRAM, [trained(0, program_of().present, 1.0, Status.KEEP)]
    seen: list[Mapping[str, Value]] = []
    for number in range(1, 19):
        context = replace(context_of(source, *trials), files=FILES, device="NVIDIA A10, 30720 MiB")
        proposal = suggest(context)
        values = {constant.name: constant.value for constant in find_constants(proposal.source)}
        total, rows = (int(str(values[name])) for name in ("TOTAL_BATCH_SIZE", "DEVICE_BATCH_SIZE"))
        assert total % (rows * 2048) == 0
        assert memory(values) < 30720
        seen.append(values)
        kept = number % 6 == 0
        trials.append(
            trained(number, values, 1.0 - number / 1000 * kept, Status.KEEP if kept else Status.DISCARD)
        )
        source = proposal.source if kept else source
    assert min(int(str(values["TOTAL_BATCH_SIZE"])) for values in seen) < 2**15
    assert any(memory(values) > 24000 for values in seen)


def test_a_context_without_the_fixed_files_is_searched_all_the_same() -> None:
    context: Context = context_of(PROGRAM, trial(0, "", dict(program_of().present), 1.0, Status.KEEP))
    assert suggest(context).source != PROGRAM


def test_a_constant_that_the_journal_of_an_older_release_has_not_was_not_moved() -> None:
    source = "DEPTH = 8\nlr = 0.1\nf(lr)\n"
    old = trial(0, "", {"DEPTH": 8}, 1.0, Status.KEEP)
    new = trial(1, "", {"DEPTH": 9, "lr": 0.1}, 1.1, Status.DISCARD)
    program = program_of(source)
    history = read_history([old, new], find_axes(program.constants, ()), program, None)
    assert history.changes == {0: {}, 1: {("DEPTH", -1): (8, 9)}}
