"""The branch of a run is a person's to move: the run then waits, and goes on when it is back."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
from collections.abc import Callable

import pytest

from loop.engine.run import Engine
from loop.errors import UserError
from loop.experiment import Cause, EventKind, RunState, Stage, Status
from tests.loop.engine.engines import MakeLab, conduct, end
from tests.loop.lab import GIT_ENVIRONMENT, Lab, git, program, value

BRANCH = "refs/heads/autoresearch/mar12"


def move(lab: Lab) -> None:
    other = git(lab.repository, "commit-tree", f"{lab.base}^{{tree}}", "-p", lab.base, "-m", "by hand")
    git(lab.repository, "update-ref", BRANCH, other)


def delete(lab: Lab) -> None:
    git(lab.repository, "update-ref", "-d", BRANCH)


def calls(lab: Lab) -> list[str]:
    """What a person is called for because of the branch."""
    asked = [e for e in lab.journal.events_after(0, limit=1000) if e.kind is EventKind.NEEDS_ATTENTION]
    return [str(e.data["reason"]) for e in asked if e.data["cause"] == Cause.BRANCH]


def follow(sentence: str) -> None:
    """Do what the message says, as it stands there."""
    subprocess.run(shlex.split(sentence.split("`")[1]), env=GIT_ENVIRONMENT, check=True, capture_output=True)


def paused(lab: Lab) -> Callable[[], bool]:
    return lambda: lab.now().state is RunState.PAUSED


@pytest.mark.parametrize("by_hand", [move, delete])
async def test_a_result_waits_until_the_branch_is_back(
    make_lab: MakeLab, by_hand: Callable[[Lab], None]
) -> None:
    lab = make_lab(value(1.5))
    engine = lab.engine(program("wait()\nsummary(1.4)"), value(1.3))
    conducting = conduct(engine, 2)
    await lab.until_training(1)
    by_hand(lab)
    lab.open_gate()
    await lab.until(paused(lab))
    assert [e.stage for e in lab.experiments()] == [Stage.DECIDED, Stage.EVALUATED]
    with pytest.raises(UserError, match="git -C"):
        await engine.resume()
    (sentence,) = calls(lab)
    follow(sentence)
    await engine.resume()
    await conducting
    assert [e.value for e in lab.experiments()] == [1.5, 1.4, 1.3]
    lab.check_invariants()


async def test_a_moved_branch_is_noticed_while_a_training_goes_on(make_lab: MakeLab) -> None:
    lab = make_lab(program("wait()\nsummary(1.5)"))
    engine = lab.engine()
    conducting = conduct(engine)
    await lab.until_training(0)
    await engine.check_branch()
    assert lab.now().state is RunState.RUNNING
    move(lab)
    await engine.check_branch()
    assert lab.now().state is RunState.PAUSING
    assert len(calls(lab)) == 1
    lab.open_gate()
    await lab.until(paused(lab))
    assert len(calls(lab)) == 1
    await end(conducting)


async def test_a_bot_that_starts_with_a_moved_branch_waits_and_says_so_once(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    await lab.engine(value(1.4)).conduct(1)
    move(lab)
    engine = await restarted(lab)
    conducting = conduct(engine, 1)
    await lab.until(paused(lab))
    await end(conducting)
    conducting = conduct(engine := lab.engine(value(1.4), value(1.3)), 1)
    await asyncio.sleep(0)
    follow(calls(lab)[0])
    await engine.resume()
    await conducting
    assert len(calls(lab)) == 1
    assert [e.value for e in lab.experiments()] == [1.5, 1.4, 1.3]
    lab.check_invariants()


async def test_a_bot_that_starts_with_a_moved_branch_goes_on_once_it_is_back(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    await lab.engine(value(1.4)).conduct(1)
    move(lab)
    engine = await restarted(lab)
    conducting = conduct(engine, 1)
    await lab.until(paused(lab))
    follow(calls(lab)[0])
    await engine.resume()
    await conducting
    assert [e.value for e in lab.experiments()] == [1.5, 1.4, 1.3]
    lab.check_invariants()


async def restarted(lab: Lab) -> Engine:
    engine = lab.engine(value(1.4), value(1.3))
    await engine.resume()
    return engine


async def test_a_stop_does_not_wait_for_the_branch(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    engine = lab.engine(program("wait()\nsummary(1.4)"))
    conducting = conduct(engine)
    await lab.until_training(1)
    delete(lab)
    lab.open_gate()
    await lab.until(paused(lab))
    await engine.stop()
    await conducting
    assert [e.status for e in lab.experiments()] == [Status.KEEP, Status.SKIP]
