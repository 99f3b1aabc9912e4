"""Repeats from the wish to the number, with real git, processes and journal, and whatever comes between."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psutil
import pytest

from loop.engine.run import Engine
from loop.errors import UserError
from loop.evidence import Repeat, RepeatFor
from loop.experiment import Ending, EventKind, Purpose, Run, RunState, Status
from loop.logs.capture import LOG
from loop.store.evidence.repeats import Repeats
from tests.loop.engine.conftest import supervisors
from tests.loop.engine.engines import MakeLab, conduct, end, kill, told
from tests.loop.lab import Ideas, Lab, git, program, value

SEEDED = program("SEED = 42\nsummary(1 + SEED / 100)")
AGAIN = """\
first = os.environ["TORCH_GATE"] + ".first"
if os.path.exists(first): wait()
open(first, "w")
"""
"""Waits at the gate in every training but the first."""


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    """A run whose baseline waits at the gate when it is trained again."""
    return make_lab(program(f"{AGAIN}summary(1.5)"))


def ask(lab: Lab, number: int, *, times: int = 1, why: RepeatFor = RepeatFor.PERSON) -> list[Repeat]:
    return lab.repeats.ask(lab.run.id, number, why, times=times)


def numbers(lab: Lab) -> dict[int, tuple[float | None, ...]]:
    return lab.repeats.numbers(lab.run.id, "val_bpb")


async def make_and_ask(lab: Lab, engine: Engine, times: int = 1) -> asyncio.Task[None]:
    """Make the baseline, then ask for repeats of it and wait until the first one is at the gate."""
    conducting = conduct(engine)
    await lab.until(lambda: EventKind.DECIDED in lab.kinds())
    await engine.rerun(0, times)
    await lab.until_training(0, 2)
    return conducting


async def make_baseline(lab: Lab, engine: Engine) -> None:
    conducting = conduct(engine)
    await lab.until(lambda: EventKind.DECIDED in lab.kinds())
    await end(conducting)


async def train_waiting(lab: Lab) -> Engine:
    """Let a new engine train what waits."""
    engine = lab.engine()
    if lab.now().state is RunState.DONE:
        await engine.resume()
    conducting = conduct(engine)
    await lab.until(lambda: not lab.repeats.waiting(lab.run.id) and not lab.repeats.under_way(lab.run.id))
    await end(conducting)
    return engine


async def test_a_repeat_has_another_seed_and_changes_nothing_but_its_folder(make_lab: MakeLab) -> None:
    lab = make_lab(SEEDED)
    await lab.engine(value(1.3)).conduct(1)
    before, refs = lab.experiments(), git(lab.repository, "for-each-ref")
    table = (lab.worktree / "results.tsv").read_text()
    ask(lab, 0, times=2)
    ask(lab, 1)  # a program without a seed is trained as it is
    await train_waiting(lab)
    assert numbers(lab) == {0: (1.43, 1.44), 1: (1.3,)}
    assert [(each.seed, each.k) for each in lab.repeats.of(lab.run.id, 0)] == [(43, 2), (44, 3)]
    assert [(each.seed, each.k) for each in lab.repeats.of(lab.run.id, 1)] == [(None, 2)]
    assert lab.experiments() == before
    assert git(lab.repository, "for-each-ref") == refs
    assert (lab.worktree / "results.tsv").read_text() == table
    assert "val_bpb: 1.42" in lab.folders.log(0).read_text()
    lab.check_invariants()


async def test_repeats_come_before_proposals_and_before_the_run_is_done(lab: Lab) -> None:
    ideas = Ideas(value(1.4))
    engine = lab.engine(ideas=ideas)
    lab.open_gate()
    conducting = conduct(engine, 1)
    await lab.until(lambda: EventKind.DECIDED in lab.kinds())
    await engine.rerun(0, 2)
    await conducting
    assert numbers(lab) == {0: (1.5, 1.5)}
    assert [e.status for e in lab.experiments()] == [Status.KEEP, Status.KEEP]
    await_done = lab.kinds()
    assert await_done[-1] is EventKind.RUN_STATE
    assert await_done.index(EventKind.REPEATED) < len(await_done) - 1
    assert lab.now().state is RunState.DONE


async def test_a_lane_that_waits_for_a_proposal_trains_a_repeat_at_once(lab: Lab) -> None:
    conducting = await make_and_ask(lab, lab.engine())  # whose proposer never has an idea
    lab.open_gate()
    await lab.until(lambda: EventKind.REPEATED in lab.kinds())
    await end(conducting)
    assert numbers(lab) == {0: (1.5,)}


async def test_the_noise_is_measured_on_the_baseline_before_anything_is_tried(make_lab: MakeLab) -> None:
    lab = make_lab(SEEDED)
    await lab.engine(value(1.3), noise_runs=2).conduct(1)
    trained = [
        e.kind for e in lab.journal.events_after(0) if e.kind in (EventKind.TRAINING, EventKind.REPEATED)
    ]
    assert trained == [EventKind.TRAINING, EventKind.REPEATED, EventKind.REPEATED, EventKind.TRAINING]
    assert [event["last"] for event in told(lab, EventKind.REPEATED)] == [False, True]
    assert numbers(lab) == {0: (1.43, 1.44)}
    engine = lab.engine(value(1.3), value(1.2), noise_runs=2)
    await engine.resume()
    await engine.conduct(1)
    assert len(lab.repeats.wanted_for(lab.run.id, RepeatFor.NOISE)) == 2  # asked for once a run
    noises = [event["noise"] for event in told(lab, EventKind.DECIDED)]
    assert noises[0] is None  # of the baseline
    assert noises[1] == noises[2] == [pytest.approx(0.01 / 0.9539), 2]


async def test_a_verdict_knows_the_noise_that_was_measured(make_lab: MakeLab) -> None:
    """Without it the first would be a discard, and the second a keep."""
    lab = make_lab(program("# a line of the program\nSEED = 42\nsummary(1 + SEED / 100)"))
    shorter = program("SEED = 42\nsummary(1.004 + SEED / 100)")
    longer = program("\n".join(f"x{n} = 0" for n in range(25)) + "\nSEED = 42\nsummary(0.999 + SEED / 100)")
    await lab.engine(shorter, longer, noise_runs=2).conduct(2)
    _, kept, discarded = lab.experiments()
    assert (kept.status, kept.reason) == (
        Status.KEEP,
        "0.004000 worse, which counts as equal, with 1 fewer line",
    )
    assert (discarded.status, discarded.reason) == (
        Status.DISCARD,
        "a gain of 0.005000 is too small for 25 more lines",
    )
    assert [event["noise"] for event in told(lab, EventKind.DECIDED)[1:]] == [
        [pytest.approx(0.01048, rel=1e-3), 2]
    ] * 2


async def test_a_baseline_that_crashed_is_not_repeated(make_lab: MakeLab) -> None:
    lab = make_lab(program("raise RuntimeError('no')"))
    await lab.engine(noise_runs=2).conduct(1)
    assert EventKind.REPEAT_ASKED not in lab.kinds()
    assert lab.now().state is RunState.STOPPED


async def test_a_repeat_that_crashes_has_no_number_but_a_log(make_lab: MakeLab) -> None:
    crash = AGAIN.replace("wait()", "raise RuntimeError('unlucky')")
    lab = make_lab(program(f"{crash}summary(1.5)"))
    await make_baseline(lab, lab.engine())
    ask(lab, 0)
    await train_waiting(lab)
    assert numbers(lab) == {0: (None,)}
    (event,) = told(lab, EventKind.REPEATED)
    assert (event["value"], event["error"]) == (None, "RuntimeError: unlucky")
    assert "unlucky" in (lab.folders.logs / "0-2.log").read_text()
    assert "val_bpb: 1.5" in lab.folders.log(0).read_text()
    assert lab.experiments()[0].status is Status.KEEP
    await lab.engine(value(1.4)).conduct(1)  # which takes that log for no folder of the last release
    lab.check_invariants()


async def test_a_number_that_cannot_be_is_none(make_lab: MakeLab) -> None:
    lab = make_lab(program(f"{AGAIN.replace('wait()', 'summary(0.0); sys.exit()')}summary(1.5)"))
    await make_baseline(lab, lab.engine())
    ask(lab, 0)
    await train_waiting(lab)
    assert numbers(lab) == {0: (None,)}
    assert "cannot be" in str(told(lab, EventKind.REPEATED)[0]["error"])


async def test_a_repeat_outlives_the_engine_and_the_next_one_takes_it_over(lab: Lab) -> None:
    first = await make_and_ask(lab, lab.engine())
    await end(first)
    second = conduct(lab.engine())
    lab.open_gate()
    await lab.until(lambda: EventKind.REPEATED in lab.kinds())
    await end(second)
    assert numbers(lab) == {0: (1.5,)}
    assert [each.k for each in lab.repeats.of(lab.run.id, 0)] == [2]


async def test_the_number_of_a_repeat_that_came_while_nobody_looked_is_not_lost(lab: Lab) -> None:
    await end(await make_and_ask(lab, lab.engine()))
    ((begun),) = lab.repeats.under_way(lab.run.id)
    supervisor = psutil.Process(begun.training.supervisor_pid)
    lab.open_gate()
    await asyncio.to_thread(supervisor.wait)
    await train_waiting(lab)
    assert numbers(lab) == {0: (1.5,)}
    lab.check_invariants()


async def test_a_repeat_whose_machine_died_is_trained_again(lab: Lab) -> None:
    await end(await make_and_ask(lab, lab.engine()))
    kill(lab)
    second = conduct(lab.engine())
    await lab.until_training(0, 3)
    assert [each["vanished"] for each in told(lab, EventKind.REPEAT_PUT_BACK)] == [True]
    lab.open_gate()
    await lab.until(lambda: EventKind.REPEATED in lab.kinds())
    await end(second)
    assert numbers(lab) == {0: (1.5,)}
    assert not lab.folders.attempt(0, 2).exists()


async def test_a_repeat_that_vanishes_again_and_again_calls_a_person_and_backs_off(lab: Lab) -> None:
    conducting = await make_and_ask(lab, lab.engine())
    for attempt in (2, 3, 4):
        await lab.until_training(0, attempt)
        kill(lab)
    await lab.until_training(0, 5)
    (call,) = told(lab, EventKind.NEEDS_ATTENTION)
    assert call["cause"] == "vanished"
    assert "pauses for" in str(told(lab, EventKind.NOTED)[-1]["reason"])
    lab.open_gate()
    await lab.until(lambda: EventKind.REPEATED in lab.kinds())
    await end(conducting)


async def test_pause_now_lets_a_repeat_wait_and_resume_trains_it_again(lab: Lab) -> None:
    engine = lab.engine()
    conducting = await make_and_ask(lab, engine)
    await engine.pause(now=True)
    await lab.until(lambda: EventKind.REPEAT_PUT_BACK in lab.kinds())
    assert lab.now().state is RunState.PAUSED
    assert len(lab.repeats.waiting(lab.run.id)) == 1
    await engine.resume()
    await lab.until_training(0, 3)
    lab.open_gate()
    await lab.until(lambda: EventKind.REPEATED in lab.kinds())
    await end(conducting)
    assert numbers(lab) == {0: (1.5,)}


async def test_pause_lets_a_repeat_finish_and_begins_no_other(lab: Lab) -> None:
    engine = lab.engine()
    conducting = await make_and_ask(lab, engine, times=2)
    await engine.pause()
    assert lab.now().state is RunState.PAUSING
    lab.open_gate()
    await lab.until(lambda: lab.now().state is RunState.PAUSED)
    assert numbers(lab) == {0: (1.5,)}
    assert len(lab.repeats.waiting(lab.run.id)) == 1
    await end(conducting)


async def test_a_paused_run_keeps_no_repeat_that_an_earlier_bot_left(lab: Lab) -> None:
    engine = lab.engine()
    await end(await make_and_ask(lab, engine))
    lab.journal.set_state(lab.now(), RunState.PAUSED)
    conducting = conduct(lab.engine())
    await lab.until(lambda: EventKind.REPEAT_PUT_BACK in lab.kinds())
    await end(conducting)
    assert len(lab.repeats.waiting(lab.run.id)) == 1


async def test_stop_ends_a_repeat_and_none_waits_any_longer(lab: Lab) -> None:
    engine = lab.engine()
    conducting = await make_and_ask(lab, engine, times=2)
    await engine.stop()
    await conducting
    assert [each.given_up for each in lab.repeats.of(lab.run.id, 0)] == ["the run was stopped", ""]
    assert lab.repeats.waiting(lab.run.id) == []
    (event,) = told(lab, EventKind.REPEAT_GIVEN_UP)
    assert event["quiet"]
    assert not lab.folders.trainings.exists()
    assert lab.now().state is RunState.STOPPED


async def test_skip_gives_up_one_repeat_and_the_next_begins(lab: Lab) -> None:
    engine = lab.engine()
    conducting = await make_and_ask(lab, engine, times=2)
    skipped = await engine.skip(answered_in="chat")
    assert isinstance(skipped, Repeat)
    await lab.until_training(0, 3)
    (event,) = told(lab, EventKind.REPEAT_GIVEN_UP)
    assert (event["reason"], event["answered_in"]) == ("skipped by command", "chat")
    lab.open_gate()
    await lab.until(lambda: EventKind.REPEATED in lab.kinds())
    await end(conducting)
    assert numbers(lab) == {0: (1.5,)}


async def test_a_skip_is_remembered_by_the_next_engine(lab: Lab) -> None:
    engine = lab.engine()
    await end(await make_and_ask(lab, engine))
    (begun,) = lab.repeats.under_way(lab.run.id)
    lab.repeats.skip(begun, "skipped by command")
    second = conduct(lab.engine())
    await lab.until(lambda: EventKind.REPEAT_GIVEN_UP in lab.kinds())
    await end(second)
    assert (numbers(lab), lab.repeats.waiting(lab.run.id)) == ({}, [])


async def test_a_repeat_that_hangs_is_ended_as_an_experiment_is(lab: Lab) -> None:
    engine = lab.engine()
    conducting = await make_and_ask(lab, engine)
    await engine.end_stalled(lab.folders.attempt(0, 2))
    await lab.until(lambda: EventKind.REPEATED in lab.kinds())
    await end(conducting)
    assert numbers(lab) == {0: (None,)}


async def test_a_repeat_that_others_left_no_memory_for_waits_again(make_lab: MakeLab) -> None:
    full = AGAIN.replace("wait()", "raise MemoryError('CUDA out of memory. Tried to allocate 2 GiB')")
    lab = make_lab(program(f"{full}summary(1.5)"))
    engines: list[Engine] = []

    async def is_blocked(_: Run) -> bool:
        await engines[0].pause()
        return True

    engines.append(lab.engine(is_blocked=is_blocked))
    conducting = conduct(engines[0])
    await lab.until(lambda: EventKind.DECIDED in lab.kinds())
    await engines[0].rerun(0, 1)
    await lab.until(lambda: lab.now().state is RunState.PAUSED)
    await end(conducting)
    (back,) = told(lab, EventKind.REPEAT_PUT_BACK)
    assert "ran out of memory" in str(back["reason"])
    assert len(lab.repeats.waiting(lab.run.id)) == 1


async def test_a_run_is_renamed_while_a_repeat_trains(lab: Lab) -> None:
    engine = lab.engine()
    conducting = await make_and_ask(lab, engine)
    await engine.retag("wide")
    lab.open_gate()
    await lab.until(lambda: EventKind.REPEATED in lab.kinds())
    await end(conducting)
    assert (numbers(lab), lab.now().tag) == ({0: (1.5,)}, "wide")
    lab.check_invariants()


async def test_a_folder_that_a_beginning_left_behind_is_no_repeat(lab: Lab) -> None:
    lab.open_gate()
    await make_baseline(lab, lab.engine())
    ask(lab, 0)
    stray = lab.folders.attempt(0, 2) / "work" / "stray"
    stray.mkdir(parents=True)  # the bot was killed before the journal knew of the training
    await train_waiting(lab)
    assert numbers(lab) == {0: (1.5,)}
    assert not stray.exists()


async def test_one_that_was_recorded_but_never_given_to_its_supervisor_is_trained_again(lab: Lab) -> None:
    await end(await make_and_ask(lab, lab.engine()))
    (begun,) = lab.repeats.under_way(lab.run.id)
    kill(lab)
    for path in begun_files(lab):
        path.unlink()
    second = conduct(lab.engine())
    await lab.until_training(0, 3)
    lab.open_gate()
    await lab.until(lambda: EventKind.REPEATED in lab.kinds())
    await end(second)
    assert begun.training.purpose is Purpose.REPEAT


def begun_files(lab: Lab) -> list[Path]:
    folder = lab.folders.attempt(0, 2)
    return [folder / name for name in ("started.json", LOG) if (folder / name).exists()]


def paced(value: float, steps: str) -> str:
    """Return a program that does so many steps, which may depend on `times`, how often it was trained."""
    return program(f"""\
