from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.heartbeat.decide import TendLane, blocker, decide, lane_blocker, paused_by_us
from loop.experiment import Actor, Cause, Reason, Run, RunState
from loop.lanes.protocol import Slot
from loop.machine import Disk, Gpu, GpuProcess, GpuState
from loop.process.liveness import Owner
from notifiers.text.words import cause_text
from tests.bot.vital_signs import (
    A_LITTLE,
    GPU,
    LOW,
    ROOMY,
    SHORT,
    make_loop,
    make_run,
    make_training,
    make_vitals,
)

FULL = replace(GPU, free_mb=2048.0)
TRAINER = GpuProcess(7, 60_000.0, "python", "GPU-a")
STRANGER = GpuProcess(42, 70_000.0, "jupyter", "GPU-a")


def reason(*, training: bool = False, needed_mb: float | None = 40_960.0, **vitals: Any) -> Reason | None:
    """Return what hinders a run whose trainings take 40 GB."""
    loop = make_loop(needed_mb=needed_mb, trainings=(make_training(0.0),) if training else ())
    return blocker(loop, make_vitals(loop, **vitals))


def found(**vitals: Any) -> str:
    """Return the same as a person is told it."""
    why = reason(**vitals)
    return cause_text(why.cause, why.facts) if why else ""


def waiting(**vitals: Any) -> Run:
    """Return a run that its heartbeat paused for what it found."""
    why = reason(**vitals)
    assert why is not None
    return make_run(state=RunState.PAUSED, reason=why)


@pytest.mark.parametrize(
    "vitals",
    [
        {},
        {"disks": (SHORT,)},
        {"gpus": None},  # nobody can tell
        {"gpus": None, "had_gpu": False},
        {"gpus": GpuState((), ()), "had_gpu": False},  # there never was one: it trains on the CPU
    ],
)
def test_nothing_hinders_where_a_training_can_start(vitals: dict[str, Any]) -> None:
    assert found(**vitals) == ""


def test_a_person_is_told_what_to_do() -> None:
    assert found(disks=(ROOMY, LOW)) == "0.3 GB free on the disk of /state: make space"
    assert found(unwritable="no space left on device") == (
        "the state file cannot be written (no space left on device): check the disk of the state directory"
    )
    assert found(gpus=GpuState((), ())) == cause_text(Cause.GPU_GONE, {})


# A GPU that others use


def test_a_gpu_full_of_somebody_else_s_work_hinders() -> None:
    words = found(gpus=GpuState((FULL,), (STRANGER,)), holders=((STRANGER, Owner.FOREIGN),))
    assert words == "2.0 GB free on the GPU, a training needs 40.0 GB: end jupyter (pid 42)"


def test_what_is_left_of_our_own_training_hinders_too() -> None:
    assert "end python (pid 7)" in found(
        gpus=GpuState((FULL,), (TRAINER,)), holders=((TRAINER, Owner.ORPHAN),)
    )


def test_a_guest_that_leaves_enough_room_is_welcome() -> None:
    guest = replace(STRANGER, memory_mb=600.0)
    gpu = replace(GPU, free_mb=81_000.0)
    assert found(gpus=GpuState((gpu,), (guest,)), holders=((guest, Owner.FOREIGN),)) == ""


def test_what_our_training_holds_is_room_for_the_next() -> None:
    both = ((TRAINER, Owner.CURRENT), (STRANGER, Owner.FOREIGN))
    assert found(training=True, gpus=GpuState((FULL,), (TRAINER, STRANGER)), holders=both) == ""
    little = ((replace(TRAINER, memory_mb=20_000.0), Owner.CURRENT), (STRANGER, Owner.FOREIGN))
    assert "21.5 GB free" in found(training=True, gpus=GpuState((FULL,), ()), holders=little)


@pytest.mark.parametrize(
    ("training", "needed_mb", "whose"),
    [
        (True, 40_960.0, Owner.UNSEEN),  # from within a container our own training looks like this
        (True, 40_960.0, Owner.FOREIGN),
        (False, 40_960.0, Owner.UNSEEN),
        (False, None, Owner.FOREIGN),  # no training has told yet what it takes
    ],
)
def test_nobody_is_accused_where_it_cannot_be_known(
    training: bool, needed_mb: float | None, whose: Owner
) -> None:
    gpus = GpuState((FULL,), (STRANGER,))
    assert found(training=training, needed_mb=needed_mb, gpus=gpus, holders=((STRANGER, whose),)) == ""


