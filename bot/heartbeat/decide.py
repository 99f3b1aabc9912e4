"""What a heartbeat does about what it found: the smallest fix for each problem. All is pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from bot.heartbeat.probe import LoopVitals, Outage, Vitals
from loop.errors import backoff
from loop.experiment import Actor, Cause, Reason, Run, RunState
from loop.lanes.protocol import Slot
from loop.machine import ClockChange, Disk, Gpu, GpuProcess
from loop.process.liveness import Marked, Owner, is_stalled
from loop.process.trainer import Process
from notifiers.text.words import cause_text

BACKOFF = (0.0, 60.0, 300.0, 600.0)  # seconds before the first, the second, … restart of a loop in a row
MANY_RESTARTS = 4  # of a loop in a row, after which a person is called
LANE_CLOSED = 60.0  # seconds after which the GPU of a closed lane is looked at again
STEADY = 300.0  # seconds after which a restarted loop counts as recovered
NO_IDEAS = 3600.0  # seconds without a proposal after which a person is called
REPORTED = 60.0  # seconds of lost time from which on it is reported
CLOCK_JUMP = 30.0  # seconds; NTP moves a clock by less


@dataclass(frozen=True, slots=True)
class Restart:
    """Start the run's loop again, and remember the outage."""

    run: Run
    outage: Outage


@dataclass(frozen=True, slots=True)
class Recovered:
    """Report that the run goes on after time was lost; if it had an outage, that is over."""

    run: Run
    reason: str
    minutes: float


@dataclass(frozen=True, slots=True)
class EndTraining:
    """End the training of this attempt as stalled; or kill its `supervisor`, which failed to, if given."""

    run: Run
    folder: Path
    supervisor: Process | None = None


@dataclass(frozen=True, slots=True)
class EndOrphan:
    """Kill what is left of a training that is over."""

    orphan: Marked


@dataclass(frozen=True, slots=True)
class Pause:
    """Pause the run, after the experiment under way, until the cause is gone."""

    run: Run
    reason: Reason


@dataclass(frozen=True, slots=True)
class Unpause:
    """Resume a run that the heartbeat had paused."""

    run: Run


@dataclass(frozen=True, slots=True)
class TendLane:
    """Begin nothing more in one of the run's lanes, for a reason, or begin again there."""

    run: Run
    lane: int
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class CallPerson:
    """Call a person, once while the same cause and key come up. `halted`: nothing goes on until then."""

    run: Run
    cause: Cause
    key: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)
    halted: bool = False

    @property
    def text(self) -> str:
        return cause_text(self.cause, self.facts)


