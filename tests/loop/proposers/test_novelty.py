from __future__ import annotations

import contextlib
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

import training
from loop.errors import UserError
from loop.experiment import Experiment, Proposal, Status
from loop.program.constants import find_constants, replace_constants
from loop.program.fingerprint import fingerprint
from loop.proposers.novelty import Novelty
from loop.proposers.protocol import Context
from loop.proposers.search.space import find_axes
from loop.store.experiments import with_program
from tests.loop.lab import Lab, git, value
from tests.loop.proposers.contexts import context_of, trial

PARENT = textwrap.dedent(
    """
    LR = 0.6
    BETAS = (0.8, 0.95)
    DEPTH = 8
    WARMUP = 300
    SEED = 42

    def forward(x):
        x = embed(x)
        x = block(x)
        return head(x)
    """
)
GATE = """
    gate = sigmoid(project(x))
    left = gate * x
    right = (1 - gate) * x
    if left.mean() > 0.1:
        left = left / left.mean()
    total = left + right
    total = norm(total)
    total = total * 0.5
    x = x + total
    x = norm(x)
"""
REST = "    return head(x)\n"


def with_gate(gate: str = GATE) -> str:
    return PARENT.replace(REST, gate.lstrip("\n") + REST)


class Tried:
    """A run in which programs were tried on `PARENT`, each with its status."""

    def __init__(self, *programs: tuple[str, Status | None], parent: str = "c0ffee") -> None:
        self.asked: list[int] = []
        self.sources = [PARENT, *(source for source, _ in programs)]
        baseline = trial(0, "baseline", {}, 1.0, Status.KEEP)
        rest = [
            replace(trial(number, "", {}, None if status is None else 1.25, status), parent=parent)
            for number, (_, status) in enumerate(programs, start=1)
        ]
        self.trials = [
            replace(experiment, program=fingerprint(source))
            for experiment, source in zip([baseline, *rest], self.sources, strict=True)
        ]
        self.novelty = Novelty(self.source_of)

    def source_of(self, experiment: Experiment) -> str:
        self.asked.append(experiment.number)
        return self.sources[experiment.number]

    def refusal(self, source: str, *, idea: int | None = None) -> str | None:
        return self.novelty.refusal(proposal_of(source, idea=idea), self.context())

    def context(self) -> Context:
        return context_of(PARENT, *self.trials)


def proposal_of(source: str, *, idea: int | None = None) -> Proposal:
    return Proposal(source, "try it", parent="c0ffee", idea=idea)


def edited(*changes: tuple[str, str], source: str = PARENT) -> str:
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    return source


@pytest.mark.parametrize("status", [*Status, None])
def test_a_program_is_never_trained_twice(status: Status | None) -> None:
    run = Tried((edited(("LR = 0.6", "LR = 0.8")), status))
    told = run.refusal(edited(("LR = 0.6", "LR = 0.80  # faster"), ("SEED = 42", "SEED = 137")), idea=3)
    result = f"{status}, val_bpb 1.250000" if status else "under way"
    assert told == (
        f"It is the program of experiment #1 ({result}): layout, comments and seeds make no difference."
    )
    assert run.asked == []


def test_another_seed_for_the_best_is_the_best() -> None:
    told = Tried().refusal(edited(("SEED = 42", "SEED = 137")))
    assert told is not None
    assert "experiment #0 (keep, val_bpb 1.000000)" in told
    unknown = Novelty(str).refusal(proposal_of(PARENT + "# again\n"), context_of(PARENT))
    assert unknown is not None
    assert unknown.startswith("It is the best program as it is")


def test_nearly_a_discarded_change_is_refused_with_its_result() -> None:
    run = Tried((edited(("LR = 0.6", "LR = 0.8")), Status.DISCARD))
    assert run.refusal(edited(("LR = 0.6", "LR = 0.805"))) == (
        "It is nearly the change of experiment #1 (discard, val_bpb 1.250000), on the same program: "
        "it may be tried again once another change was kept."
    )
    assert run.refusal(edited(("LR = 0.6", "LR = 0.805")), idea=1) is None


@pytest.mark.parametrize("status", [Status.CRASH, Status.SKIP, None])
def test_nearly_what_has_no_result_may_be_tried(status: Status | None) -> None:
    run = Tried((edited(("LR = 0.6", "LR = 0.8")), status))
    assert run.refusal(edited(("LR = 0.6", "LR = 0.805"))) is None


def test_nearly_the_same_may_be_tried_on_another_best() -> None:
    run = Tried((edited(("LR = 0.6", "LR = 0.8")), Status.DISCARD), parent="decade")
    assert run.refusal(edited(("LR = 0.6", "LR = 0.805"))) is None
    assert run.asked == []


@pytest.mark.parametrize(
    ("discarded", "proposed", "near"),
    [
        (("0.95", "0.96"), ("0.95", "0.961"), True),
        (("0.95", "0.96"), ("0.95", "0.965"), False),  # 0.04 and 0.035 are forgotten
        (("DEPTH = 8", "DEPTH = 40"), ("DEPTH = 8", "DEPTH = 41"), False),  # layers are counted
        (("WARMUP = 300", "WARMUP = 500"), ("WARMUP = 300", "WARMUP = 510"), True),
        (("WARMUP = 300", "WARMUP = 500"), ("WARMUP = 300", "WARMUP = 550"), False),
        (("LR = 0.6", "LR = 0.8"), ("LR = 0.6", "LR = 0.8 * SCALE"), False),
        (("LR = 0.6", "LR = 0.8"), ("(0.8, ", "(0.82, "), False),
        (("embed(x)", "norm(embed(x), 0.1)"), ("embed(x)", "norm(embed(x), 0.101)"), True),
        (("embed(x)", "norm(embed(x), 0.1)"), ("embed(x)", "norm(embed(x), 0.2)"), False),
        (("embed(x)", "embed(x)\n    x = norm(x)"), ("block(x)", "block(x)\n    x = norm(x)"), False),
    ],
)
def test_what_is_near(discarded: tuple[str, str], proposed: tuple[str, str], near: bool) -> None:
    run = Tried((edited(discarded), Status.DISCARD))
    assert (run.refusal(edited(proposed)) is not None) is near


