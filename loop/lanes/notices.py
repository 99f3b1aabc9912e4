"""What the journal and people are told of the lanes of a run that has several."""

from __future__ import annotations

from collections.abc import Sequence

from loop.experiment import Cause, Reason, Run
from loop.lanes.protocol import Slot
from loop.store.journal import Journal
from loop.store.lanes import LaneRecord, change_lane, lanes_of, write_lanes


def record_lanes(journal: Journal, run: Run, slots: Sequence[Slot]) -> None:
    """Let `status` show these lanes; one that has the whole machine is nothing to tell."""
    wanted = [LaneRecord(slot.index, slot.device, slot.model) for slot in slots if slot.device]
    known = [lane for lane in lanes_of(journal, run.id) if lane.device]
    if wanted != known:
        write_lanes(journal, run.id, wanted)


def note_closed(journal: Journal, run: Run, slot: Slot, reason: Reason, left: int) -> None:
    """Record that a lane begins nothing, and notify people: of the lanes of a node once."""
    goes_on = "1 lane goes on" if left == 1 else f"{left} lanes go on" if left else "no lane is left"
    ends = "is retired" if reason.cause is Cause.GPU_GONE else "waits"
    why = _why(reason)
    known = reason.cause is Cause.NODE and any(lane.closed == why for lane in lanes_of(journal, run.id))
    record = LaneRecord(slot.index, slot.device, slot.model, reason.cause, why)
    notice = f"lane {slot.index} ({slot.device}) {ends}, {why}; {goes_on}"
    change_lane(journal, run.id, record, "" if known else notice)


def note_open(journal: Journal, run: Run, slot: Slot) -> None:
    """Record that a lane trains again, or at last; of those of a node people are notified once."""
    known = any(
        slot.node and lane.device.startswith(f"{slot.node} ") and not lane.closed
        for lane in lanes_of(journal, run.id)
    )
    record = LaneRecord(slot.index, slot.device, slot.model)
    notice = f"lane {slot.index} ({slot.device}) trains{'' if slot.node else ' again'}"
    change_lane(journal, run.id, record, "" if known else notice)


def _why(reason: Reason) -> str:
    if reason.cause is Cause.NODE:
        return str(reason.facts["error"])
    if reason.cause is Cause.GPU_GONE:
        return "its GPU is gone"
    return f"others use its GPU: {reason.facts.get('held_by', '')}"