def test_one_gpu_with_room_is_enough() -> None:
    free = Gpu(1, "GPU-b", 81920.0, 81920.0, 0.0)
    assert found(gpus=GpuState((FULL, free), (STRANGER,)), holders=((STRANGER, Owner.FOREIGN),)) == ""
    unknown = Gpu(1, "GPU-b", None, None, None)
    assert found(gpus=GpuState((FULL, unknown), (STRANGER,)), holders=((STRANGER, Owner.FOREIGN),)) == ""


# Pauses of our own


@pytest.mark.parametrize(
    ("state", "by", "ours"),
    [
        (RunState.PAUSED, Actor.HEARTBEAT, True),
        (RunState.PAUSING, Actor.HEARTBEAT, True),
        (RunState.PAUSED, Actor.PERSON, False),
        (RunState.PAUSED, Actor.BUDGET, False),
        (RunState.PAUSED, Actor.STARTUP, False),
        (RunState.RUNNING, Actor.HEARTBEAT, False),
        (RunState.STOPPED, Actor.HEARTBEAT, False),
    ],
)
def test_a_pause_is_known_by_who_made_it(state: RunState, by: Actor, ours: bool) -> None:
    why = Reason(by, "by the heartbeat: make room", Cause.DISK)  # whatever somebody is called
    assert paused_by_us(make_run(state=state, reason=why)) is ours


@pytest.mark.parametrize(("disk", "goes_on"), [(LOW, False), (A_LITTLE, False), (SHORT, True), (ROOMY, True)])
def test_a_run_that_waits_for_room_does_not_go_on_at_the_first_byte(disk: Disk, goes_on: bool) -> None:
    run = waiting(disks=(LOW,))
    assert (blocker(make_loop(run), make_vitals(disks=(disk,))) is None) is goes_on


def test_a_run_that_waits_for_room_on_one_disk_does_not_wait_for_it_on_another() -> None:
    run = waiting(disks=(ROOMY, replace(LOW, folder=Path("/elsewhere"))))
    assert blocker(make_loop(run), make_vitals(disks=(A_LITTLE,))) is None


def test_a_run_that_waits_for_something_else_does_not_wait_for_room() -> None:
    run = waiting(gpus=GpuState((), ()))
    assert blocker(make_loop(run), make_vitals(disks=(A_LITTLE,))) is None


# A lane among others

OTHER = replace(GPU, index=1, uuid="GPU-b")
LANES = (Slot(0, "GPU 0", gpu="GPU-a"), Slot(1, "GPU 1", gpu="GPU-b"))


def tended(*closed: Reason | None, **vitals: Any) -> list[tuple[int, Cause | None]]:
    """Return which lanes are closed, for which cause, or opened, by a heartbeat that finds this."""
    pairs = tuple(zip(LANES, closed or (None, None), strict=True))
    loop = make_loop(needed_mb=40_960.0, lanes=pairs, trainings=vitals.pop("trainings", ()))
    actions = decide(make_vitals(loop, **vitals), stall_minutes=5)
    tends = [action for action in actions if isinstance(action, TendLane)]
    return [(action.lane, action.reason.cause if action.reason else None) for action in tends]


def test_the_lane_whose_gpu_others_use_is_closed_and_opened_again_when_they_are_gone() -> None:
    full: dict[str, Any] = {
        "gpus": GpuState((FULL, OTHER), (STRANGER,)),
        "holders": ((STRANGER, Owner.FOREIGN),),
    }
    assert tended(**full) == [(0, Cause.GPU_FULL)]
    used = lane_blocker(LANES[0], make_loop(needed_mb=40_960.0), make_vitals(**full))
    assert tended(used, None, **full) == []
    assert tended(used, None, gpus=GpuState((GPU, OTHER), ())) == [(0, None)]


def test_memory_that_may_be_our_trainings_own_closes_no_lane() -> None:
    unseen = {"gpus": GpuState((FULL, OTHER), ())}  # from within a container
    assert tended(trainings=(make_training(0.0),), **unseen) == []
    assert tended(**unseen) == [(0, Cause.GPU_FULL)]
    own = {"gpus": GpuState((FULL, OTHER), (TRAINER,)), "holders": ((TRAINER, Owner.CURRENT),)}
    assert tended(trainings=(make_training(0.0),), **own) == []


def test_the_lane_whose_gpu_is_gone_is_closed_for_good() -> None:
    alone = {"gpus": GpuState((OTHER,), ())}
    assert tended(**alone) == [(0, Cause.GPU_GONE)]
    assert tended(Reason(Actor.HEARTBEAT, cause=Cause.GPU_GONE), None, gpus=GpuState((GPU, OTHER), ())) == []
    assert tended(gpus=GpuState((), ())) == [], "where all are gone the run waits"
