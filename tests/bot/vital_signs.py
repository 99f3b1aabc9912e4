"""A run and its machine as a heartbeat may find them, all well unless a test says otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bot.heartbeat.probe import LoopVitals, TrainingVitals, Vitals
from loop.experiment import BY_COMMAND, Goal, Reason, Run, RunState
from loop.machine import Disk, Gpu, GpuState
from loop.process.liveness import Activity, Quiet

HOME = Path("/state")
ROOMY = Disk(HOME, 400e9, 1000e9)
SHORT = Disk(HOME, 4e9, 1000e9)
LOW = Disk(HOME, 0.3e9, 1000e9)
A_LITTLE = Disk(HOME, 1.5e9, 1000e9)
GPU = Gpu(0, "GPU-a", 81920.0, 81920.0, 0.0)


def make_run(run_id: int = 1, *, state: RunState = RunState.RUNNING, reason: Reason = BY_COMMAND) -> Run:
    return Run(
        id=run_id,
        tag=f"mar{run_id}",
        repository=Path("/repository"),
        base_branch="main",
        base_commit="0" * 40,
        metric="val_bpb",
        goal=Goal.MINIMIZE,
        time_budget=300.0,
        state=state,
        created_at=0.0,
        state_by=reason.by,
        state_name=reason.name,
        state_cause=reason.cause,
        state_facts=reason.facts,
    )


def make_loop(run: Run | None = None, **found: Any) -> LoopVitals:
    return LoopVitals(run or make_run(), **found)


def make_training(silent_minutes: float, **found: Any) -> TrainingVitals:
    activity = Activity(at=0.0, log_size=0, log_mtime=0.0, cpu_seconds=0.0, gpu_busy=None)
    return TrainingVitals(HOME / "runs" / "1" / "3-1", Quiet(activity, 60 * silent_minutes), **found)


def make_vitals(*loops: LoopVitals, at: float = 10_000.0, **found: Any) -> Vitals:
    whole: dict[str, Any] = {"disks": (ROOMY,), "gpus": GpuState((GPU,), ()), "had_gpu": True, **found}
    return Vitals(at=at, loops=loops or (make_loop(),), **whole)
