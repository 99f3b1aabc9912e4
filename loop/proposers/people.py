"""What people want: ideas, from `ideas.md` beside the program too, and what they said never again to.

Ideas that are constants with values become an edit at once, without a model.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from math import isfinite

from loop.errors import UserError
from loop.evidence import Wish
from loop.experiment import Family, Proposal, Run
from loop.program.constants import Number, Value, constant_values, read_value, replace_constants, write_value
from loop.program.demands.requirements import read_requirements
from loop.proposers.protocol import Context
from loop.proposers.search.space import family_of, is_share, is_size
from loop.store.experiments import Idea, IdeaBox, Wished

log = logging.getLogger(__name__)

NAME = "ideas.md"  # in the user's own checkout; also the author of the ideas
IDEA_CHARACTERS = 1000  # where an idea is cut, from a file or a chat
_BYTES = 100_000
_HIDDEN = re.compile(
    r"<!--.*?(?:-->|\Z)"
    r"|^[ \t]*(?:(?:[-*+]|\d+[.)])[ \t]+)?(`{3,}|~{3,})[^`\n]*$.*?(?:^[ \t]*\1[`~]*[ \t]*$|\Z)",
    re.DOTALL | re.MULTILINE,
)
"""Comments, and code between fences, in an item of a list or not."""

_DONE = re.compile(r"[-*+]?\s*\[[xX]\]\s")
_MARK = re.compile(r"(?:[-*+]|\d+[.)])\s+(?:\[ ?\]\s*)?|\[ ?\]\s*")


def read_ideas(text: str) -> tuple[str, ...]:
    """Return the ideas in the text: a line each, or an item of a list with the indented lines below it.

    Headings and comments (`#`, `<!-- -->`), code between fences, lines for the eye (`---`) and what is ticked
    (`- [x]`) are none.
    """
    lines = "\n".join(text.removeprefix("\ufeff").splitlines())
    ideas: list[list[str]] = []
    item: list[str] | None = None
    for line in _HIDDEN.sub("", lines).split("\n"):
        said = line.strip()
        if line and not line[0].isspace():
            item = None
        if not said or said.startswith("#"):
            continue
        mark = _MARK.match(said)
        if _DONE.match(said):
            item = []  # so are the lines below it
        elif mark is not None:
            item = [said[mark.end() :]]
            ideas.append(item)
        elif item is not None:
            item.append(said)
        else:
            ideas.append([said])
    told = (" ".join(parts)[:IDEA_CHARACTERS].strip() for parts in ideas)
    return tuple(dict.fromkeys(idea for idea in told if any(map(str.isalnum, idea))))


def add_from_file(run: Run, box: IdeaBox) -> tuple[Idea, ...]:
    """Add to the box what the file has that is new in this run, and return that. Blocks."""
    path = run.repository / NAME
    if not path.is_file():
        return ()
    try:
        with path.open("rb") as file:
            text = file.read(_BYTES).decode("utf-8", "replace")
    except OSError as error:
        log.info("%s cannot be read: %s", path, error.strerror)
        return ()
    known = box.texts(run.id)
    return tuple(box.add(run.id, idea, author=NAME) for idea in read_ideas(text) if idea not in known)


_LARGE = r"[A-Z][A-Z0-9_]*\b"  # a name in capitals is meant as one; others only if the program has them
_QUOTED = r"[\"“”„«»][^\"“”„«»]*[\"“”„«»]|['‘’‚‹›`][^'‘’‚‹›`]*['‘’‚‹›`]"
_IS = r"\s*(?:->|→|[=:])\s*|\s+to\s+|\s+(?![-+]|to\b)"  # `DEPTH +1` may mean one more
_TEXT = re.compile(rf"\w(?:[\w./:+-]*\w)?|{_QUOTED}")
_ARITHMETIC = re.compile(r"[\d\s.,_+*/()eE-]+")
_RANGE = re.compile(r"\d\s*-\s*\d")
_DECIMAL_COMMA = re.compile(r"-?(?![1-9]\d{0,2},\d{3}$)\d+,\d+")  # 1,000 may be a thousand


def propose_idea(context: Context) -> Proposal | None:
    """Return the oldest idea that sets constants of the program, as an edit, which may change nothing."""
    constants = constant_values(context.source)
    for idea in context.ideas:
        try:
            changes = _read_changes(constants, idea.text)
            source = replace_constants(context.source, changes)
        except UserError:
            continue  # it waits for a model
        return Proposal(
            source=source,
            description=idea.text,
            rationale=f"Idea of {idea.author}.",
            proposer=idea.author,
            parent=context.parent,
            family=Family.COMBINATION if len(changes) > 1 else family_of(*changes),
            idea=idea.id,
        )
    return None


def ideas_in_prose(source: str, ideas: Iterable[Idea]) -> tuple[Idea, ...]:
    """Return those of the ideas that set no constants of this program: they take a model."""

    def is_prose(idea: Idea) -> bool:
        try:
            edit(source, idea.text)
        except UserError:
            return True
        return False

    return tuple(filter(is_prose, ideas))


class MistypedIdeaError(UserError):
    """An idea that can only be meant to set a constant, and does not."""


def edit(source: str, text: str) -> str:
    """Return `source` with the constants set that `text` names: `DEPTH 9`, `DEPTH = 9, MATRIX_LR 0.05`.

    Raises:
        MistypedIdeaError: the text names an unknown constant, or a value of another kind.
        UserError: the text is anything else.
    """
    return replace_constants(source, _read_changes(constant_values(source), text))


def why_impossible(source: str, files: Mapping[str, str], text: str) -> str:
    """Return why the program cannot be trained with the constants that `text` sets; empty where it may be.

    `files` are the texts of the other files of the repository by path.

    Raises:
        UserError: as `edit`.
    """
    present = constant_values(source)
    changes = _read_changes(present, text)
    for name, value in changes.items():
        if reason := _why_out_of_range(name, present[name], value):
            return reason
    requirements = read_requirements(source, files)
    broken = requirements.broken({**present, **changes}) if requirements else frozenset()
    names = ", ".join(sorted(broken))
    return f"the program would stop, as it demands other values of {names}." if broken else ""


def _why_out_of_range(name: str, old: Value, new: Value) -> str:
    pairs = zip(old, new, strict=True) if isinstance(old, tuple) and isinstance(new, tuple) else [(old, new)]
    for before, after in pairs:
        if isinstance(before, bool | str | tuple) or isinstance(after, bool | str | tuple):
            continue
        if not isfinite(after):
            return f"{name} takes a finite number."
        if before > 0 > after or (isinstance(before, int) and before > 0 == after and is_size(name)):
            return f"{name} must be above 0." if is_size(name) else f"{name} cannot be negative."
        if is_share(name) and 0 <= before <= 1 < after:
            return f"{name} is a share: at most 1."
    return ""


def _change_of(names: Iterable[str]) -> re.Pattern[str]:
    """Return what matches a change of one of these constants, up to the next one or the end."""
    others = sorted((name for name in names if not re.fullmatch(_LARGE, name)), key=len, reverse=True)
    name = "|".join([*(rf"{re.escape(other)}(?![\w.-]*\w)" for other in others), _LARGE])
    end = rf"(?:\s*[,;]\s*(?:and\s+)?|\s+and\s+)(?={name})|\.?\Z"
    return re.compile(rf"({name})(?:{_IS})({_QUOTED}|\S.*?)(?:{end})")


def _read_changes(constants: Mapping[str, Value], text: str) -> Mapping[str, Value]:
    changes: dict[str, Value] = {}
    change = _change_of(constants)
    text, end = text.strip(), 0
    while end < len(text) or not changes:
        match = change.match(text, end)
        if match is None or (match[1] not in constants and read_value(match[2]) is None):
            such = next((f", such as {name} {write_value(value)}" for name, value in constants.items()), "")
            raise UserError(f"That sets no constant: write its name and a value{such}.")
        if match[1] not in constants:
            like = get_close_matches(match[1], constants, n=1)
            meant = f" Did you mean {like[0]}?" if like else ""
            raise MistypedIdeaError(f"The program has no constant {match[1]}.{meant}")
        name, old = match[1], constants[match[1]]
        value = _read_value(match[2], old)
        if value is None:
            is_prose = any(map(str.isspace, match[2])) or name != name.upper()  # `lr decay` is no value
            error = UserError if is_prose else MistypedIdeaError
            raise error(f"{name} takes {_kind(old)}, such as {name} {write_value(old)}.")
        if name in changes:
            raise MistypedIdeaError(f"{name} is named twice: give it one value.")
        changes[name], end = value, match.end()
    return changes


def _read_value(text: str, old: Value) -> Value | None:
    if isinstance(old, str):
        if not _TEXT.fullmatch(text):
            return None
        return text if text[0].isalnum() or text[0] == "_" else text[1:-1]
    if isinstance(old, bool):
        return {"true": True, "false": False}.get(text.casefold())
    if not _ARITHMETIC.fullmatch(text) or _RANGE.search(text):
        return None
    if _DECIMAL_COMMA.fullmatch(text):
        return float(text.replace(",", ".")) if isinstance(old, float) else None
    value = read_value(text)
    if isinstance(old, tuple):
        return _fit_all(value, old) if isinstance(value, tuple) else None
    return _fit(value, old) if isinstance(value, int | float) else None


def _fit_all(values: tuple[Number, ...], old: tuple[Number, ...]) -> tuple[Number, ...] | None:
    if len(values) != len(old):
        return None
    fitted = [_fit(*pair) for pair in zip(values, old, strict=True)]
    found = tuple(value for value in fitted if value is not None)
    return found if len(found) == len(old) else None


def _fit(value: Number, old: Number) -> Number | None:
    if isinstance(old, int):
        return int(value) if value == int(value) else None
    try:
        return float(value)
    except OverflowError:
        return None


def _kind(value: Value) -> str:
    match value:
        case bool():
            return "True or False"
        case int():
            return "a whole number"
        case float():
            return "a number"
        case str():
            return "one word or a quoted text"
        case tuple():
            return f"{len(value)} numbers"


def why_unwanted(wishes: Iterable[Wished], source: str, proposal: Proposal) -> str | None:
    """Return why a proposal, in the place of the program `source`, is not wanted; None where it may be.

    Ideas of people are what somebody wants, whatever was said before.
    """
    if proposal.idea is not None:
        return None
    try:
        wished = unwanted(wishes, constant_values(source), constant_values(proposal.source))
    except UserError:
        return None  # it does not parse: that is said elsewhere
    return f"a person said never again to #{wished.number}: {wished.description}" if wished else None


def unwanted(
    wishes: Iterable[Wished], before: Mapping[str, object], after: Mapping[str, object]
) -> Wished | None:
    """Return the wish that forbids to change constants so: to do again what the experiment did, or more.

    It is done again where each constant that the experiment changed has its value, or is beyond it, and one
    of them was moved that way. What the best program has already is no change.
    """
    never = (wished for wished in wishes if wished.wish is Wish.NEVER)
    return next((wished for wished in never if _again(wished, before, after)), None)


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
