"""Why no training should be started just now, and what a person must do about it. All is pure."""

from __future__ import annotations

from bot.heartbeat.findings import LoopVitals, Vitals
from loop.experiment import Actor, Cause, Reason, Run
from loop.process.gpu import Gpu, GpuProcess
from loop.process.machine import Disk
from loop.process.ownership import Owner


def paused_by_us(run: Run) -> bool:
    """Say whether the heartbeat paused the run, and so may let it go on."""
    return run.is_paused and run.state_by is Actor.HEARTBEAT


def hindrance(loop: LoopVitals, vitals: Vitals) -> Reason | None:
    """Return the first hindrance in the way of the run's next training, as a reason to pause it."""
    if vitals.unwritable:
        return _because(Cause.STATE_FILE, error=vitals.unwritable)
    for disk in vitals.disks:
        if disk.low or (_waits_for(disk, loop.run) and not disk.ample):
            return _because(Cause.DISK, **room(disk))
    if vitals.had_gpu and vitals.gpus is not None and not vitals.gpus.gpus:
        return _because(Cause.GPU_GONE)
    return _occupied(loop, vitals)


def room(disk: Disk) -> dict[str, object]:
    """Return the facts about a disk: how many bytes are free, and where."""
    return {"folder": str(disk.folder), "free": disk.free}


def _because(cause: Cause, **facts: object) -> Reason:
    return Reason(Actor.HEARTBEAT, cause=cause, facts=facts)


def _waits_for(disk: Disk, run: Run) -> bool:
    waits = paused_by_us(run) and run.state_cause is Cause.DISK
    return waits and run.state_facts.get("folder") == str(disk.folder)


def _occupied(loop: LoopVitals, vitals: Vitals) -> Reason | None:
    """Tell who holds so much of every GPU that a training would end for want of memory."""
    if vitals.gpus is None or not vitals.gpus.gpus or loop.needed_mb is None:
        return None
    training = any(other.training is not None for other in vitals.loops)
    if training and all(whose is not Owner.CURRENT for _, whose in vitals.holders):
        return None  # what our own training holds cannot be told from the rest
    held: list[GpuProcess] = []
    for gpu in vitals.gpus.gpus:
        others = [process for process, whose in vitals.holders if _holds(process, whose, gpu)]
        if not others or _room(gpu, vitals) >= loop.needed_mb:
            return None
        held += others
    free_mb = max(_room(gpu, vitals) for gpu in vitals.gpus.gpus)
    names = ", ".join(f"{process.name} (pid {process.pid})" for process in held)
    return _because(Cause.GPU_FULL, free_mb=free_mb, needed_mb=loop.needed_mb, held_by=names)


def _holds(process: GpuProcess, whose: Owner, gpu: Gpu) -> bool:
    return process.gpu == gpu.uuid and whose in (Owner.FOREIGN, Owner.ORPHAN)


def _room(gpu: Gpu, vitals: Vitals) -> float:
    """Return how much of a GPU a training could have, in MiB; where it does not tell, enough."""
    if gpu.free_mb is None:
        return float("inf")
    ours = (p.memory_mb for p, whose in vitals.holders if p.gpu == gpu.uuid and whose is Owner.CURRENT)
    return gpu.free_mb + sum(memory or 0.0 for memory in ours)
