"""Whether a proposal is new in its run.

A program is never trained twice, and what was discarded is not tried again in nearly the same way while the
program that it changes is still the best.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from loop.errors import UserError
from loop.experiment import Experiment, Proposal, Status
from loop.program.fingerprint import fingerprint, normal_form
from loop.proposers.protocol import Context

_NEAR = 0.05  # numbers that differ by less are nearly the same; those that the search tries differ by more
_EXACT = 100  # whole numbers below it count something, such as layers
_LONG = 10  # changed lines from which on some may differ
_UNLIKE = 0.1  # the share of them that may

_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d*)?(?:e[+-]?\d+)?")
_CONSTANT = re.compile(r"[A-Z][A-Z0-9_]*(?:: .*)? = ")


class Novelty:
    """Judges the proposals of one run.

    `source_of` returns the program of an experiment. It is asked only for experiments that stand on the same
    commit as a proposal, and once for each. `trained` returns the experiment of a fingerprint, for those that
    are too long ago for a context. Both may block.
    """

    def __init__(
        self,
        source_of: Callable[[Experiment], str],
        trained: Callable[[str], Experiment | None] = lambda _: None,
    ) -> None:
        self._source_of = source_of
        self._trained = trained
        self._parent = ""
        self._changes: dict[int, tuple[_Line, ...]] = {}  # by number, of those that stand on `_parent`

    def refusal(self, proposal: Proposal, context: Context) -> str | None:
        """Return why the proposal is not new, as a sentence with the earlier result; None where it is.

        A program is never trained twice, whatever became of it. Nearly the change of a discarded experiment
        is refused as long as both stand on the same commit, unless a person asked for it.

        Raises:
            UserError: the proposal is not valid Python.
        """
        program = fingerprint(proposal.source)
        recent = next((each for each in context.experiments if each.program == program), None)
        if experiment := recent or self._trained(program):
            return (
                f"It is the program of {_told(experiment, context)}: "
                "layout, comments and seeds make no difference."
            )
        if program == fingerprint(context.source):
            return "It is the best program as it is: layout, comments and seeds make no difference."
        if proposal.idea is None and proposal.parent == context.parent:
            return self._near(proposal, context)
        return None

    def _near(self, proposal: Proposal, context: Context) -> str | None:
        if context.parent != self._parent:
            self._parent, self._changes = context.parent, {}
        change = _change(context.source, proposal.source)
        for experiment in context.experiments:
            if experiment.status is Status.DISCARD and experiment.parent == proposal.parent:
                other = self._change_of(experiment, context)
                if other is not None and _nearly_same(change, other):
                    return (
                        f"It is nearly the change of {_told(experiment, context)}, on the same program: "
                        "it may be tried again once another change was kept."
                    )
        return None

    def _change_of(self, experiment: Experiment, context: Context) -> tuple[_Line, ...] | None:
        known = self._changes.get(experiment.number)
        if known is None:
            try:
                known = _change(context.source, self._source_of(experiment))
            except UserError:  # its program cannot be read any more
                return None
            self._changes[experiment.number] = known
        return known


def _told(experiment: Experiment, context: Context) -> str:
    result = experiment.status or "under way"
    if experiment.value is not None:
        result = f"{result}, {context.run.metric} {experiment.value:.6f}"
    return f"experiment #{experiment.number} ({result})"


@dataclass(frozen=True, slots=True, order=True)
class _Line:
    """A line that a change adds or removes; `place` is where, counted in lines of the parent."""

    place: int
    added: bool
    text: str

    @property
    def form(self) -> tuple[int, bool, str]:
        """The line without its numbers."""
        return self.place, self.added, _NUMBER.sub("#", self.text)

    def is_like(self, other: _Line) -> bool:
        """Tell whether it is the other line but for numbers that are nearly the same."""
        numbers = zip(_NUMBER.findall(self.text), _NUMBER.findall(other.text), strict=False)
        return self.form == other.form and all(_close(one, another) for one, another in numbers)


def _change(before: str, after: str) -> tuple[_Line, ...]:
    """Compare two programs in their normal form, a statement a line, or as they are.

    Raises:
        UserError: one of them is not valid Python, or nested too deeply.
    """
    try:
        old, new = (ast.unparse(normal_form(source)).splitlines() for source in (before, after))
    except (ValueError, RecursionError):  # an f-string that Python 3.11 cannot write, or deep nesting
        old, new = before.splitlines(), after.splitlines()
    found = []
    for _, from_old, to_old, from_new, to_new in _differences(old, new):
        found += [_Line(place, False, old[place]) for place in range(from_old, to_old)]
        found += [_Line(from_old, True, text) for text in new[from_new:to_new]]
    return tuple(sorted(found))


def _differences(old: list[str], new: list[str]) -> list[tuple[str, int, int, int, int]]:
    blocks = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return [block for block in blocks if block[0] != "equal"]


def _nearly_same(ours: Sequence[_Line], theirs: Sequence[_Line]) -> bool:
    """Tell whether two changes of one program are the same but for numbers that differ by less than 5 %.

    Of ten lines and more a tenth may differ in more than that, as long as no constant is set in them, and
    they are not the same lines with quite other numbers.
    """
    left, alone = list(theirs), []
    for line in ours:
        partner = next((other for other in left if line.is_like(other)), None)
        if partner is None:
            alone.append(line)
        else:
            left.remove(partner)
    if not alone and not left:
        return True
    lines = max(len(ours), len(theirs))
    if lines < _LONG or max(len(alone), len(left)) > _UNLIKE * lines:
        return False
    sets_constant = any(_CONSTANT.match(line.text) for line in (*alone, *left))
    return not sets_constant and not {line.form for line in alone} & {line.form for line in left}


def _close(one: str, other: str) -> bool:
    """Tell whether two numbers as `ast.unparse` writes them are nearly the same.

    What is left of a share near 1 must be so too: 0.95 and 0.96 are quite different memories.
    """
    if one == other:
        return True
    a, b = float(one), float(other)
    if one.isdigit() and other.isdigit() and min(a, b) < _EXACT:
        return False
    pairs = [(a, b), (1 - a, 1 - b)] if min(a, b) > 0.5 and max(a, b) <= 1 else [(a, b)]
    return all(abs(x - y) < _NEAR * max(x, y) for x, y in pairs)
