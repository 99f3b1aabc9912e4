"""Why a run is in its state, and what a heartbeat calls a person for: facts made into clauses for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from loop.experiment import Actor, Cause, Reason, RunState
from notifiers.text.words import plural


def reason_text(reason: Reason | None) -> str:
    """Return who changed a run's state and why, such as `by ann`; empty where nobody did."""
    if reason is None:
        return ""
    facts = reason.facts
    if "text" in facts:  # as an earlier release said it
        return str(facts["text"])
    match reason.by:
        case Actor.PERSON:
            return f"by {reason.name or 'command'}"
        case Actor.HEARTBEAT if reason.cause is None:
            return "by the heartbeat: what it waited for is there"
        case Actor.HEARTBEAT:
            return f"by the heartbeat: {cause_text(reason.cause, facts)}; the run then goes on by itself"
        case Actor.BUDGET:
            return f"by the budget: {facts['setting']} is spent; /resume goes on with search"
        case Actor.STARTUP:
            return "by another REPOSITORY"
        case Actor.LOOP:
            return f"{plural(int(_number(facts, 'made')), 'experiment')} made"
    assert_never(reason.by)


def reason_in(data: Mapping[str, object]) -> Reason | None:
    """Return the reason that the event of a new state carries; None where an earlier release wrote it."""
    if "by" not in data:
        return None
    cause, facts = data["cause"], data["facts"]
    assert isinstance(facts, Mapping)
    return Reason(Actor(str(data["by"])), str(data["name"]), Cause(str(cause)) if cause else None, facts)


def state_text(state: str, reason: Reason | None) -> str:
    """Return the word for a state with the reason for it: `paused by ann`, `done: 4 experiments made`."""
    text = reason_text(reason)
    if not text:
        return state
    return f"{state}{': ' if reason is not None and reason.by is Actor.LOOP else ' '}{text}"


def shown_reason(state: RunState, reason: Reason | None) -> str:
    """Return what is worth saying of a state's reason: nothing while the run is running."""
    return "" if state is RunState.RUNNING else reason_text(reason)


def cause_text(cause: Cause | None, facts: Mapping[str, object]) -> str:
    """Return what keeps a run from training or what its heartbeat calls a person for, the fix last."""
    match cause:
        case Cause.STATE_FILE:
            return (
                f"the state file cannot be written ({facts['error']}): mend the disk of the state directory"
            )
        case Cause.DISK:
            return f"{_room(facts)}: make room"
        case Cause.DISK_SHORT:
            return f"{_room(facts)}: make room before the run has to pause"
        case Cause.GPU_GONE:
            return "the GPU is gone: run nvidia-smi and mend what it says"
        case Cause.GPU_FULL:
            return (
                f"the GPU has room for {_number(facts, 'free_mb') / 1024:.1f} GB "
                f"and a training takes {_number(facts, 'needed_mb') / 1024:.1f} GB: end {facts['held_by']}"
            )
        case Cause.LOOP:
            return f"its loop ended {facts['times']} times in a row, the last time with: {facts['error']}"
        case Cause.NO_PROPOSAL:
            minutes = _number(facts, "seconds") / 60
            return f"its proposer has had no idea for {minutes:.0f} min: {facts['error']}"
        case (
            None
            | Cause.BASELINE
            | Cause.CRASHES
            | Cause.VANISHED
            | Cause.PROPOSER
            | Cause.PRICE
            | Cause.BUDGET
            | Cause.REPOSITORY
            | Cause.STUCK
        ):
            raise ValueError(f"no heartbeat tells of {cause}")
    assert_never(cause)


def _room(facts: Mapping[str, object]) -> str:
    return f"{_number(facts, 'free') / 1e9:.1f} GB free on the disk of {facts['folder']}"


def _number(facts: Mapping[str, object], name: str) -> float:
    value = facts[name]
    assert isinstance(value, int | float)
    return value
