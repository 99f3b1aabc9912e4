"""Why no training should be started just now, and what a person must do about it. All is pure."""

from __future__ import annotations

from bot.heartbeat.findings import LoopVitals, Vitals
from loop.experiment import Run, RunState
from loop.process.gpu import Gpu, GpuProcess
from loop.process.machine import Disk
from loop.process.ownership import Owner

BY_US = "by the heartbeat: "
"""How the reason of a pause begins that the heartbeat made, and so may end."""


def paused_by_us(run: Run) -> bool:
    """Say whether the heartbeat paused the run, not a person."""
    paused = run.state in (RunState.PAUSING, RunState.PAUSED)
    return paused and run.state_reason.startswith(BY_US)


def hindrance(loop: LoopVitals, vitals: Vitals) -> str:
    """Return the first hindrance in the way of the run's next training; empty where there is none."""
    if vitals.unwritable:
        return f"the state file cannot be written ({vitals.unwritable}): mend the disk of the state directory"
    for disk in vitals.disks:
        if disk.low or (_waits_for(disk, loop.run) and not disk.ample):
            return f"{room_left(disk)}: make room"
    if vitals.had_gpu and vitals.gpus is not None and not vitals.gpus.gpus:
        return "the GPU is gone: run nvidia-smi and mend what it says"
    return _occupied(loop, vitals)


def room_left(disk: Disk) -> str:
    """Say how much room there is, and where."""
    return f"{disk.free / 1e9:.1f} GB free on the disk of {disk.folder}"


def _waits_for(disk: Disk, run: Run) -> bool:
    return paused_by_us(run) and f"the disk of {disk.folder}:" in run.state_reason


def _occupied(loop: LoopVitals, vitals: Vitals) -> str:
    """Say who holds so much of every GPU that a training would end for want of memory."""
    if vitals.gpus is None or not vitals.gpus.gpus or loop.needed_mb is None:
        return ""
    training = any(other.training is not None for other in vitals.loops)
    if training and all(whose is not Owner.CURRENT for _, whose in vitals.holders):
        return ""  # what our own training holds cannot be told from the rest
    held: list[GpuProcess] = []
    for gpu in vitals.gpus.gpus:
        others = [process for process, whose in vitals.holders if _holds(process, whose, gpu)]
        if not others or _room(gpu, vitals) >= loop.needed_mb:
            return ""
        held += others
    room = max(_room(gpu, vitals) for gpu in vitals.gpus.gpus)
    names = ", ".join(f"{process.name} (pid {process.pid})" for process in held)
    return (
        f"the GPU has room for {room / 1024:.1f} GB and a training takes {loop.needed_mb / 1024:.1f} GB: "
        f"end {names}"
    )


def _holds(process: GpuProcess, whose: Owner, gpu: Gpu) -> bool:
    return process.gpu == gpu.uuid and whose in (Owner.FOREIGN, Owner.ORPHAN)


def _room(gpu: Gpu, vitals: Vitals) -> float:
    """Return how much of a GPU a training could have, in MiB; where it does not tell, enough."""
    if gpu.free_mb is None:
        return float("inf")
    ours = (p.memory_mb for p, whose in vitals.holders if p.gpu == gpu.uuid and whose is Owner.CURRENT)
    return gpu.free_mb + sum(memory or 0.0 for memory in ours)
