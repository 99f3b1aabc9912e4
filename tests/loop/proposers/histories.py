"""Runs with a past, for tests of what models are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from loop.experiment import Experiment, Family, Status, Training
from loop.proposers.prompt.context import DIFFS, SHOWN
from loop.proposers.protocol import Context
from loop.results.gains import near_misses
from tests.loop.proposers.contexts import context_of, trial

PROGRAM = "DEPTH = 8\nLR = 0.04\n\n\ndef norm(x):\n    return x\n"


def past(statuses: Sequence[Status], text: str = "idea") -> list[Experiment]:
    """Return decided experiments with these verdicts, in which each keep gains 0.001."""
    best, made = 1.0, []
    for number, status in enumerate([Status.KEEP, *statuses[1:]]):
        change = {Status.KEEP: -0.001, Status.DISCARD: 0.0001 * (number % 7)}.get(status)
        value = None if change is None else best + change
        experiment = replace(
            trial(number, f"{text} {number}", {}, value, status),
            best_before=best if number else None,
            family=list(Family)[number % 3] if number else None,
            rationale=f"{text}, because of {number}",
            training=Training(1, error=f"{text}Error {number}" if status is Status.CRASH else ""),
        )
        made.append(experiment)
        best = value if value is not None and status is Status.KEEP else best
    return made


def told(experiments: Sequence[Experiment], text: str = "line", **more: object) -> Context:
    """Return what the reader of contexts would make of these experiments."""
    best = [e for e in experiments[:-SHOWN] if e.status is Status.KEEP][-1:]
    shown = [*best, *experiments[-SHOWN:]]
    kept = [e for e in shown if e.status is Status.KEEP and e.number][-DIFFS:]
    context = context_of(PROGRAM, *shown)
    changed = {e.number: diff(e.number, text) for e in (*kept, *near_misses(shown, context.goal))}
    return replace(context, changes=changed, **more)  # type: ignore[arg-type]


def diff(number: int, text: str = "line") -> str:
    header = "diff --git a/train.py b/train.py\nindex 1..2 100644\n--- a/train.py\n+++ b/train.py\n"
    return f"{header}@@ -{number} +{number} @@\n-{text} {number}\n+{text} {number}, other\n"
