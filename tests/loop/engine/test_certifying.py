"""Certifications with real git, processes and journal: in which order, with which seeds, until when."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from loop.engine.judging.certifying import MOVED, NO_TIME
from loop.engine.judging.repeats import SKIPPED
from loop.engine.run import Engine
from loop.engine.stages import RUN_STOPPED
from loop.errors import UserError
from loop.evidence import Belief, Certification, Doubt, RepeatFor
from loop.experiment import Asker, EventKind, Experiment, RunState, Status
from loop.store.evidence.certifications import Certifications
from tests.loop.engine.engines import MakeLab, conduct, end, kill, told
from tests.loop.lab import Lab, program, value

BASELINE = program("SEED = 42\nsummary(1 + SEED / 1000)")
BETTER = program("SEED = 42\nsummary(0.9 + 2 * SEED / 1000)")
GATED = 'if os.path.exists(os.environ["TORCH_GATE"] + ".shut"): wait()\n'
"""Waits at the gate once the test has shut it."""


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    """A run whose trainings wait at the gate once it is shut."""
    return make_lab(program(f"{GATED}summary(1.5)"))


def shut(lab: Lab) -> None:
    lab.gate.with_name("gate.shut").touch()


def found(lab: Lab) -> list[Certification]:
    return Certifications(lab.journal).of(lab.run.id)


def trained(lab: Lab) -> list[int | None]:
    """Return which experiments were repeated, in order."""
    return [
        event.number
        for event in lab.journal.events_after(0, limit=10_000)
        if event.kind is EventKind.REPEAT_TRAINING and event.data["why"] == RepeatFor.CERTIFICATION
    ]


async def until_certified(lab: Lab) -> None:
    await lab.until(lambda: EventKind.CERTIFIED in lab.kinds())


async def test_head_and_baseline_are_trained_by_turns_with_the_seeds_of_their_pairs(
    make_lab: MakeLab,
) -> None:
    lab = make_lab(BASELINE)
    await lab.engine(BETTER).conduct(1, certify=True)
    assert lab.now().state is RunState.DONE
    order = trained(lab)
    assert Counter(order) == {0: 3, 1: 3}
    assert order not in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])
    seeds = {number: [each.seed for each in lab.repeats.of(lab.run.id, number)] for number in (0, 1)}
    assert seeds == {0: [43, 44, 45], 1: [43, 44, 45]}
    (made,) = found(lab)
    assert (made.head, made.baseline, made.repeats) == (1, 0, 3)
    assert made.gain == pytest.approx(0.1 - 0.044)  # not the recorded 0.058
    assert made.result is not None
    assert made.result.low < 0.1 - 0.044 < made.result.high
    (event,) = told(lab, EventKind.CERTIFIED)
    assert (event["recorded"], event["gain"]) == (pytest.approx(0.058), made.gain)
    assert lab.kinds()[-1] is EventKind.RUN_STATE
    lab.check_invariants()


async def test_a_program_without_a_seed_is_trained_as_it_is(make_lab: MakeLab) -> None:
    lab = make_lab(BASELINE)
    await lab.engine(value(0.9), certify_repeats=2).conduct(1, certify=True)
    assert [each.seed for each in lab.repeats.of(lab.run.id, 1)] == [None, None]
    assert [each.seed for each in lab.repeats.of(lab.run.id, 0)] == [43, 44]
    assert found(lab)[0].repeats == 2


async def test_it_begins_after_the_experiment_under_way_whose_keep_it_certifies(lab: Lab) -> None:
    engine = lab.engine(value(1.4), program("wait(); summary(1.3)"), value(1.0), certify_repeats=2)
    conducting = conduct(engine)
    await lab.until_training(2)
    await engine.certify(Asker("ada"))
    assert found(lab)[0].started_at is None
    with pytest.raises(UserError, match="under way"):
        await engine.certify()
    lab.open_gate()
    await until_certified(lab)
    assert found(lab)[0].head == 2
    numbers = [e.number for e in lab.journal.events_after(0, limit=10_000) if e.kind is EventKind.TRAINING]
    assert numbers == [0, 1, 2]  # nothing else was tried meanwhile
    await end(conducting)


async def make_and_certify(lab: Lab, engine: Engine, until: float | None = None) -> asyncio.Task[None]:
    """Keep one experiment, and certify it until the first training waits at the gate."""
    conducting = conduct(engine)
    await lab.until(lambda: lab.kinds().count(EventKind.DECIDED) == 2)
    shut(lab)
    await engine.certify(until=until)
    await lab.until_training(await first_of(lab), 2)
    return conducting


async def first_of(lab: Lab) -> int:
    await lab.until(lambda: bool(trained(lab)))
    number = trained(lab)[0]
    assert number is not None
    return number


KEPT = program(f"{GATED}summary(1.4)")


async def test_it_survives_the_death_of_the_bot_and_of_the_training(lab: Lab) -> None:
    conducting = await make_and_certify(lab, lab.engine(KEPT))
    await end(conducting)
    kill(lab)
    second = conduct(lab.engine())
    first = await first_of(lab)
    await lab.until_training(first, 3)
    lab.open_gate()
    await until_certified(lab)
    await end(second)
    (made,) = found(lab)
    assert made.gain == pytest.approx(0.1)
    assert made.repeats == 3
    assert Counter(trained(lab)) == {first: 4, 1 - first: 3}
    assert len(lab.repeats.of_certification(made.id)) == 6


async def test_it_waits_while_the_run_is_paused(lab: Lab) -> None:
    engine = lab.engine(KEPT, certify_repeats=2)
    conducting = await make_and_certify(lab, engine)
    await engine.pause()
    lab.open_gate()
    await lab.until(lambda: lab.now().state is RunState.PAUSED)
    assert found(lab)[0].ended_at is None
    await engine.resume()
    await until_certified(lab)
    assert found(lab)[0].repeats == 2
    await end(conducting)


async def test_stop_ends_it_with_what_there_is(lab: Lab) -> None:
    engine = lab.engine(KEPT, certify_repeats=2)
    conducting = await make_and_certify(lab, engine)
    await engine.stop()
    await conducting
    (made,) = found(lab)
    assert made.ended_at is not None
    assert (made.result, told(lab, EventKind.CERTIFIED)[0]["reason"]) == (None, RUN_STOPPED)
    assert not lab.repeats.waiting(lab.run.id)
    with pytest.raises(UserError, match="stopped"):
        await engine.certify()


async def test_at_its_hour_it_ends_with_what_there_is(lab: Lab) -> None:
    """What trains then is given up, because the report is due."""
    now, until = 1e9, 1e9 + 7200
    lab.journal.clock = lambda: now
    engine = lab.engine(KEPT, certify_repeats=2)
    conducting = await make_and_certify(lab, engine, until=until)
    await engine.end_certification(until - 1)
    assert found(lab)[0].ended_at is None
    now = until
    await engine.end_certification(now)
    assert told(lab, EventKind.CERTIFIED)[0]["reason"] == NO_TIME
    await lab.until(lambda: EventKind.REPEAT_GIVEN_UP in lab.kinds())
    assert not lab.repeats.waiting(lab.run.id)
    assert not lab.repeats.under_way(lab.run.id)
    await end(conducting)


async def test_with_more_time_it_makes_more_pairs_and_none_that_would_be_late(lab: Lab) -> None:
    lab.open_gate()
    engine = lab.engine(value(1.4), certify_repeats=2)
    await engine.conduct(1)
    await engine.resume()
    conducting = conduct(engine, 0)
    run = lab.now()
    until = engine.certifier.seconds(run, 4)
    await engine.certify(until=lab.now().created_at + 3600 + until)
    await until_certified(lab)
    assert found(lab)[0].repeats == 6
    await conducting
    await engine.resume()
    conducting = conduct(engine, 0)
    await engine.certify(until=lab.now().created_at)
    await lab.until(lambda: lab.kinds().count(EventKind.CERTIFIED) == 2)
    assert (found(lab)[1].started_at, found(lab)[1].result) == (None, None)
    await end(conducting)


async def test_a_pair_counts_only_whole(lab: Lab) -> None:
    engine = lab.engine(KEPT)
    conducting = await make_and_certify(lab, engine)
    skipped = await engine.skip()
    await lab.until(lambda: skipped not in [begun.repeat for begun in lab.repeats.under_way(lab.run.id)])
    lab.open_gate()
    await until_certified(lab)
    assert found(lab)[0].repeats == 2
    assert [each.given_up for each in lab.repeats.of_certification(1)].count(SKIPPED) == 1
    await end(conducting)


async def test_it_ends_where_another_program_becomes_the_best(lab: Lab) -> None:
    engine = lab.engine(KEPT)
    conducting = await make_and_certify(lab, engine)
    await engine.correct(EventKind.REJECTED, 1)
    lab.open_gate()
    await until_certified(lab)
    assert told(lab, EventKind.CERTIFIED)[0]["reason"] == MOVED
    await end(conducting)


async def test_a_doubted_result_is_repeated_first(lab: Lab) -> None:
    def doubt(experiment: Experiment) -> Doubt:
        unsure = experiment.value is None and experiment.number == 2
        return Doubt(Belief.UNSURE, ("too good",)) if unsure else Doubt()

    lab.open_gate()
    await lab.engine(value(1.4), value(1.0), doubt=doubt, certify_repeats=2).conduct(2, certify=True)
    assert lab.experiments()[2].status is Status.QUARANTINE
    begun = [e.number for e in lab.journal.events_after(0, limit=9999) if e.kind is EventKind.REPEAT_TRAINING]
    assert begun[0] == 2
    assert found(lab)[0].head == 1


async def test_without_a_gain_there_is_nothing_to_certify(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    engine = lab.engine(value(1.6))
    await engine.conduct(1, certify=True)
    assert found(lab) == []
    with pytest.raises(UserError, match="baseline is the best"):
        await engine.certify()


async def test_what_was_certified_is_not_again_at_the_end_unless_the_best_is_another(lab: Lab) -> None:
    lab.open_gate()
    await lab.engine(value(1.4), certify_repeats=2).conduct(1, certify=True)
    engine = lab.engine(value(1.4), value(1.6), value(1.3), certify_repeats=2)
    await engine.resume()
    await engine.conduct(1, certify=True)
    assert [each.head for each in found(lab)] == [1]
    await engine.resume()
    await engine.conduct(1, certify=True)
    assert [each.head for each in found(lab)] == [1, 3]
