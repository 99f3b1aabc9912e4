"""What a training came to and what that means for its experiment, with real git, processes and journal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loop.engine.run import Engine
from loop.evaluation.plausibility import Implausible, Sign, doubt_text
from loop.evidence import Finding, Rule, Severity
from loop.experiment import (
    Actor,
    Cause,
    Ending,
    EventKind,
    Proposal,
    Reason,
    Run,
    RunState,
    Status,
)
from loop.logs import summary
from loop.logs.capture import LOG
from loop.machine import Gpu, GpuState
from loop.process.liveness import is_measured
from loop.proposers.protocol import Context
from tests.loop.engine.engines import MakeLab, conduct, end
from tests.loop.lab import Ideas, program, value
from tests.loop.lanes.test_cluster import RECIPE
from tests.loop.logs import crash_logs
from tests.loop.training_bench import SHORT

LARGE = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL); open('large', 'w').truncate(2**37)"

CRASHES = {
    LARGE: "ended: a file larger than the 68.7 GB allowed",
    "os.remove('prepare.py')\nsummary(0.1)": "prepare.py was changed during the training",
    "raise MemoryError('CUDA out of memory')": "MemoryError: CUDA out of memory",
    f"sys.stderr.write({crash_logs.TORCHRUN!r})\nsys.exit(1)": (
        "ValueError: width 640 does not divide by 7 heads"  # the program's, not its launcher's
    ),
    "print('scaling by 2.8', flush=True)\nos.kill(os.getpid(), 9)": "killed by signal 9",
    "summary(float('nan'))": "val_bpb is nan, which cannot be",
    "summary(0.0)": "val_bpb is 0, which cannot be",
}
"""What programs do that is a crash, and what is said to be its cause."""


async def test_a_crash_says_what_its_cause_is(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    await lab.engine(*map(program, CRASHES), crash_streak=100).conduct(len(CRASHES))
    _, *crashed = lab.experiments()
    assert {(e.status, e.attempt) for e in crashed} == {(Status.CRASH, 1)}
    assert [e.cause for e in crashed] == [*CRASHES.values()]
    assert crashed[0].ending is Ending.LIMIT
    assert [e.numbers.get("val_bpb") for e in crashed[-2:]] == [None, 0.0]  # the journal has no nan
    lab.check_invariants()


async def test_a_training_has_its_time_of_the_processors(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    await lab.engine(value(1.4)).conduct(1)
    for experiment in lab.experiments():
        assert 0.0 < (experiment.last_training.cpu_seconds or 0.0) < 60.0


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


async def test_an_anomalously_long_training_is_flagged_and_no_head(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    await lab.engine(program("summary(1.4, seconds=400)"), program("summary(1.6, seconds=400)")).conduct(2)
    _, better, worse = lab.experiments()
    assert (better.status, worse.status) == (Status.QUARANTINE, Status.DISCARD)
    assert {better.reason, worse.reason} == {"anomalous: trained 400 s of a budget of 300 s"}
    assert better.doubts == (doubt_text(Implausible(Sign.OVERRUN, {"seconds": 400, "allowed": 360}), ""),)


async def test_a_large_gain_of_a_flagged_program_is_doubted_and_of_another_is_not(make_lab: MakeLab) -> None:
    """Also by the next engine, which knows the findings by the journal."""
    lab = make_lab(value(1.5))
    finding = Finding(Rule.FILES, 3, "It reads a file.", Severity.FLAG)

    class Flagged(Ideas):
        async def propose(self, context: Context) -> Proposal:
            return replace(await super().propose(context), findings=(finding,))

    text = program("wait()\nsummary(1.45)")
    conducting = conduct(lab.engine(ideas=Flagged(text)), 1)
    await lab.until_training(1)
    await end(conducting)
    lab.open_gate()
    await lab.engine(text, value(1.44)).conduct(2)
    _, flagged, plain = lab.experiments()
    assert flagged.findings == (finding,)
    assert (flagged.status, plain.status) == (Status.QUARANTINE, Status.KEEP)
    assert "out of scale" in flagged.doubts[0]


async def test_more_memory_than_the_device_has_is_doubted(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = GpuState((Gpu(0, "a", memory_mb=400.0, free_mb=None, utilization=None),), ())
    monkeypatch.setattr("loop.engine.judging.evaluations.look_at_gpus", lambda: gpus)
    lab = make_lab(value(1.5))
    await lab.engine(value(1.4)).conduct(1)
    assert lab.experiments()[1].status is Status.QUARANTINE
    assert "the device has 0.4" in lab.experiments()[1].doubts[0]
    await (engine := lab.engine("", value(1.3), recipe=RECIPE)).resume()  # on nodes, with other GPUs
    await engine.conduct(1)
    assert lab.experiments()[2].status is Status.KEEP


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


async def test_a_person_is_asked_at_once_when_the_program_as_it_is_crashes(make_lab: MakeLab) -> None:
    lab = make_lab(program("raise RuntimeError('no data')"))
    await lab.engine(value(1.4)).conduct(1)
    asked = [e for e in lab.journal.events_after(0, limit=1000) if e.kind is EventKind.NEEDS_ATTENTION]
    (reason,) = (event.data["reason"] for event in asked)
    fix = "fix and commit it, then /start_run"
    assert reason == f"the baseline, your unchanged program, crashed ({fix}): RuntimeError: no data"
    assert [experiment.status for experiment in lab.experiments()] == [Status.CRASH]
    assert (lab.now().state, lab.now().state_cause) == (RunState.STOPPED, Cause.BASELINE)


async def test_a_baseline_whose_metric_is_not_read_says_which_setting_reads_it(make_lab: MakeLab) -> None:
    lab = make_lab(program("print('---\\nval_acc: 0.4\\nval_loss: 3.2')"))
    await lab.engine().conduct()
    asked = [e for e in lab.journal.events_after(0, limit=1000) if e.kind is EventKind.NEEDS_ATTENTION]
    (reason,) = (str(event.data["reason"]) for event in asked)
    assert "crashed (set METRIC to one of val_acc, val_loss and METRIC_GOAL=maximize if " in reason
    assert "; restart, then /start_run): no val_bpb in the summary" in reason


async def test_a_baseline_in_which_the_pattern_finds_nothing_needs_another(make_lab: MakeLab) -> None:
    lab = make_lab(program("print('done')"))
    await lab.engine(pattern=r"^METRIC (?P<key>\w+)=(?P<value>\S+)").conduct()
    asked = [e for e in lab.journal.events_after(0, limit=1000) if e.kind is EventKind.NEEDS_ATTENTION]
    (reason,) = (str(event.data["reason"]) for event in asked)
    assert "crashed (set another SUMMARY_PATTERN; restart, then /start_run): " in reason


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


async def test_a_number_counts_though_the_program_failed_after_it(make_lab: MakeLab) -> None:
    async def is_blocked(_: Run) -> bool:
        raise AssertionError("a training with a number is not asked about memory")

    (first, clause), *others = AFTER.values()
    expected = [(Status.KEEP, 1.5, clause, 1), (Status.DISCARD, 1.6, clause, 1)]
    programs = [program(f"summary(1.6)\n{first}")]
    for place, (late, clause) in enumerate(others):
        kept, worse = 1.4 - place / 10, 1.7 + place / 10
        programs += [program(f"summary({number})\n{late}") for number in (kept, worse)]
        expected += [(Status.KEEP, kept, clause, 1), (Status.DISCARD, worse, clause, 1)]
    lab = make_lab(program(f"summary(1.5)\n{first}"))
    await lab.engine(*programs, is_blocked=is_blocked).conduct(len(programs))
    found = [(e.status, e.value, e.reason, e.attempt) for e in lab.experiments()]
    assert found == [(status, pytest.approx(number), *rest) for status, number, *rest in expected]
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


async def test_the_setting_that_a_baseline_lacks_is_said_once(make_lab: MakeLab) -> None:
    lab = make_lab(program("print('METRIC val_loss=3.2')"))
    await lab.engine().conduct(1)
    (asked,) = (e for e in lab.journal.events_after(0, limit=1000) if e.kind is EventKind.NEEDS_ATTENTION)
    assert asked.data["reason"] == (
        "the baseline, your unchanged program, crashed (set METRIC=val_loss; restart, then /start_run): "
        "no val_bpb in the summary; it has val_loss"
    )


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


async def test_a_number_of_a_hung_training_without_its_evaluator_is_not_believed(make_lab: MakeLab) -> None:
    lab = make_lab(value(1.5))
    hung = program("os.remove('prepare.py')\nsummary(0.1)\ntime.sleep(600)")
    await lab.engine(hung, deadline=SHORT).conduct(1)
    assert [(e.status, e.attempt) for e in lab.experiments()] == [(Status.KEEP, 1), (Status.CRASH, 1)]