@dataclass(frozen=True, slots=True)
class CallOver:
    """Record that a person is no longer needed for what a heartbeat had called for."""

    run: Run
    cause: Cause
    key: str


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Beat again after so many seconds, ahead of the schedule."""

    seconds: float


Action: TypeAlias = (
    Restart
    | Recovered
    | EndTraining
    | EndOrphan
    | Pause
    | Unpause
    | TendLane
    | CallPerson
    | CallOver
    | LookAgain
)


def decide(vitals: Vitals, *, stall_minutes: float) -> tuple[Action, ...]:
    """Return what fixes what was found, in the order in which to do it; nothing if all is well."""
    actions: list[Action] = [EndOrphan(orphan) for orphan in vitals.orphans]
    for loop in vitals.loops:
        actions += end_training(loop, stall_minutes=stall_minutes)
        actions += _lanes(loop, vitals)
        actions += _pause(loop, vitals)  # before the loop is restarted into the same problem
        actions += _loop(loop, vitals.at)
        actions += _calls(loop, vitals)
        actions += _lost_time(loop, vitals.clock)
    return tuple(actions)


def end_training(loop: LoopVitals, *, stall_minutes: float) -> Iterator[EndTraining]:
    """Yield what ends the trainings that hang, which need not wait for the next beat."""
    for training in loop.trainings:
        if training.overdue_supervisor is not None:
            yield EndTraining(loop.run, training.folder, training.overdue_supervisor)
        elif is_stalled(training.quiet, stall_minutes, measured=training.measured):
            yield EndTraining(loop.run, training.folder)


def problems(vitals: Vitals) -> tuple[str, ...]:
    """Return what only a person can fix now, a clause each, for the health check service."""
    reasons = (blocker(loop, vitals) for loop in vitals.loops)
    found = [cause_text(reason.cause, reason.facts) for reason in reasons if reason is not None]
    found += [action.text for loop in vitals.loops for action in _calls_for(loop, vitals)]
    return tuple(dict.fromkeys(found))


def _loop(loop: LoopVitals, now: float) -> Iterator[Action]:
    outage = loop.outage
    if loop.ended is not None:
        since, restarts = (outage.since, outage.restarts) if outage else (loop.ended.at, 0)
        wait = loop.ended.at + backoff(BACKOFF, restarts + 1) - now
        if wait <= 0:
            yield Restart(loop.run, Outage(since, loop.ended.reason, restarts + 1, now))
        yield LookAgain(wait if wait > 0 else STEADY)
    elif outage is not None and now < outage.restarted_at + STEADY:
        yield LookAgain(outage.restarted_at + STEADY - now)
    elif outage is not None:
        reason = f"its loop ended with: {outage.reason}"
        yield _recovered(loop.run, reason, outage.restarted_at - outage.since)


def _lanes(loop: LoopVitals, vitals: Vitals) -> Iterator[Action]:
    for slot, closed in loop.lanes:
        reason = lane_blocker(slot, loop, vitals) if slot.gpu else None
        if closed is None and reason is not None:
            yield TendLane(loop.run, slot.index, reason)
        elif closed is not None and closed.cause is Cause.GPU_FULL:
            yield LookAgain(LANE_CLOSED) if reason else TendLane(loop.run, slot.index, None)


def _pause(loop: LoopVitals, vitals: Vitals) -> Iterator[Action]:
    reason = blocker(loop, vitals)
    if reason is not None and loop.run.state is RunState.RUNNING:
        yield Pause(loop.run, reason)
    elif reason is None and paused_by_us(loop.run):
        yield Unpause(loop.run)


def _calls(loop: LoopVitals, vitals: Vitals) -> Iterator[CallPerson | CallOver]:
    """Call a person for what is new, and close the calls that are over."""
    found = {(ask.cause, ask.key): ask for ask in _calls_for(loop, vitals)}
    yield from (ask for about, ask in found.items() if about not in loop.called)
    yield from (CallOver(loop.run, *about) for about in sorted(loop.called - found.keys()))


def _calls_for(loop: LoopVitals, vitals: Vitals) -> Iterator[CallPerson]:
    run, outage = loop.run, loop.outage
    if outage is not None and outage.restarts >= MANY_RESTARTS:
        facts = {"times": outage.restarts, "error": outage.reason}
        yield CallPerson(run, Cause.LOOP, facts=facts, halted=True)
    failure = loop.failure
    if failure is not None and vitals.at - failure.since >= NO_IDEAS:
        facts = {"seconds": vitals.at - failure.since, "error": failure.reason}
        yield CallPerson(run, Cause.NO_PROPOSAL, facts=facts)
    for disk in vitals.disks:
        if run.state is RunState.RUNNING and disk.short and not disk.low:
            yield CallPerson(run, Cause.DISK_SHORT, str(disk.folder), _room_on(disk))


def clock_lines(change: ClockChange) -> Iterator[str]:
    if change.slept >= REPORTED:
        yield f"the machine slept for {change.slept / 60:.0f} min"
    if abs(change.jumped) >= CLOCK_JUMP:
        yield f"the clock was set by {change.jumped:+.0f} s"


def _lost_time(loop: LoopVitals, clock: ClockChange | None) -> Iterator[Recovered]:
    if loop.ended is not None or loop.outage is not None or loop.run.state is not RunState.RUNNING:
        return
    if loop.absence is not None and loop.absence.seconds >= REPORTED:
        yield _recovered(loop.run, loop.absence.reason, loop.absence.seconds)
    if clock is not None and clock.slept >= REPORTED:
        yield _recovered(loop.run, "the machine slept", clock.slept)


def _recovered(run: Run, reason: str, seconds: float) -> Recovered:
    return Recovered(run, f"{reason}; {seconds / 60:.0f} min lost", seconds / 60)


# What keeps a run from training


def paused_by_us(run: Run) -> bool:
    return run.is_paused and run.state_by is Actor.HEARTBEAT


def blocker(loop: LoopVitals, vitals: Vitals) -> Reason | None:
    """Return the first blocker in the way of the run's next training, as a reason to pause it."""
    if vitals.unwritable:
        return _because(Cause.STATE_FILE, error=vitals.unwritable)
    for disk in vitals.disks:
        if disk.low or (_waits_for(disk, loop.run) and not disk.ample):
            return _because(Cause.DISK, **_room_on(disk))
    if vitals.had_gpu and vitals.gpus is not None and not vitals.gpus.gpus:
        return _because(Cause.GPU_GONE)
    return _occupied(loop, vitals)


