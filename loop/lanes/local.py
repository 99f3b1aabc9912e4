"""The lanes of this machine: one a GPU, or shares of its cores."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path, PurePath

from loop.errors import UserError
from loop.lanes.protocol import Slot
from loop.machine import GpuState, ask_nvidia_smi, cores, look_at_gpus, matches

VISIBLE = "CUDA_VISIBLE_DEVICES"
THREADS = "OMP_NUM_THREADS"
WHOLE = (Slot(0),)  # one lane that has the whole machine, as it is without LANES
LAUNCHERS = frozenset({"torchrun", "accelerate", "deepspeed", "mpirun", "mpiexec", "torch.distributed.run"})
"""Commands that start a process on each GPU: such a training wants all of them."""

_DRIVER = Path("/proc/driver/nvidia/gpus")


def find_slots(wanted: int | None, environ: Mapping[str, str], command: Sequence[str]) -> tuple[Slot, ...]:
    """Return the lanes of this machine, `wanted` of them or, for None, one a GPU.

    `environ` are the variables of trainings: where CUDA_VISIBLE_DEVICES names GPUs, the lanes are among them.
    `command` is TRAIN_COMMAND. Asks nvidia-smi.
    """
    if wanted == 1 or (wanted is None and {PurePath(word).name for word in command} & LAUNCHERS):
        return WHOLE
    gpus, visible = look_at_gpus(), environ.get(VISIBLE)
    if gpus is not None and (gpus.of(visible).gpus or "MIG-" in (visible or "")):
        return gpu_slots(wanted, gpus, gpu_models(), visible, device_files())
    return cpu_slots(wanted or 1, _own_cores(), cores(), environ.get(THREADS))


def choose_slots(slots: Sequence[Slot], wanted: str | None) -> tuple[Slot, ...]:
    """Return the lanes with these numbers, `0,1`; None: all.

    Raises:
        UserError: there is no such lane.
    """
    if wanted is None:
        return tuple(slots)
    numbers = {word.strip() for word in wanted.split(",")}
    known = {str(slot.index): slot for slot in slots}
    if not numbers <= known.keys():
        names = ", ".join(f"{slot.index} ({slot.device or 'the whole machine'})" for slot in slots)
        raise UserError(f"lanes={wanted} names a lane that is not there. This machine has {names}.")
    return tuple(slot for name, slot in known.items() if name in numbers)


def gpu_slots(
    wanted: int | None,
    state: GpuState,
    models: Mapping[str, str],
    visible: str | None,
    files: Mapping[str, str],
) -> tuple[Slot, ...]:
    """Return a lane for each of the visible GPUs, `wanted` at most, all of one model: that of most of them.

    `models` and the device `files` are by UUID.
    """
    chosen = [*state.gpus]
    if visible is not None:
        named = [name.strip() for name in visible.split(",")]
        if any(name.startswith("MIG-") for name in named):
            return _narrowed([Slot(0, name[:12], gpu=name) for name in named], wanted)
        found = [next((gpu for gpu in state.gpus if matches(name, gpu)), None) for name in named]
        chosen = list(dict.fromkeys(gpu for gpu in found if gpu is not None))
    count = Counter(models.get(gpu.uuid, "") for gpu in chosen)
    model = max(count, key=lambda name: count[name], default="")
    slots = [
        Slot(0, f"GPU {gpu.index}", model, gpu.uuid, withheld=files_of_others({gpu.uuid}, files))
        for gpu in chosen
        if models.get(gpu.uuid, "") == model
    ]
    return _narrowed(slots, wanted)


def cpu_slots(wanted: int, own: Sequence[int], usable: float, threads: str | None) -> tuple[Slot, ...]:
    """Return so many lanes that share the cores: `own` may be used, and of all time `usable` cores' worth."""
    if wanted <= 1:
        return WHOLE
    share = max(1, int(min(usable, len(own)) / wanted))
    set_by_hand = int(threads) if threads and threads.isdecimal() else share
    slots = []
    for index in range(wanted):
        first, last = index * len(own) // wanted, (index + 1) * len(own) // wanted
        mine = tuple(own[first : max(last, first + 1)])
        name = f"core {mine[0]}" if len(mine) == 1 else f"cores {mine[0]}-{mine[-1]}"
        variables = {THREADS: str(max(1, min(share, set_by_hand)))}
        slots.append(Slot(index, name, variables=variables, cores=mine))
    return tuple(slots)


def files_of_others(own: Set[str], files: Mapping[str, str]) -> tuple[str, ...]:
    """Return the device files of all GPUs but one's own; none where it is unknown which is whose."""
    known = own <= files.keys()
    return tuple(path for uuid, path in sorted(files.items()) if known and uuid not in own)


def _narrowed(found: Sequence[Slot], wanted: int | None) -> tuple[Slot, ...]:
    if len(found) <= 1:
        return WHOLE  # the training sees what the bot sees
    slots = found[:wanted]
    return tuple(
        replace(slot, index=index, variables={VISIBLE: slot.gpu}) for index, slot in enumerate(slots)
    )


def gpu_models() -> dict[str, str]:
    answer = ask_nvidia_smi("--query-gpu=uuid,name", "--format=csv,noheader")
    lines = answer.stdout.splitlines() if answer and answer.returncode == 0 else []
    return dict(line.split(", ", 1) for line in lines if ", " in line)


def device_files(driver: Path = _DRIVER) -> dict[str, str]:
    """Return the device file of each GPU by its UUID; nvidia-smi may count otherwise than the driver."""
    found = {}
    for information in driver.glob("*/information"):
        try:
            lines = information.read_text().splitlines()
        except OSError:
            continue
        facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if facts.get("GPU UUID") and facts.get("Device Minor", "").isdecimal():
            found[facts["GPU UUID"]] = f"/dev/nvidia{facts['Device Minor']}"
    return found


def _own_cores() -> list[int]:
    own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return sorted(own)