@pytest.mark.parametrize(
    ("change", "near"),
    [
        (("x = norm(x)", "x = norm(x, x)"), True),  # one line of ten
        (("left = left / left.mean()", "left = left - left.mean()"), True),
        (("> 0.1", "> 0.2"), False),  # the same idea with quite another number
        (("> 0.1", "> 0.102"), True),
        (("    x = norm(x)\n", ""), True),
        (("right = (1 - gate) * x\n", "right = x\n    left = gate\n"), False),  # two lines
    ],
)
def test_a_long_change_may_differ_a_little(change: tuple[str, str], near: bool) -> None:
    run = Tried((with_gate(), Status.DISCARD))
    assert (run.refusal(with_gate(edited(change, source=GATE))) is not None) is near


def test_a_long_change_with_another_constant_is_a_combination() -> None:
    run = Tried((with_gate(GATE + GATE), Status.DISCARD))
    both = with_gate(GATE + GATE).replace("LR = 0.6", "LR = 0.8")
    assert run.refusal(both) is None


def test_what_python_cannot_write_again_is_compared_as_it_is() -> None:
    join = ("    return head(x)\n", "    print(f\"{'\u00a0'.join(x)}\")\n    return head(x)\n")
    run = Tried((edited(join, ("LR = 0.6", "LR = 0.8")), Status.DISCARD))
    assert run.refusal(edited(join, ("LR = 0.6", "LR = 2.0"))) is None
    run.sources[0] = source = edited(join)
    context = replace(run.context(), source=source)
    for rate, near in (("0.805", True), ("2.0", False)):
        proposal = proposal_of(edited(join, ("LR = 0.6", f"LR = {rate}")))
        assert (Novelty(run.source_of).refusal(proposal, context) is not None) is near


def test_deep_nesting_is_no_danger() -> None:
    for links in range(20, 300, 2):
        chain = ("embed(x)", f"embed(x){'.f()' * links}")
        run = Tried((edited(chain, ("LR = 0.6", "LR = 0.8")), Status.DISCARD))
        with contextlib.suppress(UserError):
            assert run.refusal(edited(chain, ("LR = 0.6", "LR = 2.0"))) is None


def test_each_program_is_read_once() -> None:
    tried = [(edited(("LR = 0.6", f"LR = {rate}")), Status.DISCARD) for rate in (0.8, 1.0)]
    run = Tried(*tried)
    for _ in range(3):
        assert run.refusal(edited(("LR = 0.6", "LR = 2.0"))) is None
    assert run.asked == [1, 2]


def test_a_program_that_cannot_be_read_any_more_hinders_nothing() -> None:
    def lost(experiment: Experiment) -> str:
        raise UserError("It is gone.")

    run = Tried((edited(("LR = 0.6", "LR = 0.8")), Status.DISCARD))
    proposal = proposal_of(edited(("LR = 0.6", "LR = 0.805")))
    assert Novelty(lost).refusal(proposal, run.context()) is None


async def test_what_a_run_trained_is_known_by_its_program(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", value(1.5))
    await lab.engine(value(1.6), value(1.4)).conduct(2)
    experiments, source_of = lab.experiments(), {}
    for experiment in experiments:
        source_of[experiment.number] = git(lab.repository, "show", f"{experiment.commit}:train.py")
    lab.close()
    assert [e.program for e in experiments] == [fingerprint(text) for text in source_of.values()]
    context = context_of(source_of[2], *experiments)
    for number, result in enumerate(("keep, val_bpb 1.500000", "discard, val_bpb 1.600000")):
        proposal = proposal_of(f"# again\n{source_of[number]}")
        told = Novelty(lambda experiment: source_of[experiment.number]).refusal(proposal, context)
        assert told is not None
        assert f"#{number} ({result})" in told


async def test_what_a_run_trained_long_ago_is_known_too(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", value(1.5))
    await lab.engine(value(1.6)).conduct(1)
    judge = Novelty(lambda _: "", lambda program: with_program(lab.journal, lab.run.id, program))
    context = context_of(value(1.5))  # in which no experiment is shown
    told = judge.refusal(proposal_of(f"# again\n{value(1.6)}"), context)
    assert told is not None
    assert "experiment #1 (discard, val_bpb 1.600000)" in told
    assert judge.refusal(proposal_of(value(1.7)), context) is None
    assert with_program(lab.journal, lab.run.id + 1, fingerprint(value(1.6))) is None
    lab.close()


def test_the_search_is_never_in_its_own_way() -> None:
    """Whatever else was tried on the ladder of a constant, its other values are new."""
    template = (Path(training.__file__).parent / "train.py").read_text()
    source = "".join(f"{constant.name} = {constant.text}\n" for constant in find_constants(template))
    for axis in find_axes(find_constants(source), ()):
        name, whole = axis.constant.name, axis.constant.value
        others = [value for value in axis.ladder if value != axis.current]
        programs = [replace_constants(source, {name: axis.moved(value, whole)}) for value in others]
        run = Tried(*((program, Status.DISCARD) for program in programs))
        run.sources[0] = source
        for number, program in enumerate(programs, start=1):
            rest = [experiment for experiment in run.trials if experiment.number != number]
            context = context_of(source, *rest)
            assert run.novelty.refusal(proposal_of(program), context) is None, axis.ladder