def _because(cause: Cause, **facts: object) -> Reason:
    return Reason(Actor.HEARTBEAT, cause=cause, facts=facts)


def _waits_for(disk: Disk, run: Run) -> bool:
    waits = paused_by_us(run) and run.state_cause is Cause.DISK
    return waits and run.state_facts.get("folder") == str(disk.folder)


def _occupied(loop: LoopVitals, vitals: Vitals) -> Reason | None:
    if vitals.gpus is None or not vitals.gpus.gpus or loop.needed_mb is None:
        return None
    training = any(not each.over for other in vitals.loops for each in other.trainings)
    if training and all(whose is not Owner.CURRENT for _, whose in vitals.holders):
        return None  # some of it may be our own training's
    held: list[GpuProcess] = []
    for gpu in vitals.gpus.gpus:
        others = [process for process, whose in vitals.holders if _holds(process, whose, gpu)]
        if not others or _room(gpu, vitals) >= loop.needed_mb:
            return None
        held += others
    free_mb = max(_room(gpu, vitals) for gpu in vitals.gpus.gpus)
    return _full(free_mb, loop.needed_mb, held)


def lane_blocker(slot: Slot, loop: LoopVitals, vitals: Vitals) -> Reason | None:
    """Return what keeps the run from one of its lanes: its GPU is gone, or others use it."""
    if vitals.gpus is None or not vitals.gpus.gpus:  # that is the run's
        return None
    gpu = next((gpu for gpu in vitals.gpus.gpus if gpu.uuid == slot.gpu), None)
    if gpu is None:
        gone = not slot.gpu.startswith("MIG-")  # of these nvidia-smi lists none
        return _because(Cause.GPU_GONE) if gone else None
    here = [whose for process, whose in vitals.holders if process.gpu == gpu.uuid]
    trains = any(each.lane == slot.index and not each.over for each in loop.trainings)
    if loop.needed_mb is None or (trains and Owner.CURRENT not in here):
        return None  # some of it may be our own training's
    if _room(gpu, vitals) >= loop.needed_mb:
        return None
    others = [process for process, whose in vitals.holders if _holds(process, whose, gpu)]
    return _full(_room(gpu, vitals), loop.needed_mb, others)


def _full(free_mb: float, needed_mb: float, others: Sequence[GpuProcess]) -> Reason:
    names = ", ".join(f"{process.name} (pid {process.pid})" for process in others) or "another program"
    return _because(Cause.GPU_FULL, free_mb=free_mb, needed_mb=needed_mb, held_by=names)


def _holds(process: GpuProcess, whose: Owner, gpu: Gpu) -> bool:
    return process.gpu == gpu.uuid and whose in (Owner.FOREIGN, Owner.ORPHAN)


def _room(gpu: Gpu, vitals: Vitals) -> float:
    if gpu.free_mb is None:
        return float("inf")
    ours = (p.memory_mb for p, whose in vitals.holders if p.gpu == gpu.uuid and whose is Owner.CURRENT)
    return gpu.free_mb + sum(memory or 0.0 for memory in ours)


def _room_on(disk: Disk) -> dict[str, object]:
    return {"folder": str(disk.folder), "free": disk.free}
