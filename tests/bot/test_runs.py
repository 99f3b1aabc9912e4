from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from datetime import date
from pathlib import Path

import pytest

from bot.runs import Runs
from bot.setup.settings import load_settings
from loop.errors import DiskError, UserError
from loop.experiment import Actor, Cause, Reason, Run, RunState
from loop.git.workspace import Workspace
from loop.store.journal import Journal
from tests.bot.real_bot import RealBot
from tests.loop.evaluation import toy_evaluator_text
from tests.loop.lab import git

FULL = 'import sys\nDEPTH = 4\nprint("torch.OutOfMemoryError: CUDA out of memory")\nsys.exit(1)\n'


class Machine:
    """Runs on a toy repository, and what a test lets stand in the way of a training."""

    def __init__(self, folder: Path) -> None:
        bot = RealBot(folder, train=FULL)
        self.blocker: Reason | None = None
        self.journal = Journal(bot.home / "state.db")
        self.runs = Runs(
            load_settings(Path("no.env"), bot.environment),
            repository=bot.repository,
            journal=self.journal,
            environ=bot.environment,
            today=lambda: date(2026, 3, 12),
            blocker=self.find_blocker,
        )

    async def find_blocker(self, _: Run) -> Reason | None:
        return self.blocker


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    made = Machine(tmp_path)
    yield made
    await made.runs.close()
    made.journal.close()


async def test_a_run_whose_training_lacked_memory_is_paused_for_who_holds_it(machine: Machine) -> None:
    machine.blocker = Reason(
        Actor.HEARTBEAT,
        cause=Cause.GPU_FULL,
        facts={"free_mb": 1.0, "needed_mb": 2.0, "held_by": "jupyter (pid 42)"},
    )
    run = machine.runs.start_run()
    machine.runs.conduct(run)
    await machine.runs.trouble.wait()
    run = machine.journal.run_by_id(run.id)
    assert run.state in (RunState.PAUSING, RunState.PAUSED)
    assert (run.state_by, run.state_cause) == (Actor.HEARTBEAT, Cause.GPU_FULL)
    assert sum(machine.journal.counts(run.id).values()) == 0


async def test_a_program_that_is_too_large_by_itself_pauses_nothing(machine: Machine) -> None:
    run = machine.runs.start_run()
    await machine.runs.conduct(run, 1)
    assert machine.journal.run_by_id(run.id).state_cause is Cause.BASELINE
    assert not machine.runs.trouble.is_set()


async def test_a_loop_that_ended_with_an_error_is_found_and_can_be_restarted(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UserError("no disk")

    run = machine.runs.start_run()
    monkeypatch.setattr(Workspace, "repair", fail)
    machine.runs.conduct(run, 1)
    await machine.runs.trouble.wait()
    (found,) = machine.runs.loops()
    assert found.ended is not None
    assert found.ended.reason == "no disk"
    monkeypatch.undo()
    machine.runs.restart(run)
    (found,) = machine.runs.loops()
    assert found.ended is None
    await machine.runs.conduct(run)
    assert machine.runs.loops() == []


async def test_a_run_that_lacks_room_is_over_only_once_it_had_some(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_with(error: UserError) -> Callable[..., None]:
        def fail(*_: object, **__: object) -> None:
            raise error

        return fail

    run = machine.runs.start_run()
    monkeypatch.setattr(Workspace, "repair", fail_with(DiskError("full")))
    machine.runs.conduct(run, 1, unattended=True)
    over = asyncio.create_task(machine.runs.over(run))
    for _ in range(2):
        await machine.runs.trouble.wait()
        machine.runs.trouble.clear()
        assert not over.done()
        machine.runs.restart(run)
    await machine.runs.trouble.wait()
    monkeypatch.undo()
    machine.runs.restart(run)
    await over
    run = machine.journal.run_by_id(run.id)
    assert (run.state, run.state_cause) == (RunState.STOPPED, Cause.BASELINE)

    again = machine.runs.start_run()
    monkeypatch.setattr(Workspace, "repair", fail_with(UserError("no such package")))
    machine.runs.conduct(again, 1, unattended=True)
    with pytest.raises(UserError, match="no such package"):
        await machine.runs.over(again)


async def test_an_engine_is_made_once_and_not_on_the_event_loop(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, threads = machine.runs.start_run(), []
    make = Runs._make_workspace

    def watched(*arguments: object) -> Workspace:
        threads.append(threading.get_ident())
        return make(*arguments)  # type: ignore[arg-type] # as they came

    monkeypatch.setattr(Runs, "_make_workspace", watched)
    engines = await asyncio.gather(*(asyncio.to_thread(machine.runs.engine, run) for _ in range(4)))
    assert len(set(map(id, engines))) == 1
    await machine.runs.conduct(run, 1)
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_the_start_card_knows_what_checks_the_numbers(machine: Machine) -> None:
    assert machine.runs.plan_run().evaluator == ""
    (machine.runs.repository / "evaluate.py").write_text(toy_evaluator_text())
    git(machine.runs.repository, "add", "evaluate.py")
    git(machine.runs.repository, "commit", "--quiet", "--message=evaluator")
    assert machine.runs.plan_run().evaluator == "evaluate.py"
