"""What a heartbeat does about what it found: the smallest thing that mends each trouble. All is pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from bot.heartbeat.probe import LoopVitals, Outage, Vitals
from loop.errors import backoff
from loop.experiment import Actor, Cause, Reason, Run, RunState
from loop.process.liveness import Marked, Owner, is_stalled
from loop.process.machine import ClockChange, Disk, Gpu, GpuProcess
from loop.process.trainer import Process
from notifiers.text.reasons import cause_text


def paused_by_us(run: Run) -> bool:
    """Say whether the heartbeat paused the run, and so may let it go on."""
    return run.is_paused and run.state_by is Actor.HEARTBEAT


def blocker(loop: LoopVitals, vitals: Vitals) -> Reason | None:
    """Return the first blocker in the way of the run's next training, as a reason to pause it."""
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


BACKOFF = (0.0, 60.0, 300.0, 600.0)
"""Seconds to wait before a loop is started for the first, the second, … time in a row; the last for ever."""

MANY_DEATHS = 4
"""A person is told of a loop that was started again so often in a row and ended each time."""

STEADY = 300.0
"""Seconds after which a loop that was started again is taken to hold."""

NO_IDEAS = 3600.0
"""Seconds without a proposal after which a person is told."""

WORTH_TELLING = 60.0
"""Seconds of lost time that a person wants to hear of."""

CLOCK_JUMP = 30.0
"""Seconds; whatever keeps clocks right moves them by less."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Start the run's loop again, and remember the outage."""

    run: Run
    outage: Outage


@dataclass(frozen=True, slots=True)
class Recovered:
    """Tell that the run goes on after time was lost; if it had an outage, that is over."""

    run: Run
    reason: str
    minutes: float


@dataclass(frozen=True, slots=True)
class EndStalled:
    """End the training of this attempt as stalled."""

    run: Run
    folder: Path


@dataclass(frozen=True, slots=True)
class EndSupervisor:
    """Kill a supervisor that does not work: the loop replaces it, and the next one does."""

    supervisor: Process


@dataclass(frozen=True, slots=True)
class EndOrphan:
    """Kill what is left of a training that is over."""

    orphan: Marked


@dataclass(frozen=True, slots=True)
class Pause:
    """Let the run rest, after the experiment under way, until a person has mended something."""

    run: Run
    reason: Reason


@dataclass(frozen=True, slots=True)
class Unpause:
    """Let a run go on that the heartbeat had paused."""

    run: Run


@dataclass(frozen=True, slots=True)
class AskPerson:
    """Tell that only a person can help; for as long as the same cause and key come up it is told once.

    `halted`: until then nothing goes on.
    """

    run: Run
    cause: Cause
    key: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)
    halted: bool = False

    @property
    def text(self) -> str:
        """What a person is told."""
        return cause_text(self.cause, self.facts)


@dataclass(frozen=True, slots=True)
class CallOver:
    """Note that a person is no longer needed for what a heartbeat had called for."""

    run: Run
    cause: Cause
    key: str


