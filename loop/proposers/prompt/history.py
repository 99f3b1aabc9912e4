"""What a run has tried, as text for a model that only ever grows at its end.

Providers cache a text as long as it begins in the same way. So decided experiments come in blocks of twenty
that never change once they are full, and where they outgrow their room the oldest go, many at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import assert_never

from loop.evidence import Invalidated
from loop.experiment import Experiment, Status
from loop.gain import number, signed
from loop.proposers.prompt.context import DIFFS, SHOWN
from loop.proposers.protocol import Context
from loop.results.gains import effect
from loop.text import one_line

BYTES_PER_TOKEN = 2.5
"""Bytes of UTF-8 that a token stands for at least, on average.

English and code come to 3 to 4.5 in the vocabularies of today, tables of numbers to 2.5 and a little less. An
estimate on the safe side: what a provider counts is known only afterwards.
"""

SEPARATOR = "\n\n"

LINE = 200  # characters of a description, at most
PROSE = 1000  # characters of a rationale, at most
SAID = 300  # characters of what a provider or an agent says of its trouble, at most
_LEFT_OUT = "[… the rest is left out]"
_LABEL = 80  # characters
_FLAG = 120  # characters of a finding
_DIGITS = 4  # tokens kept free for the number of a fence, where 1 is taken
# Less than `clean` takes out: what a model changes it must quote letter by letter.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0d-\x1f\x7f]")


def tokens(text: str) -> int:
    """Return an estimate of how many tokens the text has, rather too many than too few.

    That of two texts together is never above the sum of both.
    """
    return math.ceil(len(text.encode(errors="replace")) / BYTES_PER_TOKEN)


def cut(text: str, room: int, *, tail: bool = False) -> str:
    """Return the text if it has at most `room` tokens, else its first (or last) lines and a note."""
    if tokens(text) <= room:
        return text
    most = int(room * BYTES_PER_TOKEN) - len(f"{_LEFT_OUT}\n".encode())
    if most <= 0:
        return ""
    whole = text.encode(errors="replace")
    if tail:
        end = whole[-most:].decode(errors="ignore")
        return "\n".join([_LEFT_OUT, end.partition("\n")[2] or end])
    start = whole[:most].decode(errors="ignore")
    return "\n".join([start.rpartition("\n")[0] or start, _LEFT_OUT])


def fenced(kind: str, label: str, text: str) -> str:
    """Return the text between `<kindN of="label">` and `</kindN>`, with an N that the text does not contain.

    So no text can end its fence.
    """
    text = _CONTROL.sub("", text).encode(errors="replace").decode()
    label = re.sub(r'[<>"]', "'", one_line(label, _LABEL))
    lower = text.lower()
    number = 1
    while f"{kind}{number}" in lower:
        number += 1
    return "\n".join([f'<{kind}{number} of="{label}">', text.strip("\n"), f"</{kind}{number}>"])


class Room:
    """A number of tokens that texts are fitted into, the most useful first, to be joined by `SEPARATOR`."""

    def __init__(self, room: int) -> None:
        self.left = max(0, room)

    def take(self, text: str) -> str:
        return self._taken(cut(text, self.left - tokens(SEPARATOR)), self.left)

    def fence(self, kind: str, label: str, text: str, *, most: int | None = None, tail: bool = False) -> str:
        """Return the text in its fence, as far as it fits; nothing where not a line of it does."""
        limit = self.left if most is None else min(self.left, most)
        frame = tokens(fenced(kind, label, "")) + tokens(SEPARATOR) + _DIGITS
        body = cut(text, limit - frame, tail=tail) if text.strip() else ""
        return self._taken(fenced(kind, label, body) if body else "", limit)

    def _taken(self, text: str, limit: int) -> str:
        size = tokens(text + SEPARATOR) if text else 0
        if size > limit:
            return ""
        self.left -= size
        return text


def joined(*texts: str) -> str:
    return SEPARATOR.join(text for text in texts if text)


BLOCK = 20  # experiments in a block
_WINDOW = 100  # the first experiment told is a multiple of this, where a run has outgrown its reader
_DETAIL = 1200  # tokens of a diff

# How the room is divided, when it is too small: between details, rows of what was not kept, and of what was.
_DETAILS, _OTHERS, _KEPT = 0.5, 0.3, 0.2


def blocks(context: Context, room: int) -> tuple[str, ...]:
    """Return the full blocks of decided experiments, the oldest first, in at most `room` tokens together.

    Dropped first are the diffs and reasons of what was kept, then the rows of what was not, then the rest; in
    each case the oldest, until half of the room is free again.
    """
    groups = _groups(context)
    kept = [[row(context, e) for e in group if e.status is Status.KEEP] for group in groups]
    others = [[row(context, e) for e in group if e.status is not Status.KEEP] for group in groups]
    from_diff = _first_shown([len(rows) for rows in kept], DIFFS - BLOCK)
    texts = [details_of(context, group) if i >= from_diff else {} for i, group in enumerate(groups)]
    frames = [fenced("data", _label(group), "") + SEPARATOR for group in groups]
    sizes = [tokens("\n".join([frame, *rows, ""])) + 4 for frame, rows in zip(frames, kept, strict=True)]
    from_kept = _first_shown(sizes, int(room * _KEPT))
    from_others = _first_shown([_size(rows) for rows in others], int(room * _OTHERS))
    from_detail = _first_shown([_size(list(text.values())) for text in texts], int(room * _DETAILS))
    told = []
    for index, group in enumerate(groups):
        if index < from_kept:
            continue
        shown = [e for e in group if e.status is Status.KEEP or index >= from_others]
        details = texts[index] if index >= from_detail else {}
        if shown:
            told.append(fenced("data", _label(group), table(context, shown, details)))
    return tuple(told)


def recent(context: Context) -> list[Experiment]:
    full = _groups(context)
    after = full[-1][-1].number + 1 if full else 0
    return [e for e in context.experiments if e.number >= after]


def settled(context: Context) -> list[Experiment]:
    return list(takewhile(lambda experiment: experiment.status is not None, context.experiments))


def table(context: Context, experiments: Sequence[Experiment], details: Mapping[int, str]) -> str:
    """Return a row for each experiment, the oldest first, and below it what there is about it."""
    lines = []
    for experiment in experiments:
        lines.append(row(context, experiment))
        if text := details.get(experiment.number):
            lines.append(text)
    return "\n".join(lines)


def row(context: Context, experiment: Experiment) -> str:
    """Return `#12 keep 0.986041 (-0.011859) batch: halve batch size`.

    After it stands the error of a crash or why the number is not believed, then what the guard flagged.
    """
    words = [f"#{experiment.number}", experiment.status or "under way"]
    if experiment.value is not None:
        words.append(number(experiment.value, experiment.best_before))
    if (better := effect(experiment, context.goal)) is not None:
        words.append(f"({signed(better, experiment.value)})")
    text = f"{' '.join(words)} {experiment.family or 'other'}: {one_line(experiment.description, LINE)}"
    why = experiment.cause if experiment.status is Status.CRASH else _disbelief(experiment)
    parts = (text, one_line(why, LINE), _flagged(context, experiment))
    return " | ".join(part for part in parts if part)


def _flagged(context: Context, experiment: Experiment) -> str:
    """Return what the guard flagged in the edit; what was flagged in its parent already is told there."""
    if not experiment.findings:
        return ""
    parent = next((e for e in context.experiments if e.commit and e.commit == experiment.parent), None)
    known = {found.message for found in parent.findings} if parent else set()
    messages = dict.fromkeys(found.message for found in experiment.findings if found.message not in known)
    if not messages:
        return ""
    first, *others = messages
    more = f" and {len(others)} more" if others else ""
    return f"flagged: {one_line(first.rstrip('.'), _FLAG)}{more}"


def _disbelief(experiment: Experiment) -> str:
    """Return why a number counts for nothing, without the names of people."""
    doubts = "; ".join(experiment.doubts)
    if experiment.status is Status.QUARANTINE:
        return f"not believed yet: {doubts}"
    match experiment.invalidated:
        case None:
            return ""
        case Invalidated.NOT_BELIEVED:
            return f"not believed: {doubts}"
        case Invalidated.REJECTED:
            return f"rejected by a person{f': {doubts}' if doubts else ''}"
        case Invalidated.BEHIND:
            return "better than what it was built on; another was kept meanwhile: to be tried again on that"
        case Invalidated.TRIED_AGAIN:
            return "it was not built on the best of now: to be tried again"
    assert_never(experiment.invalidated)


def details_of(context: Context, experiments: Sequence[Experiment]) -> dict[int, str]:
    """Return what there is to tell about those of the experiments that were kept, by number."""
    return {e.number: _detail(context, e) for e in experiments if e.status is Status.KEEP}


def _detail(context: Context, experiment: Experiment) -> str:
    """Return why the experiment was made and its diff, as far as they are known; empty if neither is."""
    lines = []
    if experiment.rationale:
        lines.append(f"  why: {one_line(experiment.rationale, 400)}")
    if diff := context.changes.get(experiment.number):
        lines.append(cut(hunks(diff), _DETAIL))
    return "\n".join(lines)


def hunks(diff: str) -> str:
    """Return a diff without its header, which names the file that is always the same."""
    return diff[diff.find("\n@@") + 1 :].strip("\n")


def _groups(context: Context) -> list[list[Experiment]]:
    """Return the decided experiments in full blocks.

    Which one is the first depends on the number of full blocks alone, for the cache.
    """
    experiments = settled(context)
    if not experiments:
        return []
    end = (experiments[-1].number + 1) // BLOCK * BLOCK
    first = max(_up(end + BLOCK - SHOWN, _WINDOW), _up(experiments[0].number, BLOCK))
    groups: dict[int, list[Experiment]] = {}
    for experiment in experiments:
        if first <= experiment.number < end:
            groups.setdefault(experiment.number // BLOCK, []).append(experiment)
    return list(groups.values())


def _up(number: int, step: int) -> int:
    return -(-number // step) * step


def _label(group: Sequence[Experiment]) -> str:
    return f"results {group[0].number} to {group[-1].number}"


def _size(lines: Sequence[str]) -> int:
    return tokens("\n".join([*lines, ""]))


def _first_shown(sizes: Sequence[int], room: int) -> int:
    """Return the index of the first that is shown when, whenever they outgrow `room`, half of it is freed.

    It depends on the order in which they came only: another at the end leaves it as it is, mostly.
    """
    first = total = 0
    for last, size in enumerate(sizes):
        total += size
        if total > room:
            while first <= last and total > room // 2:
                total -= sizes[first]
                first += 1
    return first
