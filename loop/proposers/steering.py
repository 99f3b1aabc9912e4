"""Whether people said never again to what is proposed. Pure: a restart changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from loop.errors import UserError
from loop.evidence import Wish
from loop.experiment import Proposal
from loop.program.constants import find_constants
from loop.store.experiments import Wished


def why_unwanted(wishes: Iterable[Wished], source: str, proposal: Proposal) -> str | None:
    """Return why a proposal, in the place of the program `source`, is not wanted; None where it may be.

    Ideas of people are what somebody wants, whatever was said before.
    """
    never = [wished for wished in wishes if wished.wish is Wish.NEVER and wished.changed]
    if not never or proposal.idea is not None:
        return None
    try:
        present, proposed = (
            {constant.name: constant.value for constant in find_constants(text)}
            for text in (source, proposal.source)
        )
    except UserError:
        return None  # it does not parse: that is said elsewhere
    wished = unwanted(never, present, proposed)
    return f"a person said never again to #{wished.number}: {wished.description}" if wished else None


def unwanted(
    wishes: Iterable[Wished], before: Mapping[str, object], after: Mapping[str, object]
) -> Wished | None:
    """Return the wish that forbids to change constants so: to do again what the experiment did, or more.

    It is done again where each constant that the experiment changed has its value, or is beyond it, and one
    of them was moved that way. What the best program has already is no change.
    """
    for wished in wishes:
        if wished.wish is Wish.NEVER and wished.changed and _again(wished, before, after):
            return wished
    return None


def _again(wished: Wished, before: Mapping[str, object], after: Mapping[str, object]) -> bool:
    moved = False
    for name, (old, new) in wished.changed.items():
        for then, there, here, value in _parts(old, new, before.get(name), after.get(name)):
            if not _reaches(then, there, value):
                return False
            moved |= not _reaches(then, there, here) or _is_further(then, there, here, value)
    return moved


def _parts(*values: object) -> Iterator[tuple[object, ...]]:
    """Yield the values of a constant, of a tuple those elements that the experiment changed."""
    wholes = [tuple(value) if isinstance(value, tuple | list) else (value,) for value in values]
    if len({*map(len, wholes)}) != 1:
        yield values
        return
    yield from (parts for parts in zip(*wholes, strict=True) if parts[0] != parts[1])


def _reaches(old: object, new: object, value: object) -> bool:
    numbers = _numbers(old, new, value)
    if numbers is None:
        return value == new
    start, end, at = numbers
    return at >= end if end > start else at <= end


def _is_further(old: object, new: object, here: object, value: object) -> bool:
    numbers = _numbers(old, new, here, value)
    if numbers is None:
        return False
    start, end, before, after = numbers
    return after > before if end > start else after < before


def _numbers(*values: object) -> tuple[float, ...] | None:
    found = tuple(float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool))
    return found if len(found) == len(values) else None