@dataclass(frozen=True, slots=True)
class LogNote:
    """Write a sentence to the bot's log."""

    text: str


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Beat again after so many seconds, without waiting for the schedule."""

    seconds: float


OfRun: TypeAlias = Resume | Recovered | EndStalled | Pause | Unpause | AskPerson | CallOver
OfMachine: TypeAlias = EndSupervisor | EndOrphan | LogNote | LookAgain
Action: TypeAlias = OfRun | OfMachine


def decide(vitals: Vitals, *, stall_minutes: float) -> tuple[Action, ...]:
    """Return what mends what was found, in the order in which to do it; nothing where all is well."""
    actions: list[Action] = [EndOrphan(orphan) for orphan in vitals.orphans]
    actions += _clock(vitals.clock)
    for loop in vitals.loops:
        actions += mend_training(loop, stall_minutes=stall_minutes)
        actions += _pause(loop, vitals)  # before the loop is started again into the same trouble
        actions += _loop(loop, vitals.at)
        actions += _calls(loop, vitals)
        actions += _lost_time(loop, vitals.clock)
    return tuple(actions)


def mend_training(loop: LoopVitals, *, stall_minutes: float) -> Iterator[EndStalled | EndSupervisor]:
    """Yield what is to be done about the training under way, which cannot always wait for a beat."""
    training = loop.training
    if training is None:
        return
    if training.overdue_supervisor is not None:
        yield EndSupervisor(training.overdue_supervisor)
    elif is_stalled(training.quiet, stall_minutes, measured=training.measured):
        yield EndStalled(loop.run, training.folder)


def troubles(vitals: Vitals) -> tuple[str, ...]:
    """Return what only a person can mend now, a sentence each, for who watches from outside."""
    reasons = (blocker(loop, vitals) for loop in vitals.loops)
    found = [cause_text(reason.cause, reason.facts) for reason in reasons if reason is not None]
    found += [action.text for loop in vitals.loops for action in _attention(loop, vitals)]
    return tuple(dict.fromkeys(found))


def _loop(loop: LoopVitals, now: float) -> Iterator[Action]:
    """Start a loop that ended, after a while if it keeps ending, and tell of it once it holds."""
    outage = loop.outage
    if loop.ended is not None:
        resumes = outage.resumes if outage else 0
        due = loop.ended.at + backoff(BACKOFF, resumes + 1)
        if now < due:
            yield LookAgain(due - now)
            return
        since = outage.since if outage else loop.ended.at
        yield Resume(loop.run, Outage(since, loop.ended.reason, resumes + 1, now))
        yield LookAgain(STEADY)
    elif outage is not None:
        left = outage.resumed_at + STEADY - now
        if left > 0:
            yield LookAgain(left)
        else:
            reason = f"its loop had ended with: {outage.reason}"
            yield _recovered(loop.run, reason, outage.resumed_at - outage.since)


def _pause(loop: LoopVitals, vitals: Vitals) -> Iterator[Action]:
    reason = blocker(loop, vitals)
    if reason is not None and loop.run.state is RunState.RUNNING:
        yield Pause(loop.run, reason)
    elif reason is None and paused_by_us(loop.run):
        yield Unpause(loop.run)


def _calls(loop: LoopVitals, vitals: Vitals) -> Iterator[AskPerson | CallOver]:
    """Call a person for what is new, and end the calls for what is over."""
    found = {(ask.cause, ask.key): ask for ask in _attention(loop, vitals)}
    yield from (ask for about, ask in found.items() if about not in loop.called)
    yield from (CallOver(loop.run, *about) for about in sorted(loop.called - found.keys()))


def _attention(loop: LoopVitals, vitals: Vitals) -> Iterator[AskPerson]:
    """Yield what a person is needed for at this moment."""
    run, outage = loop.run, loop.outage
    if outage is not None and outage.resumes >= MANY_DEATHS:
        facts = {"times": outage.resumes, "error": outage.reason}
        yield AskPerson(run, Cause.LOOP, facts=facts, halted=True)
    failure = loop.failure
    if failure is not None and vitals.at - failure.since >= NO_IDEAS:
        facts = {"seconds": vitals.at - failure.since, "error": failure.reason}
        yield AskPerson(run, Cause.NO_PROPOSAL, facts=facts)
    for disk in vitals.disks:
        if run.state is RunState.RUNNING and disk.short and not disk.low:
            yield AskPerson(run, Cause.DISK_SHORT, str(disk.folder), room(disk))


def _clock(change: ClockChange | None) -> Iterator[LogNote]:
    if change is not None and change.slept >= WORTH_TELLING:
        yield LogNote(f"the machine slept for {change.slept / 60:.0f} min")
    if change is not None and abs(change.jumped) >= CLOCK_JUMP:
        yield LogNote(f"the clock was set by {change.jumped:+.0f} s")


def _lost_time(loop: LoopVitals, clock: ClockChange | None) -> Iterator[Recovered]:
    """Tell of time that was lost with nothing to start again."""
    if loop.ended is not None or loop.outage is not None or loop.run.state is not RunState.RUNNING:
        return
    if loop.absence is not None and loop.absence.seconds >= WORTH_TELLING:
        yield _recovered(loop.run, loop.absence.reason, loop.absence.seconds)
    if clock is not None and clock.slept >= WORTH_TELLING:
        yield _recovered(loop.run, "the machine had slept", clock.slept)


def _recovered(run: Run, reason: str, seconds: float) -> Recovered:
    return Recovered(run, f"{reason}; {seconds / 60:.0f} min lost", seconds / 60)
