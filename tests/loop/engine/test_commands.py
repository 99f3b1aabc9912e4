"""The commands of people on a run, with real git, processes and journal."""

from __future__ import annotations

import asyncio

import pytest

from loop.engine.lane import Lane
from loop.engine.run import Engine
from loop.errors import UserError
from loop.experiment import (
    BY_COMMAND,
    Actor,
    Cause,
    EventKind,
    Experiment,
    Reason,
    RunState,
    Stage,
    Status,
)
from loop.process.supervisor import OUTCOME
from tests.loop.engine.conftest import supervisors
from tests.loop.engine.engines import MakeLab, conduct, end
from tests.loop.lab import Lab, git, program, value
from tests.loop.training_bench import until


async def test_pause_lets_the_experiment_finish_and_resume_goes_on(make_lab: MakeLab) -> None:
    lab = make_lab(program("wait()\nsummary(1.5)"))
    engine = lab.engine(value(1.4))
    conducting = conduct(engine, 1)
    await lab.until_training(0)
    await engine.pause()
    assert lab.now().state is RunState.PAUSING
    with pytest.raises(UserError, match="pausing already"):
        await engine.pause()
    lab.open_gate()
    await lab.until(lambda: lab.now().state is RunState.PAUSED)
    assert [e.status for e in lab.experiments()] == [Status.KEEP]
    for name in ("", "ann"):  # another person's pause is no other
        with pytest.raises(UserError, match="paused already"):
            await engine.pause(reason=Reason(Actor.PERSON, name))
    await engine.resume()
    with pytest.raises(UserError, match="nothing to resume"):
        await engine.resume()
    await conducting
    assert [e.status for e in lab.experiments()] == [Status.KEEP, Status.KEEP]


async def test_nothing_waits_for_a_training_while_a_run_is_paused(make_lab: MakeLab) -> None:
    lab = make_lab(program("wait()\nsummary(1.5)"))
    engine = lab.engine(value(1.4))
    conducting = conduct(engine, 1)
    await lab.until_training(0)
    await until(lambda: len(supervisors()) == 2)
    await engine.pause()
    lab.open_gate()
    await lab.until(lambda: lab.now().state is RunState.PAUSED)
    await until(lambda: not supervisors())
    await engine.resume()
    await conducting
    assert [e.status for e in lab.experiments()] == [Status.KEEP, Status.KEEP]


async def test_pause_now_ends_the_training_which_is_run_again(make_lab: MakeLab) -> None:
    lab = make_lab(program("wait()\nsummary(1.5)"))
    engine = lab.engine(value(1.4))
    conducting = conduct(engine, 1)
    await lab.until_training(0)
    await engine.pause(now=True)
    await lab.until(lambda: lab.experiments()[0].stage is Stage.COMMITTED)
    assert lab.now().state is RunState.PAUSED
    lab.open_gate()
    await engine.resume()
    await conducting
    assert [(e.number, e.status, e.attempt) for e in lab.experiments()] == [
        (0, Status.KEEP, 2),
        (1, Status.KEEP, 1),
    ]
    lab.check_invariants()


async def test_a_pause_survives_a_restart(make_lab: MakeLab) -> None:
    lab = make_lab(program("wait()\nsummary(1.5)"))
    engine = lab.engine()
    first = conduct(engine)
    await lab.until_training(0)
    await engine.pause(now=True)
    await end(first)
    again = lab.engine(value(1.4))
    second = conduct(again, 1)
    await lab.until(lambda: lab.experiments()[0].stage is Stage.COMMITTED)
    lab.open_gate()
    assert lab.now().state is RunState.PAUSED
    await again.resume()
    await second
    assert [e.status for e in lab.experiments()] == [Status.KEEP, Status.KEEP]


async def test_skip_gives_up_one_experiment_and_goes_on(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    engine = lab.engine(program("wait()"), value(1.4))
    with pytest.raises(UserError, match="nothing to skip"):
        await engine.skip()
    conducting = conduct(engine, 1)
    await lab.until_training(1)
    skipped, again = await asyncio.gather(engine.skip(), engine.skip(), return_exceptions=True)
    assert isinstance(skipped, Experiment)
    assert skipped.number == 1
    assert str(again) == "#1 is being skipped already."
    await conducting
    assert [e.status for e in lab.experiments()] == [Status.KEEP, Status.SKIP, Status.KEEP]
    assert [e.kind for e in lab.journal.events_after(0)].count(EventKind.SKIP_REQUESTED) == 1
    lab.check_invariants()


async def test_what_a_stop_ends_is_not_skipped(make_lab: MakeLab) -> None:
    lab = make_lab(program("wait()"))
    engine = lab.engine()
    conducting = conduct(engine)
    await lab.until_training(0)
    _, refused = await asyncio.gather(engine.stop(), engine.skip(), return_exceptions=True)
    assert str(refused).endswith("is stopped: there is nothing to skip.")
    await conducting
    assert EventKind.SKIP_REQUESTED not in [e.kind for e in lab.journal.events_after(0)]


async def stopped(make_lab: MakeLab) -> tuple[Lab, Engine]:
    """A run that was stopped while its second experiment trained."""
    lab = make_lab(value(1.5))
    engine = lab.engine(value(1.4), program("wait()"))
    conducting = conduct(engine)
    await lab.until_training(2)
    await engine.stop()
    await conducting
    return lab, engine


async def test_stop_is_for_good_and_leaves_the_branch(make_lab: MakeLab) -> None:
    lab, engine = await stopped(make_lab)
    assert lab.now().state is RunState.STOPPED
    assert [e.status for e in lab.experiments()] == [Status.KEEP, Status.KEEP, Status.SKIP]
    lab.check_invariants()
    for command in (engine.stop, engine.pause, engine.resume):
        with pytest.raises(UserError, match="stopped"):
            await command()


@pytest.mark.parametrize("rest", ["", "raise RuntimeError"])
async def test_a_stop_that_the_engine_died_over_is_carried_out_by_the_next(
    make_lab: MakeLab, rest: str
) -> None:
    lab = make_lab(value(1.5))
    conducting = conduct(lab.engine(program(f"wait()\n{rest}")))
    await lab.until_training(1)
    await end(conducting)
    lab.journal.set_state(lab.now(), RunState.STOPPED, BY_COMMAND)
    if rest:
        lab.open_gate()
        training = lab.experiments()[1].last_training
        while not (lab.folders.attempt(1, training.k) / OUTCOME).exists():  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.005)
    await lab.engine().conduct()  # nothing is asked of its proposer, which has nothing
    status = Status.CRASH if rest else Status.SKIP
    assert [e.status for e in lab.experiments()] == [Status.KEEP, status]


