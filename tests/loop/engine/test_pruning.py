"""Prunes with real git, processes and journal: what is left out, what it tells, what a person removes."""

from __future__ import annotations

import pytest

from loop.engine.run import Engine
from loop.errors import UserError
from loop.evaluation.certainty import read_certainty
from loop.evidence import RepeatFor
from loop.experiment import Asker, EventKind, Experiment, Family, RunState, Status
from loop.store.evidence.certifications import Prunes
from loop.store.experiments import IdeaBox
from tests.loop.engine.engines import MakeLab, conduct, end, kill, told
from tests.loop.lab import Lab, program


def stack(*lines: str) -> str:
    """Return a program whose number is the better by what each of three parts far apart brings."""
    parts = ["brings = 0.0", *["#"] * 4, lines[0], *["#"] * 4, lines[1], *["#"] * 4, lines[2], *["#"] * 4]
    return program("\n".join([*parts, "summary(1.5 - brings)"]))


NOTHING = "pass"
GOOD, IDLE = "brings += 0.2", "brings += 0.0\nidle = 1"
LUCKY = """\
lucky = os.environ["TORCH_GATE"] + ".lucky"
brings += 0.0 if os.path.exists(lucky) else 0.01
open(lucky, "w")"""
"""Brings something in the first training alone."""


async def keep_two(make_lab: MakeLab, **options: int) -> tuple[Lab, Engine]:
    """Make a run with a good keep and a lucky one."""
    lab = make_lab(stack(NOTHING, NOTHING, NOTHING))
    engine = lab.engine(stack(LUCKY, NOTHING, NOTHING), stack(LUCKY, GOOD, NOTHING), noise_runs=2)
    await engine.conduct(2)
    assert [e.status for e in lab.experiments()] == [Status.KEEP] * 3
    await engine.resume()
    return lab, engine


def pruned(lab: Lab) -> dict[str, object]:
    (event,) = told(lab, EventKind.PRUNED)
    return event


def left_out(lab: Lab) -> list[Experiment]:
    return [e for e in lab.experiments() if e.without is not None]


async def test_each_keep_is_left_out_twice_and_none_is_removed(make_lab: MakeLab) -> None:
    lab, engine = await keep_two(make_lab)
    head = lab.experiments()[2]
    conducting = conduct(engine, 0)
    assert (await engine.prune())[0] == 2
    with pytest.raises(UserError, match="already"):
        await engine.prune()
    await conducting
    first, second = left_out(lab)
    assert (first.without, second.without) == (1, 2)  # the smallest gain first
    assert (first.value, second.value) == (1.3, 1.5)
    assert [e.status for e in (first, second)] == [Status.DISCARD] * 2
    assert "without #1, which seems to bring +0.000000" in first.reason
    assert "without #2, which seems to bring +0.200000" in second.reason
    assert first.description == "without #1: idea 1"
    asked = lab.repeats.wanted_for(lab.run.id, RepeatFor.PRUNE)
    assert sorted(each.number for each in asked) == [2, 2, 3, 4]
    event = pruned(lab)
    assert event["removable"] == [1]
    assert event["own"] == {"1": [0.0, 0.0, 0.0], "2": pytest.approx([0.2, 0.2, 0.2])}
    assert lab.journal.best(lab.run.id) == head
    assert lab.now().state is RunState.DONE
    certainty = read_certainty(lab.journal, lab.now())
    assert (certainty.without_gain, certainty.within_noise) == ((1,), ())
    lab.check_invariants()


async def test_what_a_person_removes_is_one_simplification_judged_as_any(make_lab: MakeLab) -> None:
    lab, engine = await keep_two(make_lab)
    idea = await engine.remove([1], Asker("ada"))
    assert IdeaBox(lab.journal).get(idea.id).removes == (1,)  # and not what its text says
    await engine.conduct(1)
    made = lab.experiments()[3]
    assert (made.description, made.proposer, made.family) == ("remove #1", "ada", Family.SIMPLIFICATION)
    assert (made.status, made.value) == (Status.KEEP, 1.3)
    assert made.reason == "equal with 2 fewer lines"
    assert IdeaBox(lab.journal).waiting(lab.run.id) == ()
    lab.check_invariants()
    for number, said in ((0, "baseline"), (9, "no keep"), (1, "nothing of #1")):
        with pytest.raises(UserError, match=said):
            await engine.remove([number], Asker("ada"))


