from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from loop.engine.lane import Lane
from loop.engine.run import Engine
from loop.engine.trainings import Trainings
from loop.errors import DiskError, UserError
from loop.evaluation.plausibility import Implausible, Sign, doubt_text
from loop.experiment import (
    BY_COMMAND,
    Actor,
    Cause,
    Ending,
    EventKind,
    Experiment,
    Reason,
    Run,
    RunState,
    Stage,
    Status,
)
from loop.files import remove
from loop.git.workspace import Workspace
from loop.logs import summary
from loop.process.environment import Launch, Launcher
from loop.process.liveness import is_measured
from loop.process.supervisor import LOG, OUTCOME
from tests.loop.lab import Lab, git, program, value
from tests.loop.logs import crash_logs
from tests.loop.training_bench import SHORT

MakeLab = Callable[..., Lab]


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[MakeLab]:
    labs: list[Lab] = []

    def make(baseline: str, prepare: str = "TIME_BUDGET = 300\n") -> Lab:
        labs.append(Lab(tmp_path / str(len(labs)), baseline, prepare=prepare))
        return labs[-1]

    yield make
    for lab in labs:
        lab.close()
    assert not [child for child in psutil.Process().children(recursive=True) if "supervisor" in child.name()]


def conduct(engine: Engine, experiments: int | None = None) -> asyncio.Task[None]:
    return asyncio.create_task(engine.conduct(experiments))


async def end(task: asyncio.Task[None]) -> None:
    """End the engine as a bot does that is told to end: the training goes on without it."""
    task.cancel()
    await asyncio.wait({task})


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


