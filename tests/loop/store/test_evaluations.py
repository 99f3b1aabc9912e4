"""Evaluations in the journal, with the stage that they belong to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from loop.evidence import Belief, Evaluation
from loop.experiment import EventKind, Stage
from loop.store.evidence.verdicts import are_evaluated, read_evaluation, record_evaluated
from tests.loop.lab import Lab, value


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    lab = Lab(tmp_path / "lab", value(1.5))
    await lab.engine(value(1.4)).conduct(1)
    yield lab
    lab.close()


def found(lab: Lab, number: int, belief: Belief, k: int = 1, **numbers: float) -> Evaluation:
    return Evaluation(lab.run.id, number, k, 5.0, belief, "because", numbers)


def record(lab: Lab, evaluation: Evaluation | None, *, notice: str = "") -> None:
    number = evaluation.number if evaluation else 1
    evaluated = replace(lab.experiments()[number], stage=Stage.EVALUATED)
    record_evaluated(lab.journal, evaluated, evaluation, notice=notice)


async def test_an_evaluation_is_read_as_it_was_written(lab: Lab) -> None:
    first, second = found(lab, 1, Belief.UNSURE, val_bpb=1.4), found(lab, 1, Belief.BELIEVED, 2)
    for evaluation in (first, second, None):
        record(lab, evaluation, notice="" if evaluation else "people hear")
    assert read_evaluation(lab.journal, lab.run.id, 1) == second
    assert read_evaluation(lab.journal, lab.run.id, 1, 1) == first
    assert read_evaluation(lab.journal, lab.run.id, 0) is None
    last = lab.journal.events_after(0)[-4:]
    kinds = [EventKind.EVALUATED] * 3 + [EventKind.NOTED]
    assert [event.kind for event in last] == kinds
    assert [event.data.get("belief") for event in last] == ["unsure", "believed", None, None]


async def test_a_run_is_evaluated_unless_its_baseline_was_not_believed(lab: Lab) -> None:
    assert not are_evaluated(lab.journal, lab.run.id)
    record(lab, found(lab, 1, Belief.UNSURE))  # a doubt, no evaluation
    assert not are_evaluated(lab.journal, lab.run.id)
    record(lab, found(lab, 1, Belief.NOT_BELIEVED, val_bpb=1.4))  # its baseline is of an earlier release
    assert are_evaluated(lab.journal, lab.run.id)
    record(lab, found(lab, 0, Belief.UNSURE))
    assert not are_evaluated(lab.journal, lab.run.id)
    record(lab, found(lab, 0, Belief.BELIEVED))
    assert are_evaluated(lab.journal, lab.run.id)
