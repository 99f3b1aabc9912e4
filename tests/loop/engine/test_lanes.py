"""Several lanes: each has its own place, no result is lost between them, none becomes the head unmeasured."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from loop.engine.lane import Lane
from loop.errors import UserError
from loop.evidence import Invalidated
from loop.experiment import Actor, Cause, EventKind, Proposal, Reason, Status
from loop.lanes.protocol import Slot
from loop.lanes.status import lane_statuses
from loop.proposers.protocol import Context
from loop.store.events import events_of
from loop.store.lanes import lanes_of
from tests.loop.engine.engines import MakeLab
from tests.loop.lab import Lab, program

TWO = (
    Slot(0, "GPU 0", gpu="GPU-a", variables={"CUDA_VISIBLE_DEVICES": "GPU-a"}),
    Slot(1, "GPU 1", gpu="GPU-b", variables={"CUDA_VISIBLE_DEVICES": "GPU-b"}),
)
FULL = Reason(Actor.HEARTBEAT, cause=Cause.GPU_FULL, facts={"held_by": "jupyter (pid 42)"})
GONE = Reason(Actor.HEARTBEAT, cause=Cause.GPU_GONE)


def toy(a: float, b: float, wait: str = "") -> str:
    """Return a program whose loss is `a + b`; it waits for the file `wait` in the folder of the gate."""
    gate = f'gate = os.environ["TORCH_GATE"] + "{wait}"\n' if wait else "gate = ''\n"
    return program(
        f"""
A = {a}



B = {b}