async def test_commits_say_what_was_tried_and_stand_on_the_best(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    await lab.engine(value(1.6), value(1.4)).conduct(2)
    log = git(lab.repository, "log", "--format=%s", "autoresearch/mar12")
    assert log.splitlines() == ["autoresearch: idea 2", "first"]
    given_up = git(lab.repository, "log", "-1", "--format=%s %P", "refs/autoresearch/mar12/1")
    assert given_up == f"autoresearch: idea 1 {lab.base}"


async def test_results_and_log_lie_at_the_root_of_the_worktree(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    engine = lab.engine(value(1.4))
    await engine.conduct(1)
    assert (lab.worktree / "results.tsv").read_text().splitlines() == [
        "commit\tval_bpb\tmemory_gb\tstatus\tdescription",
        f"{lab.base[:7]}\t1.500000\t0.5\tkeep\tbaseline",
        f"{lab.experiments()[1].commit[:7]}\t1.400000\t0.5\tkeep\tidea 1",
    ]
    assert "val_bpb: 1.4" in (lab.worktree / "run.log").read_text()
    assert "val_bpb: 1.5" in engine.log_of(0).read_text()
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
    lab.open_gate()
    supervisor = psutil.Process(lab.experiments()[0].last_training.supervisor_pid)
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


async def test_a_training_that_a_limit_ended_is_a_crash_that_says_which(make_lab: MakeLab) -> None:
    large = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL); open('large', 'w').truncate(2**37)"
    lab = make_lab(value(1.5))
    await lab.engine(program(large)).conduct(1)
    crashed = lab.experiments()[1]
    assert (crashed.status, crashed.ending) == (Status.CRASH, Ending.LIMIT)
    assert crashed.cause == crashed.error == "ended: a file larger than the 68.7 GB allowed"


async def test_pause_lets_the_experiment_finish_and_resume_goes_on(make_lab: MakeLab) -> None:
    lab = make_lab(program("wait()\nsummary(1.5)"))
    engine = lab.engine(value(1.4))
    conducting = conduct(engine, 1)
    await lab.until_training(0)
    await engine.pause()
    assert lab.now().state is RunState.PAUSING
    lab.open_gate()
    await lab.until(lambda: lab.now().state is RunState.PAUSED)
    assert [e.status for e in lab.experiments()] == [Status.KEEP]
    with pytest.raises(UserError, match="paused already"):
        await engine.pause()
    await engine.resume()
    with pytest.raises(UserError, match="nothing to resume"):
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
    assert (await engine.skip()).number == 1
    await conducting
    assert [e.status for e in lab.experiments()] == [Status.KEEP, Status.SKIP, Status.KEEP]
    lab.check_invariants()


async def test_stop_is_for_good_and_leaves_the_branch(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    engine = lab.engine(value(1.4), program("wait()"))
    conducting = conduct(engine)
    await lab.until_training(2)
    await engine.stop()
    await conducting
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
    lab = make_lab(value(1.5))
    engine = lab.engine(value(1.4), program("wait()"))
    conducting = conduct(engine)
    await lab.until_training(2)
    await engine.stop()
    await conducting
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
    assert lab.now().tag == "mar12"


async def test_a_retag_that_the_bot_did_not_finish_is_finished_at_the_next_start(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    lab.journal.retag(lab.run, "wide")  # and the bot dies before git has followed
    await lab.engine(value(1.4)).conduct(1)
    assert lab.now().renamed_from == ""
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


async def test_what_a_training_leaves_is_not_there_for_the_next(make_lab: MakeLab) -> None:
    source = "os.makedirs('left', exist_ok=True)\nsteps = len(os.listdir('left'))\n"
    source += "open(f'left/{steps}', 'w')\n"
    lab = make_lab(program(f"{source}summary(1.5 - steps)"))
    await lab.engine(*(program(f"{source}summary(1.{n} - steps)") for n in (6, 4, 3))).conduct(3)
    assert [e.value for e in lab.experiments()] == [1.5, 1.6, 1.4, 1.3]


async def test_a_training_that_changes_the_evaluator_is_a_crash_and_undone(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5), "TIME_BUDGET = 300\n")
    cheat = program("open('prepare.py', 'a').write('# easier')\nsummary(0.1)")
    await lab.engine(cheat, value(1.4)).conduct(2)
    assert [e.status for e in lab.experiments()] == [Status.KEEP, Status.CRASH, Status.KEEP]
    assert "prepare.py" in lab.experiments()[1].reason
    assert (lab.worktree / "prepare.py").read_text() == "TIME_BUDGET = 300\n"


async def test_what_a_person_deletes_in_the_worktree_disturbs_no_training(make_lab: MakeLab) -> None:
    lab = make_lab(program("wait()\nsummary(1.5)"))
    conducting = conduct(lab.engine(value(1.4)), 1)
    await lab.until_training(0)
    (lab.worktree / "prepare.py").unlink()
    lab.open_gate()
    await conducting
    assert [(e.status, e.attempt) for e in lab.experiments()] == [(Status.KEEP, 1), (Status.KEEP, 1)]


async def test_a_program_that_deletes_the_evaluator_is_a_crash(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    await lab.engine(program("os.remove('prepare.py')\nsummary(0.1)")).conduct(1)
    assert [(e.status, e.attempt) for e in lab.experiments()] == [(Status.KEEP, 1), (Status.CRASH, 1)]


async def test_an_anomalously_long_training_is_flagged_and_no_head(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    await lab.engine(program("summary(1.4, seconds=400)"), program("summary(1.6, seconds=400)")).conduct(2)
    _, better, worse = lab.experiments()
    assert (better.status, worse.status) == (Status.QUARANTINE, Status.DISCARD)
    assert {better.reason, worse.reason} == {"anomalous: trained 400 s of a budget of 300 s"}
    assert better.doubts == (doubt_text(Implausible(Sign.OVERRUN, {"seconds": 400, "allowed": 360}), ""),)


async def test_a_streak_of_crashes_asks_for_a_person_once(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    crashes = [program(f"raise RuntimeError('number {n}')") for n in range(3)]
    await lab.engine(*crashes, crash_streak=3).conduct(3)
    events = lab.journal.events_after(0, limit=1000)
    calls = [event.data["reason"] for event in events if event.kind is EventKind.NEEDS_ATTENTION]
    assert calls == ["3 experiments crashed in a row, the last with: RuntimeError: number 2"]
    told = [event.data["reason"] for event in events if event.kind is EventKind.NOTED]
    assert told == ["pauses for 0 min after 3 crashes in a row"]


async def test_a_training_that_others_left_no_memory_is_run_again_when_there_is_room(
    make_lab: MakeLab,
) -> None:
    lab = make_lab(value(1.5))
    full = "raise MemoryError('CUDA out of memory')"
    asked: list[int] = []

    async def is_blocked(run: Run) -> bool:
        asked.append(run.id)
        await engine.pause(reason=Reason(Actor.HEARTBEAT, cause=Cause.GPU_FULL))
        return True

    text = program(f"if not os.path.exists(os.environ['TORCH_GATE']): {full}\nsummary(1.4)")
    engine = lab.engine(text, is_blocked=is_blocked)
    task = conduct(engine, 1)
    await lab.until(lambda: lab.now().state is RunState.PAUSED)
    assert lab.experiments()[1].status is None
    lab.open_gate()
    await engine.resume()
    await task
    assert asked == [lab.run.id]
    _, made = lab.experiments()
    assert (made.status, made.value, made.attempt) == (Status.KEEP, 1.4, 2)
    (back,) = [e for e in lab.journal.events_after(0, limit=1000) if e.kind is EventKind.INTERRUPTED]
    assert back.data["reason"] == "it ran out of memory while the machine was not free for it"


async def test_a_program_that_takes_too_much_memory_by_itself_is_a_crash(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    await lab.engine(program("raise MemoryError('CUDA out of memory')")).conduct(1)
    assert lab.experiments()[1].status is Status.CRASH


async def test_a_person_is_asked_at_once_when_the_program_as_it_is_crashes(make_lab: MakeLab) -> None:
    lab = make_lab(program("raise RuntimeError('no data')"))
    await lab.engine(value(1.4)).conduct(1)
    asked = [e for e in lab.journal.events_after(0, limit=1000) if e.kind is EventKind.NEEDS_ATTENTION]
    (reason,) = (event.data["reason"] for event in asked)
    fix = "fix and commit it, then /start_run"
    assert reason == f"the baseline, your unchanged program, crashed ({fix}): RuntimeError: no data"
    assert [experiment.status for experiment in lab.experiments()] == [Status.CRASH]
    assert (lab.now().state, lab.now().state_cause) == (RunState.STOPPED, Cause.BASELINE)


async def test_a_baseline_that_lacks_a_file_of_the_checkout_says_which_setting_links_it(
    make_lab: MakeLab,
) -> None:
    lab = make_lab(program("open('data/train.bin')"))
    (lab.repository / "data").mkdir()
    (lab.repository / "data/train.bin").touch()
    await lab.engine().conduct()
    asked = [e for e in lab.journal.events_after(0, limit=1000) if e.kind is EventKind.NEEDS_ATTENTION]
    (reason,) = (str(event.data["reason"]) for event in asked)
    assert f"(set LINK_PATHS=data: {lab.repository}/data/train.bin is not in" in reason
    assert "; restart, then /start_run): FileNotFoundError" in reason


async def test_a_baseline_killed_at_its_deadline_says_so_and_what_to_raise(make_lab: MakeLab) -> None:
    lab = make_lab(program("print('parameters: 1.2 M', flush=True); time.sleep(600)"))
    await lab.engine(value(1.4), deadline=0.3).conduct(1)
    asked = [e for e in lab.journal.events_after(0, limit=1000) if e.kind is EventKind.NEEDS_ATTENTION]
    (reason,) = (str(event.data["reason"]) for event in asked)
    assert reason.startswith("the baseline, your unchanged program, crashed: still running after ")
    fix = "raise DEADLINE_MINUTES or look at /log 0, then /start_run"
    assert reason.endswith(f" s: killed at the deadline; {fix}")
    assert lab.experiments()[0].error == ""


AFTER = {
    "exit": ("sys.exit(3)", "exit status 3 after its summary"),
    "traceback": ("raise RuntimeError('too late')", "exit status 1 after its summary"),
    "signal": ("os.abort()", "killed by signal 6 after its summary"),
    "memory": ("raise MemoryError('CUDA out of memory')", "exit status 1 after its summary"),
}


@pytest.mark.parametrize(("late", "clause"), AFTER.values(), ids=AFTER.keys())
async def test_a_number_counts_though_the_program_failed_after_it(
    make_lab: MakeLab, late: str, clause: str
) -> None:
    async def is_blocked(_: Run) -> bool:
        raise AssertionError("a training with a number is not asked about memory")

    lab = make_lab(program(f"summary(1.5)\n{late}"))
    await lab.engine(program(f"summary(1.6)\n{late}"), is_blocked=is_blocked).conduct(1)
    assert [(e.status, e.value, e.reason, e.attempt) for e in lab.experiments()] == [
        (Status.KEEP, 1.5, clause, 1),
        (Status.DISCARD, 1.6, clause, 1),
    ]
    lab.check_invariants()


HANGING = program("summary(1.5)\nwait()")


async def orders(engine: Engine, order: str, folder: Path) -> None:
    match order:
        case "pause":
            await engine.pause(now=True)
        case "skip":
            await engine.skip()
        case "stop":
            await engine.stop()
        case _:
            await engine.end_stalled(folder)


@pytest.mark.parametrize(
    ("order", "clause"),
    [
        ("stall", "hung after its summary: killed after "),
        ("pause", "ended from outside after its summary"),
        ("skip", "ended from outside after its summary"),
        ("stop", "ended from outside after its summary"),
    ],
)
async def test_a_number_counts_though_the_training_is_ended_after_it(
    make_lab: MakeLab, order: str, clause: str
) -> None:
    lab = make_lab(HANGING)
    engine = lab.engine(value(1.6))
    conducting = conduct(engine, 1)
    await lab.until_training(0)
    folder = lab.folders.attempt(0, 1)
    await lab.until(lambda: is_measured(folder, "val_bpb") and "waiting" in (folder / LOG).read_text())
    await orders(engine, order, folder)
    await lab.until(lambda: lab.experiments()[0].status is not None)
    if order == "pause":
        await engine.resume()
    await conducting
    first = lab.experiments()[0]
    assert (first.status, first.value, first.attempt) == (Status.KEEP, 1.5, 1)
    assert first.reason.startswith(clause)
    lab.check_invariants()


async def test_a_decorated_summary_is_a_number(make_lab: MakeLab) -> None:
    coloured = r"for k in ('---', 'val_bpb: 1.4'): print(f'\x1b[36m[rank0]: {k}\x1b[0m', flush=True)"
    lab = make_lab(value(1.5))
    await lab.engine(program(coloured)).conduct(1)
    assert [(e.status, e.value) for e in lab.experiments()] == [(Status.KEEP, 1.5), (Status.KEEP, 1.4)]


async def test_what_stands_in_the_place_of_the_metric_is_named(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    other = program("print('---\\nval_loss: 3.2\\ntraining_seconds: 300.0')")
    await lab.engine(other, program("print('val_bpb=1.39')"), crash_streak=1).conduct(2)
    reasons = [experiment.reason for experiment in lab.experiments()[1:]]
    assert reasons[0] == "no val_bpb in the summary; it has val_loss, training_seconds: set METRIC=val_loss"
    assert reasons[1].startswith("val_bpb is in the log but not in a summary")
    asked = [e for e in lab.journal.events_after(0, limit=1000) if e.kind is EventKind.NEEDS_ATTENTION]
    assert [
        str(event.data["reason"]).endswith(reason) for event, reason in zip(asked, reasons, strict=True)
    ] == [
        True,
        True,
    ]


async def test_a_pattern_reads_what_is_no_block(make_lab: MakeLab) -> None:
    lab = make_lab(program("print('METRIC val_bpb=1.39')"))
    engine = lab.engine(
        program("print('METRIC val_bpb=1.4')"), pattern=r"^METRIC (?P<key>\w+)=(?P<value>\S+)"
    )
    await engine.conduct(1)
    assert [(e.status, e.value) for e in lab.experiments()] == [(Status.KEEP, 1.39), (Status.DISCARD, 1.4)]


async def test_a_pattern_without_end_is_told_of(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "PATTERN_SECONDS", 100.0)  # what ends has time enough on any machine
    lab = make_lab(program("print('val_bpb=1.5')"))
    pattern = r"(?P<key>(a+)+|val_bpb)=(?P<value>\S+)"
    task = conduct(lab.engine(program("wait(); print('a' * 400)"), pattern=pattern), 1)
    await lab.until_training(1)
    monkeypatch.setattr(summary, "PATTERN_SECONDS", 1.0)  # what does not end fits into no limit
    lab.open_gate()
    await task
    last = lab.experiments()[1]
    assert (last.status, last.error) == (Status.CRASH, "SUMMARY_PATTERN gave no answer within 1 s.")


async def test_the_error_is_the_programs_and_not_its_launchers(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    failing = program(f"sys.stderr.write({crash_logs.TORCHRUN!r})\nsys.exit(1)")
    await lab.engine(failing).conduct(1)
    assert lab.experiments()[1].cause == "ValueError: width 640 does not divide by 7 heads"


async def test_the_last_line_of_a_program_that_a_signal_killed_is_no_error(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    await lab.engine(program("print('scaling by 2.8', flush=True)\nos.kill(os.getpid(), 9)")).conduct(1)
    assert lab.experiments()[1].cause == "killed by signal 9"


async def test_a_number_that_is_none_is_a_crash_and_not_in_the_journal(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    await lab.engine(program("summary(float('nan'))"), value(0.0)).conduct(2)
    found = [(e.status, e.reason, e.numbers.get("val_bpb")) for e in lab.experiments()[1:]]
    assert found == [
        (Status.CRASH, "val_bpb is nan, which cannot be", None),
        (Status.CRASH, "val_bpb is 0, which cannot be", 0.0),
    ]


async def test_a_number_of_a_hung_training_without_its_evaluator_is_not_believed(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    hung = program("os.remove('prepare.py')\nsummary(0.1)\ntime.sleep(600)")
    await lab.engine(hung, deadline=SHORT).conduct(1)
    assert [(e.status, e.attempt) for e in lab.experiments()] == [(Status.KEEP, 1), (Status.CRASH, 1)]


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
    move_head = Workspace.move_head

    def move_and_fail(self: Workspace, commit: str, old: str) -> None:
        if moved:
            move_head(self, commit, old)
        raise UserError("no room")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workspace, "move_head", move_and_fail)
        with pytest.raises(UserError, match="no room"):
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
    ("copy", "said"), [(2, "no folder ahead of the next training"), (3, "no cache for the next training yet")]
)
async def test_no_room_for_the_next_training_matters_only_once_it_begins(
    make_lab: MakeLab,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    copy: int,
    said: str,
) -> None:
    copied: list[Path] = []
    real = Trainings._copy_cache

    def copy_cache(trainings: Trainings, folder: Path) -> None:
        copied.append(folder)
        if len(copied) == copy:  # 1 is the baseline's, 2 is made ahead, 3 after the baseline was kept
            raise shutil.Error([("a", "b", str(FULL))])
        real(trainings, folder)

    monkeypatch.setattr(Trainings, "_copy_cache", copy_cache)
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
