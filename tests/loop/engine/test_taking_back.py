"""Results that are doubted, and decisions of a person about results: real git, journal and trainings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import nullcontext

import pytest

from loop.engine.judging.verdicts import Correction
from loop.engine.run import Engine
from loop.errors import UserError
from loop.evidence import Belief, Doubt, Invalidated, RepeatFor
from loop.experiment import Asker, Cause, EventKind, Experiment, Proposal, RunState, Status
from loop.git.workspace import BranchMoved, Workspace
from loop.program.constants import replace_constants
from loop.proposers.protocol import Context
from loop.store.events import open_calls
from loop.store.evidence.repeats import Repeats
from loop.store.evidence.verdicts import waiting_retries
from tests.loop.engine.engines import MakeLab, conduct, end, failing_git
from tests.loop.engine.test_branch import move
from tests.loop.lab import Lab, git, program

UNSURE = Doubt(Belief.UNSURE, ("10 times the largest gain before", "tokens do not fit the time"))
KEEP, DISCARD, QUARANTINE = Status.KEEP, Status.DISCARD, Status.QUARANTINE

# Constants so far apart that edits of two of them do not conflict. Each of the first takes off of the loss.
FAR = "\n" * 4
BASELINE = program(
    f"A = 0.0{FAR}B = 0.0{FAR}C = 0.0{FAR}WAIT = 0{FAR}if WAIT:\n    wait(){FAR}summary(1.5 - A - B - C)"
)


class Edits:
    """A proposer that sets constants of the program shown, each edit once; then it has nothing for now."""

    name = "edits"

    def __init__(self, edits: Iterable[dict[str, float]]) -> None:
        self._edits = iter(edits)
        self.contexts: list[Context] = []

    async def propose(self, context: Context) -> Proposal:
        self.contexts.append(context)
        edit = next(self._edits, None)
        if edit is None:
            await asyncio.sleep(0.05)
            raise UserError("nothing more")
        said = ", ".join(f"{name} {value}" for name, value in edit.items())
        source = replace_constants(context.source, edit)
        return Proposal(source, said, "because", self.name, context.parent)


def doubting(*numbers: int, doubt: Doubt = UNSURE) -> Callable[[Experiment], Doubt]:
    return lambda experiment: doubt if experiment.number in numbers else Doubt()


def engine_of(lab: Lab, *edits: dict[str, float], doubted: Iterable[int] = ()) -> Engine:
    return lab.engine(ideas=Edits(edits), doubt=doubting(*doubted))


async def accept(engine: Engine, number: int, name: str = "") -> Correction:
    return await engine.correct(EventKind.ACCEPTED, number, Asker(name))


async def reject(engine: Engine, number: int, name: str = "") -> Correction:
    return await engine.correct(EventKind.REJECTED, number, Asker(name))


def statuses(lab: Lab) -> list[Status | None]:
    return [experiment.status for experiment in lab.experiments()]


def losses(lab: Lab) -> list[float | None]:
    return [None if e.value is None else round(e.value, 3) for e in lab.experiments()]


def decided(lab: Lab, count: int) -> Callable[[], bool]:
    return lambda: sum(e.status is not None for e in lab.experiments()) == count


def repeats(lab: Lab) -> Repeats:
    return Repeats(lab.journal)


async def test_a_doubted_result_is_in_quarantine_and_no_head(make_lab: MakeLab) -> None:
    lab = make_lab(BASELINE)
    await engine_of(lab, {"A": 0.1}, {"B": 0.1}, doubted=[1]).conduct(2)
    assert statuses(lab) == [KEEP, QUARANTINE, KEEP]
    doubted, after = lab.experiments()[1:]
    assert doubted.doubts == UNSURE.reasons
    assert (after.parent, after.best_before, after.value) == (lab.base, 1.5, 1.4)
    (repeat,) = repeats(lab).of(lab.run.id, 1)
    assert (repeat.why, repeat.k) == (RepeatFor.DOUBT, 2)
    lab.check_invariants()


async def test_a_result_that_is_not_believed_is_discarded(make_lab: MakeLab) -> None:
    lab = make_lab(BASELINE)
    doubt = Doubt(Belief.NOT_BELIEVED, ("prints 1.400000, evaluated 1.633000",))
    await lab.engine(ideas=Edits([{"A": 0.1}]), doubt=doubting(0, 1, doubt=doubt)).conduct(1)
    baseline, found = lab.experiments()
    assert (baseline.status, found.status) == (KEEP, DISCARD)
    assert found.reason == "not believed: prints 1.400000, evaluated 1.633000"
    assert found.invalidated is Invalidated.NOT_BELIEVED
    assert not repeats(lab).of(lab.run.id, 1)
    lab.check_invariants()


async def test_what_would_not_be_kept_is_not_doubted(make_lab: MakeLab) -> None:
    lab = make_lab(BASELINE)
    await engine_of(lab, {"A": -0.1}, doubted=[0, 1]).conduct(1)
    assert statuses(lab) == [KEEP, DISCARD]
    assert lab.experiments()[1].doubts == ()


async def test_a_person_is_called_after_the_repeat_until_it_is_decided(make_lab: MakeLab) -> None:
    lab = make_lab(BASELINE)
    conducting = conduct(engine_of(lab, {"A": 0.1}, {"B": 0.1, "WAIT": 1}, doubted=[1]))
    await lab.until_training(2)
    (call,) = open_calls(lab.journal, lab.run)
    assert (call.cause, call.key) == (Cause.QUARANTINE, "1")
    said = "#1 waits for /accept 1 or /reject 1: val_bpb 1.400000, repeated 1.400000"
    assert call.reason == "; ".join((said, *UNSURE.reasons))
    await end(conducting)
    lab.open_gate()
    await (engine := engine_of(lab)).conduct(1)
    assert open_calls(lab.journal, lab.run) == (call,)  # whatever else goes well
    assert lab.kinds().count(EventKind.NEEDS_ATTENTION) == 1
    await reject(engine, 1)
    assert open_calls(lab.journal, lab.run) == ()


async def test_a_person_is_called_too_where_there_is_no_repeat(make_lab: MakeLab) -> None:
    lab = make_lab(BASELINE)
    conducting = conduct(engine := engine_of(lab, {"A": 0.1, "WAIT": 1}, doubted=[1]), 1)
    await lab.until_training(1)
    await engine.pause()
    lab.open_gate()
    await lab.until(lambda: lab.now().state is RunState.PAUSED)
    assert open_calls(lab.journal, lab.run) == ()
    lab.gate.unlink()
    await engine.resume()
    await lab.until(lambda: bool(repeats(lab).under_way(lab.run.id)))
    await engine.skip()
    await conducting
    (call,) = open_calls(lab.journal, lab.run)
    assert "val_bpb 1.400000, not repeated" in call.reason


async def test_an_accepted_result_is_the_head_and_the_next_one_is_built_on_it(make_lab: MakeLab) -> None:
    lab = make_lab(BASELINE)
    engine = engine_of(lab, {"A": 0.1}, {"B": -0.1}, {"C": 0.1}, doubted=[1])
    await engine.conduct(2)
    correction = await accept(engine, 1, name="ada")
    assert (correction.retried, statuses(lab)) == ((), [KEEP, KEEP, DISCARD])
    assert lab.experiments()[1].reason == "accepted by ada"
    lab.check_invariants()
    assert git(lab.worktree, "status", "--porcelain") == ""
    await engine.resume()
    await engine.conduct(1)
    assert losses(lab) == [1.5, 1.4, 1.6, 1.3]
    assert lab.experiments()[3].parent == lab.experiments()[1].commit
    lab.check_invariants()
    with pytest.raises(UserError, match="only a result in quarantine"):
        await accept(engine, 1)


async def test_an_accepted_result_on_an_older_head_is_tried_again(
    make_lab: MakeLab,
) -> None:
    lab = make_lab(BASELINE)
    engine = engine_of(lab, {"A": 0.1}, {"B": 0.1}, doubted=[1])
    await engine.conduct(2)
    assert (await accept(engine, 1)).retried == (1,)
    assert statuses(lab) == [KEEP, DISCARD, KEEP]
    lab.check_invariants()
    await engine.resume()
    await engine.conduct(1)
    again = lab.experiments()[3]
    assert (again.status, again.description, again.parent) == (KEEP, "A 0.1", lab.experiments()[2].commit)
    assert losses(lab) == [1.5, 1.4, 1.4, 1.3]
    assert waiting_retries(lab.journal, lab.run.id) == ()
    lab.check_invariants()


async def test_what_was_built_on_a_rejected_keep_is_tried_again_without_it(
    make_lab: MakeLab,
) -> None:
    lab = make_lab(BASELINE)
    engine = engine_of(lab, {"A": 0.5}, {"B": 0.1}, {"C": -1.0}, {"C": 0.1})
    await engine.conduct(4)
    assert (await reject(engine, 1, name="ada")).retried == (2, 4)
    assert statuses(lab) == [KEEP, DISCARD, DISCARD, DISCARD, DISCARD]
    rejected, built_on, *_ = lab.experiments()[1:]
    assert (rejected.reason, rejected.invalidated) == ("rejected by ada", Invalidated.REJECTED)
    assert built_on.invalidated is Invalidated.TRIED_AGAIN
    lab.check_invariants()
    assert git(lab.worktree, "status", "--porcelain") == ""
    await engine.resume()
    await engine.conduct(2)
    assert losses(lab)[5:] == [1.4, 1.3]
    assert statuses(lab)[5:] == [KEEP, KEEP]
    lab.check_invariants()


async def test_a_quarantined_result_can_be_rejected(make_lab: MakeLab) -> None:
    lab = make_lab(BASELINE)
    engine = engine_of(lab, {"A": 0.1}, {"B": 0.1}, doubted=[1])
    await engine.conduct(2)
    assert (await reject(engine, 1)).retried == ()
    assert statuses(lab) == [KEEP, DISCARD, KEEP]
    lab.check_invariants()


async def test_no_repeat_is_made_of_what_a_person_has_decided_about(make_lab: MakeLab) -> None:
    lab = make_lab(BASELINE)
    conducting = conduct(engine := engine_of(lab, {"A": 0.1, "WAIT": 1}, doubted=[1]), 1)
    await lab.until_training(1)
    await engine.pause()
    lab.open_gate()
    await lab.until(lambda: lab.now().state is RunState.PAUSED)
    await accept(engine, 1)
    await engine.resume()
    await conducting
    (repeat,) = repeats(lab).of(lab.run.id, 1)
    assert (repeat.k, statuses(lab)) == (None, [KEEP, KEEP])


@pytest.mark.parametrize("killed", [False, True])
async def test_a_result_whose_head_was_rejected_while_it_trained_is_tried_again(
    make_lab: MakeLab, killed: bool
) -> None:
    lab = make_lab(BASELINE)
    engine = engine_of(lab, {"A": 0.5}, {"B": 0.1, "WAIT": 1})
    conducting = conduct(engine, 3)
    await lab.until_training(2)
    await reject(engine, 1)
    lab.check_invariants()
    if killed:
        await end(conducting)
        conducting = conduct(engine := engine_of(lab), 2)
    lab.open_gate()
    await conducting
    assert statuses(lab) == [KEEP, DISCARD, DISCARD, KEEP]
    assert losses(lab) == [1.5, 1.0, 0.9, 1.4]
    assert lab.experiments()[2].invalidated is Invalidated.TRIED_AGAIN
    assert lab.experiments()[3].parent == lab.base
    lab.check_invariants()


async def test_a_result_that_was_worse_than_its_parent_is_not_tried_again(
    make_lab: MakeLab,
) -> None:
    lab = make_lab(BASELINE)
    engine = engine_of(lab, {"A": 0.5}, {"B": -0.1, "WAIT": 1}, doubted=[1])
    conducting = conduct(engine, 2)
    await lab.until_training(2)
    await accept(engine, 1)
    lab.open_gate()
    await conducting
    assert statuses(lab) == [KEEP, KEEP, DISCARD]
    assert (lab.experiments()[2].invalidated, lab.experiments()[2].best_before) == (None, 1.5)
    lab.check_invariants()


async def test_a_proposal_that_is_ready_is_carried_over_to_the_head_of_then(make_lab: MakeLab) -> None:
    lab = make_lab(BASELINE)
    engine = engine_of(lab, {"A": 0.5}, {"B": -0.1, "WAIT": 1}, {"C": 0.1})
    conducting = conduct(engine, 3)
    await lab.until_training(2)
    while engine.prefetch.ready is None:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.005)
    await reject(engine, 1)
    lab.open_gate()
    await conducting
    found = {e.description: (e.status, e.parent == lab.base) for e in lab.experiments()[3:]}
    assert found["C 0.1"][0] is KEEP or found["B -0.1, WAIT 1"][1]
    lab.check_invariants()


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("order", ["accept", "reject"])
async def test_what_was_cut_off_before_git_followed_is_completed(
    make_lab: MakeLab, order: str, moved: bool
) -> None:
    lab = make_lab(BASELINE)
    engine = engine_of(lab, {"A": 0.1}, doubted=[1] if order == "accept" else [])
    await engine.conduct(1)
    with failing_git(moved=moved):
        await (accept(engine, 1) if order == "accept" else reject(engine, 1))
    assert lab.now().moves_head_from
    engine = engine_of(lab, {"B": 0.2})
    await engine.resume()
    await engine.conduct(1)
    assert losses(lab)[2] == (1.2 if order == "accept" else 1.3)
    assert lab.now().moves_head_from == ""
    lab.check_invariants()


@pytest.mark.parametrize("fails", ["restore", "move_head"])
async def test_the_results_follow_though_git_cannot(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    lab = make_lab(BASELINE)
    engine = engine_of(lab, {"A": 0.1})
    await engine.conduct(1)

    def fail(*_: object) -> None:
        raise UserError("no room")

    monkeypatch.setattr(Workspace, fails, fail)
    with pytest.raises(UserError, match="no room") if fails == "move_head" else nullcontext():
        await reject(engine, 1)
    results = (lab.worktree / "results.tsv").read_text().splitlines()
    assert [row.split("\t")[3] for row in results] == ["status", "keep", "discard"]


async def test_no_branch_is_moved_that_a_hand_has_moved(make_lab: MakeLab) -> None:
    lab = make_lab(BASELINE)
    engine = engine_of(lab, {"A": 0.1})
    await engine.conduct(1)
    move(lab)
    with pytest.raises(BranchMoved):
        await reject(engine, 1)
    assert statuses(lab) == [KEEP, KEEP]
    assert lab.now().moves_head_from == ""


async def test_the_branch_of_a_run_that_ended_is_a_persons_to_check_out(make_lab: MakeLab) -> None:
    lab = make_lab(BASELINE)
    engine = engine_of(lab, {"A": 0.1})
    await engine.conduct(1)
    await engine.stop()
    git(lab.repository, "checkout", "--quiet", "autoresearch/mar12")
    engine = engine_of(lab)
    with pytest.raises(UserError, match="checked out"):
        await reject(engine, 1)
    assert statuses(lab) == [KEEP, KEEP]
    git(lab.repository, "checkout", "--quiet", "main")
    await reject(engine, 1)
    assert statuses(lab) == [KEEP, DISCARD]
    lab.check_invariants()


async def test_an_edit_that_conflicts_is_given_up_and_people_hear_why(
    make_lab: MakeLab,
) -> None:
    lab = make_lab(BASELINE)
    engine = engine_of(lab, {"A": 0.1}, {"A": 0.2}, {"B": 0.1}, doubted=[1])
    await engine.conduct(2)
    await accept(engine, 1)
    await engine.resume()
    await engine.conduct(1)
    assert losses(lab) == [1.5, 1.4, 1.3, 1.2]
    noted = [e.data["reason"] for e in lab.journal.events_after(0, limit=1000) if e.kind is EventKind.NOTED]
    assert noted[-1] == "the edit of #1 is not tried again: it conflicts with the best program"
    lab.check_invariants()


async def test_what_cannot_be_taken_back_is_answered(make_lab: MakeLab) -> None:
    lab = make_lab(BASELINE)
    engine = engine_of(lab, {"A": 0.1}, {"B": -0.1}, {"C": 9.0})
    await engine.conduct(3)
    events = len(lab.kinds())
    for decide, number, answer in [
        (reject, 0, "The baseline"),
        (reject, 2, "is a discard: there is nothing to take back"),
        (reject, 3, "is a crash: there is nothing to take back"),
        (reject, 9, "no experiment #9"),
        (accept, 0, "is a keep: only"),
        (accept, 2, "is a discard: only"),
        (accept, 9, "no experiment #9"),
    ]:
        with pytest.raises(UserError, match=answer):
            await decide(engine, number)
        assert len(lab.kinds()) == events
        lab.check_invariants()


async def test_what_trains_cannot_be_taken_back(make_lab: MakeLab) -> None:
    lab = make_lab(BASELINE)
    conducting = conduct(engine := engine_of(lab, {"WAIT": 1}))
    await lab.until_training(1)
    with pytest.raises(UserError, match="/skip"):
        await reject(engine, 1)
    lab.open_gate()
    await lab.until(decided(lab, 2))
    await end(conducting)