counter = os.environ["TORCH_GATE"] + ".{value}"
times = os.path.getsize(counter) if os.path.exists(counter) else 0
open(counter, "a").write("x")
summary({value})
print("num_params_M: 50.3")
print(f"num_steps: {{{steps}}}")
""")


async def test_a_slow_training_is_made_again_before_its_verdict(make_lab: MakeLab) -> None:
    lab = make_lab(paced(1.5, "1000"))
    slow_once = paced(1.4, "1000 if times else 900")
    await lab.engine(slow_once, noise_runs=4).conduct(1)
    decided = lab.experiments()[1]
    assert (decided.status, decided.attempt, decided.reason) == (Status.KEEP, 2, "")
    (again,) = told(lab, EventKind.INTERRUPTED)
    assert again["reason"] == "slow: 10 % fewer steps per second than usual in this run"
    assert not lab.repeats.wanted_for(lab.run.id, RepeatFor.DRIFT)
    lab.check_invariants()


async def test_where_one_after_another_is_slow_the_baseline_is_asked_once(make_lab: MakeLab) -> None:
    lab = make_lab(paced(1.5, "1000 if times < 5 else 900"))
    slow = [paced(1.4 - number / 10, "900") for number in range(3)]
    await lab.engine(*slow, noise_runs=4).conduct(3)
    _, first, second, third = lab.experiments()
    flag = "slow: 10 % fewer steps per second than usual in this run"
    assert [each.reason for each in (first, second, third)] == [flag] * 3
    assert [each.attempt for each in (first, second, third)] == [2, 1, 1]
    (asked,) = lab.repeats.wanted_for(lab.run.id, RepeatFor.DRIFT)
    assert (asked.number, asked.k) == (0, 6)
    assert told(lab, EventKind.REPEATED)[-1]["slower"] == pytest.approx(0.1)
    lab.check_invariants()


async def test_what_cannot_be_repeated_is_refused(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    engine = lab.engine(program("raise RuntimeError('no')"))
    await engine.conduct(1)
    for number, times, said in [
        (7, 1, "no experiment #7"),
        (1, 1, "crashed"),
        (0, 0, "1 to 10"),
        (0, 11, "1 to 10"),
    ]:
        with pytest.raises(UserError, match=said):
            await engine.rerun(number, times)
    assert EventKind.REPEAT_ASKED not in lab.kinds()


async def test_a_stopped_run_repeats_nothing(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    engine = lab.engine()
    await make_baseline(lab, engine)
    await engine.stop()
    with pytest.raises(UserError, match="stopped"):
        await engine.rerun(0, 1)


async def test_what_is_not_decided_or_was_skipped_is_not_repeated(make_lab: MakeLab) -> None:
    lab = make_lab(program("wait()\nsummary(1.5)"))
    engine = lab.engine()
    conducting = conduct(engine)
    await lab.until_training(0)
    with pytest.raises(UserError, match="no verdict yet"):
        await engine.rerun(0, 1)
    await engine.skip()
    await lab.until(lambda: EventKind.DECIDED in lab.kinds())
    with pytest.raises(UserError, match="skipped"):
        await engine.rerun(0, 1)
    await end(conducting)
    assert Ending.INTERRUPTED in [e.ending for e in lab.experiments()]
    assert os.environ.get("TORCH_GATE") is None


async def test_where_a_repeat_cannot_be_asked_for_no_supervisor_is_left_behind(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UserError("The disk is full.")

    monkeypatch.setattr(Repeats, "ask", fail)
    with pytest.raises(UserError, match="disk is full"):
        await make_lab(value(1.5)).engine(value(1.4), noise_runs=1).conduct(1)
    assert not supervisors()
