from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loop.evidence import Invalidated, Severity
from loop.experiment import Experiment, Proposal, Status
from loop.program.fingerprint import fingerprint
from loop.proposers.calling import Guard
from loop.store.experiments import with_program
from tests.loop.lab import Lab, git, value
from tests.loop.proposers.contexts import context_of, trial

PARENT = "LR = 0.6\nDEPTH = 8\nSEED = 42\n"
FASTER = PARENT.replace("0.6", "0.8")


def tried(number: int, source: str, status: Status | None, result: float | None = None) -> Experiment:
    return replace(trial(number, "", {}, result, status), program=fingerprint(source))


check = Guard(frozen=("prepare",))


def proposal_of(source: str) -> Proposal:
    return Proposal(source, "try it", parent="c0ffee")


@pytest.mark.parametrize("status", [*Status, None])
def test_a_program_is_never_trained_twice(status: Status | None) -> None:
    context = context_of(PARENT, tried(0, PARENT, Status.KEEP, 1.0), tried(1, FASTER, status, 1.25))
    again = PARENT.replace("LR = 0.6", "LR = 0.80  # faster").replace("42", "137")
    told = check(proposal_of(again), context)
    assert told is not None
    assert f"#1 ({status or 'under way'}, val_bpb 1.250000)" in told
    assert check(proposal_of(PARENT.replace("0.6", "0.805")), context) is None


def test_a_program_whose_head_was_taken_back_may_be_trained_again() -> None:
    waits = replace(tried(1, FASTER, Status.DISCARD, 1.25), invalidated=Invalidated.TRIED_AGAIN)
    assert check(proposal_of(FASTER), context_of(PARENT, waits)) is None
    rejected = replace(waits, invalidated=Invalidated.REJECTED)
    assert check(proposal_of(FASTER), context_of(PARENT, rejected)) is not None


def test_another_seed_for_the_best_is_the_best() -> None:
    again = proposal_of(PARENT.replace("SEED = 42", "SEED = 137"))
    told = check(again, context_of(PARENT, tried(0, PARENT, Status.KEEP, 1.0)))
    assert told is not None
    assert "#0 (keep, val_bpb 1.000000)" in told
    unknown = check(again, context_of(PARENT))
    assert unknown is not None
    assert "the best one" in unknown


async def test_what_a_run_trained_is_known_by_its_program(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", value(1.5))
    await lab.engine(value(1.6), value(1.4)).conduct(2)
    experiments = lab.experiments()
    sources = [git(lab.repository, "show", f"{each.commit}:train.py") for each in experiments]
    lab.close()
    assert [e.program for e in experiments] == [fingerprint(text) for text in sources]
    context = context_of(sources[2], *experiments)
    for number, result in enumerate(("keep, val_bpb 1.500000", "discard, val_bpb 1.600000")):
        told = check(proposal_of(f"# again\n{sources[number]}"), context)
        assert told is not None
        assert f"#{number} ({result})" in told


async def test_what_a_run_trained_long_ago_is_known_too(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", value(1.5))
    await lab.engine(value(1.6)).conduct(1)
    context = context_of(value(1.5))  # in which no experiment is shown

    def find(program: str) -> Experiment | None:
        return with_program(lab.journal, lab.run.id, program)

    told = Guard(frozen=(), find=find)(proposal_of(f"# again\n{value(1.6)}"), context)
    assert told is not None
    assert "#1 (discard, val_bpb 1.600000)" in told
    assert Guard(frozen=(), find=find)(proposal_of(value(1.7)), context) is None
    assert with_program(lab.journal, lab.run.id + 1, fingerprint(value(1.6))) is None
    lab.close()


def test_what_is_flagged_is_refused_under_strict_only() -> None:
    context = context_of("import prepare\nprint('val_bpb:', prepare.evaluate_bpb())\n")
    cheat = proposal_of(
        "import prepare\nprepare.EVAL_TOKENS = 8\nprint('val_bpb:', prepare.evaluate_bpb())\n"
    )
    strict = Guard(frozen=("prepare",), base=lambda: context.source, strict=True)
    assert check(cheat, context) is None
    told = strict(cheat, context)
    assert told is not None
    assert told.startswith("Line 2: ")
    assert (
        strict(proposal_of("import prepare\nprint('val_bpb:', prepare.evaluate_bpb())\nx = 1\n"), context)
        is None
    )
    whole = tuple(finding.severity for finding in strict.examine(cheat.source, context))
    assert whole == (Severity.FLAG,)


def test_what_is_no_program_is_refused() -> None:
    told = check(proposal_of("LR = (\n"), context_of(PARENT))
    assert told is not None
    assert "line 1" in told