async def test_a_removal_comes_beside_the_experiments_that_were_asked_for(make_lab: MakeLab) -> None:
    lab, _ = await keep_two(make_lab)
    engine = lab.engine("", "", program("wait()\nsummary(1.6)"))
    conducting = conduct(engine, 1)
    await lab.until_training(3)
    await engine.remove([1], Asker("ada"))
    lab.open_gate()
    await conducting
    assert [e.description for e in lab.experiments()[3:]] == ["idea 3", "remove #1"]


async def test_a_removal_comes_before_what_is_to_be_tried_again(make_lab: MakeLab) -> None:
    lab = make_lab(stack(NOTHING, NOTHING, NOTHING))
    better = "brings += 0.3"
    kept = ((GOOD, NOTHING, NOTHING), (GOOD, GOOD, NOTHING), (GOOD, GOOD, GOOD), (GOOD, better, GOOD))
    engine = lab.engine(*(stack(*lines) for lines in kept))
    await engine.conduct(4)
    await engine.correct(EventKind.REJECTED, 3)  # so that #4 waits
    await engine.remove([1], Asker("ada"))
    await engine.resume()
    await engine.conduct(1)
    assert (lab.experiments()[5].description, lab.experiments()[5].value) == ("remove #1", 1.3)
    await engine.resume()
    await engine.conduct(1)
    assert (lab.experiments()[6].description, lab.experiments()[6].value) == ("idea 4", 1.0)


async def test_what_later_keeps_changed_cannot_be_left_out_alone(make_lab: MakeLab) -> None:
    lab = make_lab(stack(NOTHING, NOTHING, NOTHING))
    better = stack("brings += 0.3", NOTHING, NOTHING)
    engine = lab.engine(stack(GOOD, NOTHING, NOTHING), better, noise_runs=2)
    await engine.conduct(2)
    await engine.resume()
    conducting = conduct(engine, 0)
    await engine.prune()
    await conducting
    assert [e.without for e in left_out(lab)] == [2]
    assert pruned(lab)["unmeasured"] == [1]


async def test_it_survives_the_death_of_the_bot_and_of_the_training(make_lab: MakeLab) -> None:
    gate = 'if os.path.exists(os.environ["TORCH_GATE"] + ".shut"): wait()\n'
    lab = make_lab(gate + stack(NOTHING, NOTHING, NOTHING))
    lab = make_lab(stack(NOTHING, NOTHING, NOTHING).replace("brings = 0.0", f"{gate}brings = 0.0"))
    kept = stack(GOOD, NOTHING, NOTHING).replace("brings = 0.0", f"{gate}brings = 0.0")
    engine = lab.engine(kept, noise_runs=2)
    await engine.conduct(1)
    lab.gate.with_name("gate.shut").touch()
    await engine.resume()
    conducting = conduct(engine, 0)
    await engine.prune()
    await lab.until_training(1, 2)
    await end(conducting)
    kill(lab)
    second = conduct(lab.engine(), 0)
    await lab.until_training(1, 3)
    lab.open_gate()
    await second
    assert Prunes(lab.journal).of(lab.run.id)[0].ended_at is not None
    assert pruned(lab)["removable"] == []
    assert list(pruned(lab)["own"]) == ["1"]  # type: ignore[call-overload]
    lab.check_invariants()


async def test_it_takes_the_time_that_a_certification_leaves(make_lab: MakeLab) -> None:
    lab = make_lab(stack(NOTHING, NOTHING, NOTHING))
    engine = lab.engine(stack(GOOD, NOTHING, NOTHING), certify_repeats=2, noise_runs=2)
    await engine.conduct(1)
    await engine.resume()
    conducting = conduct(engine, 0)
    await engine.certify(until=lab.journal.events_after(0)[0].at + 3600)
    await conducting
    assert [e.without for e in left_out(lab)] == [1]
    assert list(pruned(lab)["own"]) == ["1"]  # type: ignore[call-overload]
    assert lab.kinds().count(EventKind.PRUNED) == 1


async def test_without_a_keep_there_is_nothing_to_leave_out(make_lab: MakeLab) -> None:
    lab = make_lab(stack(NOTHING, NOTHING, NOTHING))
    engine = lab.engine()
    await engine.conduct(0)
    with pytest.raises(UserError, match="no keep"):
        await engine.prune()