async def test_a_done_run_leaves_no_folder_of_a_training(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    unknown = lab.folders.attempt(1, 2)  # the bot died before it was in the journal
    unknown.mkdir(parents=True)
    await lab.engine(value(1.4), value(1.6)).conduct(2)
    assert not list(lab.folders.trainings.glob("[0-9]*"))
    assert not list(lab.folders.trainings.glob("ahead-*"))


async def test_a_stopped_run_leaves_nothing_that_only_trainings_need(make_lab: MakeLab) -> None:
    lab, _ = await stopped(make_lab)
    assert not lab.folders.trainings.exists()
    assert lab.folders.log(1).is_file()


async def test_retag_in_the_middle_of_a_training_loses_nothing(make_lab: MakeLab) -> None:
    lab = make_lab(program("wait()\nsummary(1.5)"))
    engine = lab.engine(value(1.4))
    conducting = conduct(engine, 1)
    await lab.until_training(0)
    await engine.retag("wide")
    lab.open_gate()
    await conducting
    assert lab.now().tag == "wide"
    assert "val_bpb: 1.4" in (lab.home / "worktrees" / "wide" / "run.log").read_text()
    assert not (lab.home / "worktrees" / "mar12").exists()
    lab.check_invariants()


async def test_retag_refuses_what_exists_or_git_refuses(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    engine = lab.engine()
    git(lab.repository, "branch", "autoresearch/taken")
    for name in ("taken", "no such..name", "-x", ""):
        with pytest.raises(UserError):
            await engine.retag(name)
    with pytest.raises(UserError, match="has that tag already"):
        await engine.retag("mar12")
    assert lab.now().tag == "mar12"


async def test_a_retag_that_the_bot_did_not_finish_is_finished_at_the_next_start(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    lab.journal.retag(lab.run, "wide")  # and the bot dies before git has followed
    await lab.engine(value(1.4)).conduct(1)
    assert lab.now().renamed_from == ""
    lab.check_invariants()


async def test_the_heartbeat_neither_takes_over_nor_ends_the_pause_of_a_person(make_lab: MakeLab) -> None:
    lab = make_lab(program("wait()\nsummary(1.5)"))
    engine = lab.engine(value(1.4))
    task = conduct(engine, 1)
    await lab.until_training(0)
    disk = Reason(Actor.HEARTBEAT, cause=Cause.DISK)
    await engine.pause(reason=disk)
    await engine.pause(reason=Reason(Actor.PERSON, "ann"))  # both found it running when they decided
    with pytest.raises(UserError, match="pausing already"):
        await engine.pause(reason=disk)
    lab.open_gate()
    await lab.until(lambda: lab.now().state is RunState.PAUSED)
    with pytest.raises(UserError, match="on another order"):
        await engine.resume(reason=Reason(Actor.HEARTBEAT))
    assert lab.now().reason == Reason(Actor.PERSON, "ann")
    await engine.resume()
    await task


async def test_commands_do_not_wait_for_what_a_verdict_waits_for(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_lab(value(1.5))
    engine = lab.engine(value(1.4))
    begun, found_out = asyncio.Event(), asyncio.Event()
    evaluate = Lane._evaluate

    async def wait_and_evaluate(self: Lane, measured: Experiment) -> None:
        begun.set()
        await found_out.wait()
        await evaluate(self, measured)

    monkeypatch.setattr(Lane, "_evaluate", wait_and_evaluate)
    conducting = conduct(engine, 1)
    await begun.wait()
    await engine.pause()
    assert (lab.now().state, lab.experiments()[0].stage) == (RunState.PAUSING, Stage.MEASURED)
    with pytest.raises(UserError, match="nothing to skip"):
        await engine.skip()
    found_out.set()
    await lab.until(lambda: lab.now().state is RunState.PAUSED)
    assert [(e.status, e.value) for e in lab.experiments()] == [(Status.KEEP, 1.5)]
    await engine.resume()
    await conducting
    lab.check_invariants()
