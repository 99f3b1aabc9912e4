from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from loop.engine.trainings import Trainings
from loop.errors import DiskError, UserError
from loop.experiment import (
    EventKind,
    RunState,
    Stage,
    Status,
)
from loop.files import remove
from loop.git import commands
from loop.lanes.cache import CompileCache
from loop.process.environment import Launch, Launcher
from tests.loop.engine.engines import MakeLab, conduct, end, failing_git
from tests.loop.lab import git, program, value


async def test_a_run_keeps_what_is_better_and_gives_up_the_rest(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    crash = program("raise RuntimeError('no such luck')")
    await lab.engine(value(1.6), value(1.4), crash, value(1.3)).conduct(4)
    found = [(e.status, e.value, e.best_before) for e in lab.experiments()]
    assert found == [
        (Status.KEEP, 1.5, None),
        (Status.DISCARD, 1.6, 1.5),
        (Status.KEEP, 1.4, 1.5),
        (Status.CRASH, None, 1.4),
        (Status.KEEP, 1.3, 1.4),
    ]
    assert lab.experiments()[3].error == "RuntimeError: no such luck"
    assert lab.now().state is RunState.DONE
    lab.check_invariants()


async def test_every_change_is_written_when_it_happens(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    engine = lab.engine(program("wait(); summary(1.6)"), value(1.7))
    task = conduct(engine, 2)
    await lab.until_training(1)
    while engine.prefetch.ready is None:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.005)
    told = len(lab.kinds())
    writes: list[list[EventKind]] = []
    lab.journal.listeners.append(lambda: writes.append(lab.kinds()[told + sum(map(len, writes)) :]))
    lab.open_gate()
    await task
    verdict = [[EventKind.MEASURED], [EventKind.EVALUATED], [EventKind.DECIDED]]
    launch = [[EventKind.PROPOSED, EventKind.COMMITTED], [EventKind.TRAINING]]
    assert writes == [*verdict, *launch, *verdict, [EventKind.RUN_STATE]]


async def test_an_experiment_asks_git_ten_times(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = make_lab(value(1.5))
    asked: list[object] = []
    start = commands._started

    def count(*arguments: Any, **options: Any) -> Any:
        asked.append(arguments[1])
        return start(*arguments, **options)

    monkeypatch.setattr(commands, "_started", count)
    await lab.engine(value(1.6), value(1.7), value(1.8)).conduct(3)
    assert len(asked) <= 66, asked  # 33 of them at the run's start and end


async def test_commits_say_what_was_tried_and_stand_on_the_best(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    await lab.engine(value(1.6), value(1.4)).conduct(2)
    log = git(lab.repository, "log", "--format=%s", "autoresearch/mar12")
    assert log.splitlines() == ["autoresearch: idea 2", "first"]
    given_up = git(lab.repository, "log", "-1", "--format=%s %P", "refs/autoresearch/mar12/1")
    assert given_up == f"autoresearch: idea 1 {lab.base}"


async def test_results_and_log_lie_at_the_root_of_the_worktree(make_lab: MakeLab) -> None:
    steps = "print('step 1 | loss: 3.5'); print('step 2 | loss: 2.5')"
    lab = make_lab(program(f"{steps}; summary(1.5)"))
    engine = lab.engine(value(1.4))
    await engine.conduct(1)
    assert (lab.worktree / "results.tsv").read_text().splitlines() == [
        "commit\tval_bpb\tmemory_gb\tstatus\tdescription",
        f"{lab.base[:7]}\t1.500000\t0.5\tkeep\tbaseline",
        f"{lab.experiments()[1].commit[:7]}\t1.400000\t0.5\tkeep\tidea 1",
    ]
    assert "val_bpb: 1.4" in (lab.worktree / "run.log").read_text()
    assert "val_bpb: 1.5" in lab.folders.log(0).read_text()
    assert lab.folders.log(0).with_suffix(".curve").read_text() == "50 3.5\n100 2.5\n"
    assert git(lab.worktree, "status", "--porcelain") == ""


async def test_the_stages_are_told_in_order(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    await lab.engine(value(1.6)).conduct(1)
    stages = [EventKind(stage.value) for stage in Stage]
    assert lab.kinds() == [EventKind.RUN_STARTED, *stages, *stages, EventKind.RUN_STATE]


async def test_a_training_outlives_the_engine_and_the_next_one_takes_it_over(make_lab: MakeLab) -> None:
    lab = make_lab(program("wait()\nsummary(1.5)"))
    first = conduct(lab.engine())
    await lab.until_training(0)
    await end(first)
    assert lab.experiments()[0].stage is Stage.TRAINING
    second = conduct(lab.engine(value(1.4)), 1)
    lab.open_gate()
    await second
    assert [(e.status, e.attempt) for e in lab.experiments()] == [(Status.KEEP, 1), (Status.KEEP, 1)]
    lab.check_invariants()


async def test_a_result_that_came_while_nobody_looked_is_not_lost(make_lab: MakeLab) -> None:
    lab = make_lab(program("wait()\nsummary(1.5)"))
    first = conduct(lab.engine())
    await lab.until_training(0)
    await end(first)
    supervisor = psutil.Process(lab.experiments()[0].last_training.supervisor_pid)
    lab.open_gate()
    await asyncio.to_thread(supervisor.wait)
    await lab.engine(value(1.6)).conduct(1)
    assert [e.value for e in lab.experiments()] == [1.5, 1.6]
    assert lab.experiments()[0].attempt == 1


async def test_a_training_that_vanished_is_run_again_and_never_a_crash(make_lab: MakeLab) -> None:
    lab = make_lab(program("wait()\nsummary(1.5)"))
    conducting = conduct(lab.engine(value(1.6)), 1)
    await lab.until_training(0)
    supervisor = psutil.Process(lab.experiments()[0].last_training.supervisor_pid)
    for process in (supervisor, *supervisor.children(recursive=True)):
        process.kill()
    await lab.until_training(0, attempt=2)
    lab.open_gate()
    await conducting
    assert [(e.status, e.attempt) for e in lab.experiments()] == [(Status.KEEP, 2), (Status.DISCARD, 1)]
    assert EventKind.INTERRUPTED in lab.kinds()
    lab.check_invariants()


@pytest.mark.parametrize("stage", [Stage.MEASURED, Stage.EVALUATED])
async def test_a_keep_that_git_has_and_the_journal_not_as_the_last_release_left_it_is_completed(
    make_lab: MakeLab, stage: Stage
) -> None:
    lab = make_lab(value(1.5))
    await lab.engine(value(1.4)).conduct(1)
    kept = lab.experiments()[1]
    lab.journal.record(replace(kept, stage=stage, status=None, reason="", value=None, decided_at=None))
    engine = lab.engine(value(1.4), value(1.3))
    await engine.resume()
    await engine.conduct(2)
    assert [e.value for e in lab.experiments()] == [1.5, 1.4, 1.3]
    lab.check_invariants()


async def test_a_verdict_counts_though_what_comes_after_it_cannot_begin(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    engine = lab.engine(program("wait(); summary(1.6)"), value(1.7), value(1.8))
    task = conduct(engine, 3)
    await lab.until_training(1)
    while engine.prefetch.ready is None:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.005)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainings, "_job", refuse)
        lab.open_gate()
        with pytest.raises(UserError, match="no room"):
            await task
    assert (engine.made, [e.stage for e in engine.under_way]) == (1, [Stage.COMMITTED])
    await engine.conduct(3 - engine.made)
    assert [(e.value, e.attempt) for e in lab.experiments()[1:]] == [(1.6, 1), (1.7, 1), (1.8, 1)]
    lab.check_invariants()


@pytest.mark.parametrize("moved", [False, True])
async def test_a_keep_that_the_journal_knows_of_alone_is_completed(make_lab: MakeLab, moved: bool) -> None:
    lab = make_lab(value(1.5))
    engine = lab.engine(value(1.4), value(1.3))
    with failing_git(moved=moved):
        await engine.conduct(1)
    assert lab.now().moves_head_from == lab.base
    with pytest.raises(UserError, match="nothing to skip"):
        await engine.skip()
    await engine.conduct(1)
    assert lab.now().moves_head_from == ""
    assert [e.value for e in lab.experiments()] == [1.5, 1.4, 1.3]
    lab.check_invariants()


FULL = OSError(errno.ENOSPC, "No space left on device", "prepare.py")


async def test_a_training_that_finds_no_room_begins_once_there_is_some(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_lab(value(1.5))
    engine = lab.engine(program("wait(); summary(1.6)"), value(1.7))
    task = conduct(engine, 2)
    await lab.until_training(1)
    while not lab.folders.trainings.joinpath("ahead-0").exists():  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.005)
    remove(lab.folders.trainings / "ahead-0")
    with monkeypatch.context() as patch:
        patch.setattr("loop.git.checkout._copy", fail_with(FULL))
        lab.open_gate()
        with pytest.raises(DiskError, match=r"^prepare\.py cannot be written: No space left on device\.$"):
            await task
    await engine.conduct(2 - engine.made)
    assert [(e.value, e.attempt) for e in lab.experiments()[1:]] == [(1.6, 1), (1.7, 1)]
    lab.check_invariants()


@pytest.mark.parametrize(
    ("copy", "said"), [(2, "the next training is not ready ahead"), (3, "no cache for the next training yet")]
)
async def test_no_room_for_the_next_training_matters_only_once_it_begins(
    make_lab: MakeLab,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    copy: int,
    said: str,
) -> None:
    copied: list[Path] = []
    real = CompileCache.copy_into

    def copy_cache(cache: CompileCache, folder: Path) -> None:
        copied.append(folder)
        if len(copied) == copy:  # 1 is the baseline's, 2 is made ahead, 3 after the baseline was kept
            raise shutil.Error([("a", "b", str(FULL))])
        real(cache, folder)

    monkeypatch.setattr(CompileCache, "copy_into", copy_cache)
    lab = make_lab(program("wait(); summary(1.5)"))
    task = conduct(lab.engine(value(1.4)), 1)
    await lab.until_training(0)
    while len(copied) < 2:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.005)
    lab.open_gate()
    await task
    assert [(e.value, e.attempt) for e in lab.experiments()] == [(1.5, 1), (1.4, 1)]
    assert said in caplog.text
    lab.check_invariants()


def fail_with(error: Exception) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


def refuse(*_: object) -> None:
    raise UserError("no room")


async def test_a_damaged_row_halts_the_run_until_it_is_mended(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    await lab.engine(value(1.4)).conduct(1)
    with lab.journal.transaction():
        lab.journal.execute("UPDATE experiments SET status = 'kept' WHERE number = 1")
    engine = lab.engine(value(1.4), value(1.3))
    with pytest.raises(UserError, match="status of run_id 1 number 1 is 'kept'"):
        await engine.conduct(1)
    with lab.journal.transaction():
        lab.journal.execute("UPDATE experiments SET status = 'keep' WHERE number = 1")
    await engine.resume()
    await engine.conduct(1)
    assert [e.value for e in lab.experiments()] == [1.5, 1.4, 1.3]
    lab.check_invariants()


async def test_what_a_run_prepares_is_known_meanwhile_and_noted_once(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_lab(value(1.5))
    engine = lab.engine(value(1.4))
    lines, seen, real = ["uv installs", "uv: Downloading torch"], [], Launcher.prepare

    def prepare(
        launcher: Launcher, project: Path, checkout: Path | None, report: Callable[[str], None]
    ) -> Launch:
        for line in lines:
            report(line)
            seen.append(engine.preparing)
        return real(launcher, project, checkout, report)

    monkeypatch.setattr(Launcher, "prepare", prepare)
    await engine.conduct(1)
    assert seen == lines
    assert engine.preparing == ""
    noted = [e for e in lab.journal.events_after(0, limit=1000) if e.kind is EventKind.NOTED]
    assert [event.data["reason"] for event in noted] == lines[:1]
