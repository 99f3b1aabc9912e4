"""Times, money, counts and reasons as people read them: the words that all messages share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import assert_never

from loop.experiment import Actor, Cause, Family, Reason
from loop.results.report import Counts
from loop.text import one_line

_NAMED, _FIRST = 5, 3  # up to so many are all named, of more these


def money(dollars: float) -> str:
    """Return `$1.84`; what is less than a cent is called so."""
    if 0 < dollars < 0.01:
        return "under $0.01"
    return f"${dollars:,.2f}" if dollars < 100 else f"${dollars:,.0f}"


def with_minus(text: str) -> str:
    """Return numbers with the sign that print has for less than nothing, as wide as a plus."""
    return text.replace("-", "−")


def plural(count: int, one: str) -> str:
    """Return `1 line`, `2 lines`."""
    return f"{count:,} {one}{'' if count == 1 else 's'}"


def tally(counted: Counts) -> list[str]:
    """Return what became of all that was made, such as `5 measured`; nothing where all was measured."""
    measured = counted.keep + counted.discard
    others = {
        "crashed": counted.crash,
        "in quarantine": counted.quarantine,
        "skipped": counted.skipped,
        "under way": counted.under_way,
    }
    parts = [f"{count:,} {word}" for word, count in others.items() if count]
    return [f"{measured:,} measured", *parts] if measured and parts else parts


def changes_in(description: str) -> list[str]:
    """Return the changes of constants that a description has, split at the commas that are in no tuple."""
    return re.split(r", (?![^()\[\]]*[)\]])", description)


def whole_changes(description: str, room: int) -> str:
    """Return as many changes as there is room for, each of them whole: `DEPTH 8 → 9 and 2 more`."""
    line = one_line(description)
    changes = changes_in(line)
    if len(line) <= room or " → " not in line:
        return one_line(line, room)
    for count in range(len(changes) - 1, 0, -1):
        shown = f"{', '.join(changes[:count])} and {len(changes) - count} more"
        if len(shown) <= room:
            return shown
    return shown if len(changes) > 1 else one_line(line, 2 * room)  # on two lines, but with the new value


_FAMILIES = {Family.COMBINATION: "several constants at once", Family.BATCH: "batch size"}


def family_text(family: Family) -> str:
    return _FAMILIES.get(family, family.value)


def capital(line: str) -> str:
    return line[0].upper() + line[1:]


def some(things: Sequence[object], one: str) -> str:
    """Return the names of things, of many the first ones: `338 files, among them a.py, b.py, c.py`."""
    if len(things) <= _NAMED:
        return ", ".join(map(str, things))
    return f"{plural(len(things), one)}, among them {', '.join(map(str, things[:_FIRST]))}"


def evaluator_text(name: str) -> str:
    """Say who checks the numbers of a run; `name` is empty for nobody."""
    return f"Numbers are checked by {name}" if name else "Numbers are the program's own"


def duration(seconds: float) -> str:
    """Return a span in its two largest units, rounded: `38 s`, `5 min 26 s`, `4 h 12 min`, `2 d 3 h`.

    From ten minutes on without seconds.
    """
    for name, size, smaller, step in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        steps = round(max(0.0, seconds) / step)
        whole, rest = divmod(steps, size // step)
        if whole:
            return f"{whole} {name} {rest} {smaller}" if rest else f"{whole} {name}"
        if smaller == "min" and seconds >= 600:
            return f"{steps} min"
    return f"{steps} s"


def period(start: float, end: float, zone: tzinfo) -> str:
    """Return `22:58 → 07:01`, with the dates where a day or more lies between."""
    first, last = datetime.fromtimestamp(start, zone), datetime.fromtimestamp(end, zone)
    form = "%H:%M" if last - first < timedelta(days=1) else "%Y-%m-%d %H:%M"
    return f"{first:{form}} → {last:{form}}"


# Why a run is in its state, and what the heartbeat reports: facts made into clauses


def reason_text(reason: Reason | None) -> str:
    if reason is None:
        return ""
    facts = reason.facts
    if "text" in facts:  # as an earlier release said it
        return str(facts["text"])
    match reason.by:
        case Actor.PERSON:
            return f"by {reason.name}" if reason.name else "from the terminal"
        case Actor.HEARTBEAT if reason.cause is None:
            return "by the heartbeat: the problem is gone"
        case Actor.HEARTBEAT:
            return f"by the heartbeat: {cause_text(reason.cause, facts)}; the run then resumes by itself"
        case Actor.BUDGET:
            return f"by the budget: {facts['setting']} is used up; /resume continues with search"
        case Actor.STARTUP:
            return "by a change of REPOSITORY"
        case Actor.LOOP:
            return _of_the_run(reason)
    assert_never(reason.by)


def _of_the_run(reason: Reason) -> str:
    if reason.cause is Cause.BASELINE:
        return "the baseline crashed"
    if reason.cause is Cause.BRANCH:
        return str(reason.facts["error"])
    return f"{plural(made, 'experiment')} completed" if (made := int(_number(reason.facts, "made"))) else ""


def reason_in(data: Mapping[str, object]) -> Reason | None:
    """Return the reason that the event of a new state carries; None where an earlier release wrote it."""
    if "by" not in data:
        return None
    cause, facts = data["cause"], data["facts"]
    assert isinstance(facts, Mapping)
    return Reason(Actor(str(data["by"])), str(data["name"]), Cause(str(cause)) if cause else None, facts)


def look_at(tag: str) -> str:
    """Return the command that shows a run's best program in one's own checkout.

    The worktree of a run that may go on keeps the branch: elsewhere git checks it out as a commit only.
    """
    return f"git switch --detach autoresearch/{tag}"


def state_text(state: str, reason: Reason | None) -> str:
    text = reason_text(reason)
    if not text:
        return state
    return f"{state}{': ' if reason is not None and reason.by is Actor.LOOP else ' '}{text}"


def cause_text(cause: Cause | None, facts: Mapping[str, object]) -> str:
    """Return what keeps a run from training or what its heartbeat reports, the fix last."""
    match cause:
        case Cause.STATE_FILE:
            return (
                f"the state file cannot be written ({facts['error']}): check the disk of the state directory"
            )
        case Cause.DISK | Cause.DISK_SHORT:
            fix = "make space" if cause is Cause.DISK else "make space before the run has to pause"
            return f"{_number(facts, 'free') / 1e9:.1f} GB free on the disk of {facts['folder']}: {fix}"
        case Cause.GPU_GONE:
            return "the GPU is not found: run nvidia-smi and fix what it reports"
        case Cause.GPU_FULL:
            return (
                f"{_number(facts, 'free_mb') / 1024:.1f} GB free on the GPU, "
                f"a training needs {_number(facts, 'needed_mb') / 1024:.1f} GB: end {facts['held_by']}"
            )
        case Cause.NODE:
            return str(facts["error"])
        case Cause.LOOP:
            return f"its loop failed {facts['times']} times in a row, last with: {facts['error']}"
        case Cause.NO_PROPOSAL:
            minutes = _number(facts, "seconds") / 60
            return f"no proposal for {minutes:.0f} min: {facts['error']}"
        case None | Cause.BASELINE | Cause.BRANCH | Cause.CRASHES | Cause.VANISHED | Cause.QUARANTINE:
            pass  # the run calls a person
        case (
            Cause.PROPOSER | Cause.PRICE | Cause.BUDGET | Cause.REPOSITORY | Cause.STUCK | Cause.CERTIFICATION
        ):
            pass  # people are told of their states
        case _:
            assert_never(cause)
    raise ValueError(f"the heartbeat does not report {cause}")


def _number(facts: Mapping[str, object], name: str) -> float:
    value = facts[name]
    assert isinstance(value, int | float)
    return value