{gate}
print("waiting on", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
while gate and not os.path.exists(gate):
    time.sleep(0.005)
summary(A + B)
"""
    )


class Edits:
    """Proposes each of these in turn, as changes of `A` or `B` of the best program, then ever worse ones."""

    name = "edits"

    def __init__(self, *programs: str) -> None:
        self._programs = list(programs)
        self._made = 100

    async def propose(self, context: Context) -> Proposal:
        self._made += 1
        source = self._programs.pop(0) if self._programs else toy(self._made, 1.0)
        return Proposal(source, "an edit", "because", self.name, context.parent)


def open_gate(lab: Lab, name: str) -> None:
    Path(f"{lab.gate}{name}").touch()


async def test_lanes_train_at_once_each_with_its_own_gpu(make_lab: MakeLab) -> None:
    lab = make_lab(toy(1.0, 1.0))
    engine = lab.engine(ideas=Edits(toy(0.9, 1.0, "x"), toy(1.0, 0.8, "x")), slots=TWO)
    conducting = asyncio.create_task(engine.conduct(2))
    await lab.until(lambda: len(lab.journal.undecided(lab.run.id)) == 2)
    await lab.until(lambda: all(each.training for each in lab.journal.undecided(lab.run.id)))
    assert sorted(each.last_training.device for each in lab.experiments()[1:]) == ["GPU 0", "GPU 1"]
    open_gate(lab, "x")
    await conducting
    for each in lab.experiments()[1:]:
        own = TWO[each.lane].gpu
        assert f"waiting on {own}\n" in lab.folders.log(each.number).read_text()


async def test_each_lane_shows_how_far_its_training_is(make_lab: MakeLab) -> None:
    lab = make_lab(toy(1.0, 1.0))
    steps = [f"step 00001 ({share}.0%) | loss: 2.5 | remaining: 1s" for share in (25, 75)]
    engine = lab.engine(ideas=Edits(*(program(f"print({step!r})\nwait()") for step in steps)), slots=TWO)
    conducting = asyncio.create_task(engine.conduct(2))
    await lab.until(lambda: len(lab.journal.undecided(lab.run.id)) == 2)
    shares: set[float | None] = set()
    while shares != {25.0, 75.0}:
        statuses = lane_statuses(lab.journal, lab.now(), worktree=lab.worktree)
        shares = {each.progress.percent for each in statuses if each.progress}
        await asyncio.sleep(0.01)
    lab.open_gate()
    await conducting


async def test_a_gain_on_an_older_head_is_trained_with_what_was_kept_meanwhile(make_lab: MakeLab) -> None:
    lab = make_lab(toy(1.0, 1.0))
    engine = lab.engine(ideas=Edits(toy(0.9, 1.0, "x"), toy(1.0, 0.8, "y")), slots=TWO)
    conducting = asyncio.create_task(engine.conduct())
    await lab.until(lambda: len(lab.journal.undecided(lab.run.id)) == 2)
    open_gate(lab, "x")
    await lab.until(lambda: lab.experiments()[1].status is not None)
    open_gate(lab, "y")
    await lab.until(lambda: lab.journal.best(lab.run.id).number > 2)  # type: ignore[union-attr]
    await engine.stop()
    await conducting
    first, late = lab.experiments()[1:3]
    both = next(each for each in lab.experiments() if each.retry is not None)
    assert first.status is Status.KEEP
    assert (late.status, late.invalidated, late.value) == (Status.DISCARD, Invalidated.BEHIND, 1.8)
    assert (both.status, both.value, both.parent) == (Status.KEEP, 1.7, first.commit)
    lab.check_invariants()


async def test_of_two_changes_of_a_line_the_better_one_is_trained_on_the_head(make_lab: MakeLab) -> None:
    lab = make_lab(toy(1.0, 1.0))
    engine = lab.engine(ideas=Edits(toy(0.9, 1.0, "x"), toy(0.5, 1.0, "x")), slots=TWO)
    conducting = asyncio.create_task(engine.conduct())
    await lab.until(lambda: len(lab.journal.undecided(lab.run.id)) == 2)
    open_gate(lab, "x")
    await lab.until(lambda: lab.journal.best(lab.run.id).value == 1.5)  # type: ignore[union-attr]
    await engine.stop()
    await conducting
    lab.check_invariants()


async def test_a_lane_whose_gpu_is_gone_is_retired_and_the_other_trains_what_it_had(
    make_lab: MakeLab,
) -> None:
    async def blocker(_: object, slot: Slot) -> Reason | None:
        return GONE if slot.index == 1 else None

    lab = make_lab(toy(1.0, 1.0))
    broken = 'assert os.environ["CUDA_VISIBLE_DEVICES"] != "GPU-b", "lost"\n'
    edits = (program(broken + f"wait()\nsummary({value})") for value in (2.1, 2.2))
    engine = lab.engine(ideas=Edits(*edits), slots=TWO, blocker=blocker)
    conducting = asyncio.create_task(engine.conduct(2))
    await lab.until(lambda: lanes_of(lab.journal, lab.run.id)[-1].closed != "")
    lab.open_gate()
    await conducting
    assert [each.status for each in lab.experiments()].count(Status.CRASH) == 0
    notes = [event for event in lab.journal.events_after(0, limit=1000) if event.kind is EventKind.NOTED]
    assert [note.data["reason"] for note in notes] == [
        "lane 1 (GPU 1) is retired, its GPU is gone; 1 lane goes on"
    ]


async def test_a_lane_that_others_use_waits_until_it_is_opened(make_lab: MakeLab) -> None:
    lab = make_lab(toy(1.0, 1.0))
    engine = lab.engine(ideas=Edits(toy(2.1, 1.0), toy(2.2, 1.0), toy(2.3, 1.0, "x")), slots=TWO)
    conducting = asyncio.create_task(engine.conduct(3))
    await lab.until(lambda: bool(lab.experiments()))
    assert await engine.close_lane(1, FULL)
    assert not await engine.close_lane(0, FULL), "the last one is the run's to pause"
    await lab.until(lambda: len(lab.experiments()) == 4)
    assert {each.lane for each in lab.experiments()} == {0}
    await engine.open_lane(1)
    open_gate(lab, "x")
    await conducting
    assert [lane.closed for lane in lanes_of(lab.journal, lab.run.id)] == ["", ""]


async def test_what_fails_in_a_lane_that_came_later_is_not_overlooked_while_the_others_train(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_lab(toy(1.0, 1.0, "x"))
    engine = lab.engine(ideas=Edits(), slots=TWO[:1])
    conducting = asyncio.create_task(engine.conduct(2))
    await lab.until_training(0)

    step = Lane.step

    async def fail(lane: Lane) -> None:
        if lane.index == 1:
            raise UserError("its disk is full")
        await step(lane)

    monkeypatch.setattr("loop.engine.lane.Lane.step", fail)
    monkeypatch.setattr(engine, "_awaits_baseline", lambda _: False)  # else it does nothing yet
    await engine.join(TWO[1])
    with pytest.raises(UserError, match="its disk is full"):
        await asyncio.wait_for(conducting, 60)
    monkeypatch.undo()
    open_gate(lab, "x")
    await lab.engine(slots=TWO[:1]).conduct(0)  # nothing is left running


async def test_a_bot_with_fewer_lanes_ends_what_trains_in_the_others(make_lab: MakeLab) -> None:
    lab = make_lab(toy(1.0, 1.0))
    edits = toy(0.9, 1.0, "x"), toy(1.0, 0.8, "x")
    conducting = asyncio.create_task(lab.engine(ideas=Edits(*edits), slots=TWO).conduct(2))
    await lab.until(lambda: len(lab.journal.undecided(lab.run.id)) == 2)
    await lab.until(lambda: all(each.training for each in lab.journal.undecided(lab.run.id)))
    conducting.cancel()
    await asyncio.wait({conducting})
    open_gate(lab, "x")
    await lab.engine(ideas=Edits()).conduct(2)
    assert [each.attempt for each in lab.experiments()] == [1, 1, 1]
    assert all(each.status is not None for each in lab.experiments())


async def test_a_certification_begins_when_no_lane_trains_and_uses_all(make_lab: MakeLab) -> None:
    lab = make_lab(toy(1.0, 1.0))
    engine = lab.engine(
        ideas=Edits(toy(0.9, 1.0), toy(1.0, 0.8, "x"), toy(0.2, 1.0, "x")), slots=TWO, certify_repeats=2
    )
    conducting = asyncio.create_task(engine.conduct())
    await lab.until(lambda: [each.number for each in lab.journal.undecided(lab.run.id)] == [2, 3])
    await engine.certify()
    open_gate(lab, "x")
    await lab.until(lambda: engine.certifier.under_way(engine.run) is None)
    await engine.stop()
    await conducting
    rows = lab.journal.query("SELECT number, lane FROM trainings WHERE purpose = 'repeat'")
    assert len(rows) == 4
    assert {row["lane"] for row in rows} == {0, 1}
    begun = events_of(lab.journal, lab.run.id, (EventKind.TRAINING, EventKind.REPEAT_TRAINING))
    kinds = [event.kind for event in begun]
    assert kinds.index(EventKind.REPEAT_TRAINING) == 4  # after what trained when it was asked for


async def test_a_lane_trains_both_programs_of_a_certification_by_turns_whatever_the_others_do(
    make_lab: MakeLab,
) -> None:
    """The first of its repeats waits at the gate, so that the other lane trains the five others."""
    gated = """\
gate = os.environ["TORCH_GATE"]
if os.path.exists(gate + ".shut") and not os.path.exists(gate + ".first"):
    open(gate + ".first", "w")
    wait()
"""
    lab = make_lab(program(f"{gated}summary(1.5)"))
    edits = Edits(program(f"{gated}summary(1.4)"), program(f"{gated}summary(1.6)"))
    engine = lab.engine(ideas=edits, slots=TWO)
    await engine.conduct(2)
    open_gate(lab, ".shut")
    await engine.certify()
    await engine.resume()
    conducting = asyncio.create_task(engine.conduct(0))
    repeats = "SELECT number, lane FROM trainings WHERE purpose = 'repeat' ORDER BY started_at"
    await lab.until(lambda: lab.kinds().count(EventKind.REPEATED) == 5)
    lab.open_gate()
    await conducting
    lanes = [[row["number"] for row in lab.journal.query(repeats) if row["lane"] == lane] for lane in (0, 1)]
    (held,), others = sorted(lanes, key=len)
    assert held in (0, 1)
    assert others in ([1, 0, 1, 0, 1], [0, 1, 0, 1, 0])


async def test_the_noise_is_told_once_the_last_of_the_lanes_has_repeated(make_lab: MakeLab) -> None:
    lab = make_lab(toy(1.0, 1.0))
    engine = lab.engine(ideas=Edits(), slots=TWO, noise_runs=2)
    await engine.conduct(1)
    told = [event.data["last"] for event in events_of(lab.journal, lab.run.id, (EventKind.REPEATED,))]
    assert told == [False, True]


def has_results(lab: Lab, count: int) -> bool:
    path = lab.worktree / "results.tsv"
    return path.exists() and path.read_text().count("\n") == count + 1


async def test_results_stand_in_their_order_whichever_lane_is_done_first(make_lab: MakeLab) -> None:
    lab = make_lab(toy(1.0, 1.0))
    three = (*TWO, Slot(2, "GPU 2", gpu="GPU-c"))
    edits = Edits(toy(1.1, 1.0, "x"), toy(1.2, 1.0, "y"), toy(1.3, 1.0, "z"))
    engine = lab.engine(ideas=edits, slots=three)
    conducting = asyncio.create_task(engine.conduct(3))
    for gate, done in (("z", 2), ("y", 3), ("x", 4)):
        open_gate(lab, gate)
        while not has_results(lab, done):  # noqa: ASYNC110 - they are written after the event
            await asyncio.sleep(0.01)
        lab.check_invariants()
    await conducting


async def test_a_lane_that_is_announced_twice_at_a_time_is_one(make_lab: MakeLab) -> None:
    engine = make_lab(toy(1.0, 1.0)).engine(slots=TWO[:1])
    await asyncio.gather(engine.join(TWO[1]), engine.join(TWO[1]))
    assert [slot.index for slot, _ in engine.lanes()] == [0, 1]
