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
    gone = reason.cause is Cause.GPU_GONE
    why = "its GPU is gone" if gone else f"others use its GPU: {reason.facts.get('held_by', '')}"
    goes_on = "1 lane goes on" if left == 1 else f"{left} lanes go on" if left else "no lane is left"
    ends = "is retired" if gone else "waits"
    record = LaneRecord(slot.index, slot.device, slot.model, reason.cause, why)
    change_lane(journal, run.id, record, f"lane {slot.index} ({slot.device}) {ends}, {why}; {goes_on}")


def note_open(journal: Journal, run: Run, slot: Slot) -> None:
    record = LaneRecord(slot.index, slot.device, slot.model)
    change_lane(journal, run.id, record, f"lane {slot.index} ({slot.device}) trains again")
