"""Edits of a program as a model writes them: pieces of text to search for and what takes their place.

All or none are applied. An edit that does not fit is an error with the closest lines, for the model.
"""

from __future__ import annotations

import ast
import builtins
import re
import symtable
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from loop.errors import UserError
from loop.program.constants import syntax_tree

LIMIT = 200_000  # the size in bytes from which on a program is refused; ours has 23,000
_SHOWN = 20  # lines of the program at most in an error
_AROUND = 2  # lines shown before and after the closest ones
_WIDTH = 160  # characters of such a line


class EditError(UserError):
    """Why an answer makes no program."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A piece of the program, letter by letter, and what takes its place."""

    search: str
    replace: str


@dataclass(frozen=True, slots=True)
class _Splice:
    start: int
    end: int
    text: str


def apply_edits(source: str, edits: Sequence[Edit]) -> str:
    """Return `source` with all `edits` made; each is searched for in `source` itself, in any order.

    A piece must be there exactly once, letter by letter, beginning and ending between words; else once as
    whole lines that differ in their common indentation and in spaces at their ends only. Line endings stay.
    """
    if not edits:
        raise EditError("There are no edits.")
    text = _plain(source)
    splices: list[_Splice] = []
    for number, edit in enumerate(edits, 1):
        splice = _find(text, number, Edit(_plain(edit.search), _plain(edit.replace)))
        for other, earlier in enumerate(splices, 1):
            if splice.start < earlier.end and earlier.start < splice.end:
                raise EditError(f"Blocks {other} and {number} change the same lines: make one block of them.")
        splices.append(splice)
    return _ended_like(source, _spliced(source, splices))


def whole_file(source: str, text: str) -> str:
    return _ended_like(source, _plain(text).replace("\n", _newline(source)))


def check_program(before: str, after: str) -> None:
    """Raise an EditError if `after` is empty, unchanged, larger than LIMIT bytes, or no Python.

    Also if it uses names that nothing in it defines, and `before` does not.
    """
    if not after.strip():
        raise EditError("The program would be empty.")
    if after == before:
        raise EditError("The edit changes nothing: the program is the same as before.")
    size = len(after.encode(errors="replace"))
    if size > LIMIT:
        raise EditError(f"The program would have {size:,} bytes; at most {LIMIT:,} are allowed.")
    try:
        with warnings.catch_warnings(action="ignore"):  # an odd escape in a string is the program's business
            compile(after.removeprefix("\ufeff"), "the program", "exec", dont_inherit=True)
    except SyntaxError as error:
        line = (error.text or "").strip()[:_WIDTH]
        raise EditError(f"The program would not parse: line {error.lineno}: {error.msg}: {line}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes, or nested too deeply
        raise EditError(f"The program would not parse: {str(error) or type(error).__name__}.") from None
    if missing := sorted(undefined_names(after) - undefined_names(before)):
        raise EditError(f"The program would use names that it does not define: {', '.join(missing)}.")


def undefined_names(source: str) -> frozenset[str]:
    """Return the names that a program uses and that nothing in it defines, as far as its text tells.

    None where it does not parse, and where it may define names in other ways: by `exec` or a star import.
    """
    text = source.removeprefix("\ufeff")
    try:
        with warnings.catch_warnings(action="ignore"):
            module = symtable.symtable(text, "the program", "exec")
            nodes = list(ast.walk(syntax_tree(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    used: set[str] = set()
    defined = {*dir(builtins), "__file__", "__annotations__", "__builtins__"}
    waiting = [module]
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
        for symbol in table.get_symbols():
            is_shared = table is module or symbol.is_global()
            if is_shared and (symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()):
                defined.add(symbol.get_name())
            if is_shared and symbol.is_referenced():
                used.add(symbol.get_name())
    # From 3.12 on, the table of a comprehension does not tell that `:=` in it assigns outside.
    defined |= {node.target.id for node in nodes if isinstance(node, ast.NamedExpr)}
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    if any(node.module == "__future__" for node in imports):
        used -= _annotating(nodes)  # they are not evaluated
    tricks = used & {"exec", "eval", "globals", "locals", "vars", "__builtins__"}
    stars = any(alias.name == "*" for node in imports for alias in node.names)
    return frozenset() if tricks or stars else frozenset(used - defined)


def _annotating(nodes: Sequence[ast.AST]) -> set[str]:
    annotations = [getattr(node, part, None) for node in nodes for part in ("annotation", "returns")]
    inner = (each for annotation in annotations if annotation for each in ast.walk(annotation))
    return {each.id for each in inner if isinstance(each, ast.Name)}


def _spliced(original: str, splices: Sequence[_Splice]) -> str:
    """Return a text with pieces replaced that were found in it as it is with plain line ends."""
    starts = [match.start() for match in re.finditer(r"\r\n|[\s\S]", original)] + [len(original)]
    pieces, at, newline = [], 0, _newline(original)
    for splice in sorted(splices, key=lambda splice: splice.start):
        pieces += [original[at : starts[splice.start]], splice.text.replace("\n", newline)]
        at = starts[splice.end]
    return "".join([*pieces, original[at:]])


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n")


def _newline(text: str) -> str:
    return "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"


def _ended_like(source: str, text: str) -> str:
    """Return `text` with or without an end of its last line, as `source` is."""
    if not text or not source or source.endswith("\n") == text.endswith("\n"):
        return text
    return f"{text}{_newline(source)}" if source.endswith("\n") else text.rstrip("\r\n")


def _find(text: str, block: int, edit: Edit) -> _Splice:
    if not edit.search.strip():
        raise EditError(f"Block {block} searches for nothing.")
    exact = list(_exact(text, edit.search))
    if len(exact) == 1:
        return _Splice(exact[0], exact[0] + len(edit.search), _as_many_lines(edit))
    shifted = [] if exact else list(_shifted(text, edit))
    if len(shifted) == 1:
        return shifted[0]
    found = [text.count("\n", 0, start) + 1 for start in exact or [splice.start for splice in shifted]]
    if found:
        reason = f"Block {block} is found {len(found)} times, at lines {', '.join(map(str, found))}: "
        reason += "take more lines around it into `search`, so that it is found once."
    else:
        reason = f"Block {block} is not in the program; `search` must repeat it letter by letter."
        reason += _closest(text, edit.search)
    raise EditError(reason)


def _as_many_lines(edit: Edit) -> str:
    """Return the replacement such that it does not run into the line before or after it."""
    text = edit.replace
    if text and edit.search.startswith("\n") and not text.startswith("\n"):
        text = f"\n{text}"
    if text and edit.search.endswith("\n") and not text.endswith("\n"):
        text = f"{text}\n"
    return text


def _exact(text: str, search: str) -> Iterator[int]:
    before = r"(?<!\w)(?<!\d\.)" if re.match(r"\w", search) else ""
    after = r"(?!\w|\.\d)" if re.search(r"\w\Z", search) else ""
    for match in re.finditer(f"(?={before}{re.escape(search)}{after})", text):
        yield match.start()


def _shifted(text: str, edit: Edit) -> Iterator[_Splice]:
    """Yield each place where the lines of `search` stand, indented otherwise, and so is the replacement."""
    wanted, replacement = _without_blank_ends(edit.search), _without_blank_ends(edit.replace)
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    shape, indent = _dedented(wanted)
    start = 0
    for index in range(len(lines) - len(wanted) + 1):
        window = lines[index : index + len(wanted)]
        if (there := _dedented(window))[0] == shape:
            moved = _moved(replacement, indent, there[1])
            if moved is not None:
                end = "\n" if moved and window[-1].endswith("\n") else ""
                yield _Splice(start, start + len("".join(window)), "\n".join(moved) + end)
        start += len(lines[index])


def _dedented(lines: Sequence[str]) -> tuple[list[str], str]:
    """Return the lines without spaces at their ends and without their common indentation, and that."""
    texts = [line.rstrip() for line in lines]
    indents = [text[: len(text) - len(text.lstrip())] for text in texts if text]
    common = min(indents, key=len, default="")
    while any(not indent.startswith(common) for indent in indents):
        common = common[:-1]
    return [text[len(common) :] for text in texts], common


def _moved(lines: Sequence[str], indent: str, other: str) -> list[str] | None:
    """Return the lines as they stand when `indent` becomes `other`; None where one has not enough to lose."""
    moved = []
    for line in lines:
        if not line.strip():
            moved.append("")
        elif line.startswith(indent):
            moved.append(other + line[len(indent) :])
        elif other.startswith(indent):
            moved.append(other[len(indent) :] + line)
        elif line.startswith(indent[len(other) :]):
            moved.append(line[len(indent) - len(other) :])
        else:
            return None
    return moved


def _without_blank_ends(text: str) -> list[str]:
    lines = text.split("\n")
    filled = [index for index, line in enumerate(lines) if line.strip()]
    return lines[filled[0] : filled[-1] + 1] if filled else []


def _closest(text: str, search: str) -> str:
    lines = text.split("\n")
    wanted = _without_blank_ends(search)
    first = _most_alike(lines, wanted)
    if first is None:
        return " Nothing in the program looks like it."
    start = max(0, first - _AROUND)
    shown = lines[start : first + len(wanted) + _AROUND][:_SHOWN]
    numbered = [f"{number:5d} | {line[:_WIDTH]}" for number, line in enumerate(shown, start + 1)]
    return "\n".join([" The closest lines of the program, with their numbers:", *numbered])


def _most_alike(lines: Sequence[str], wanted: Sequence[str]) -> int | None:
    stripped = [line.strip() for line in lines]
    places: dict[str, list[int]] = {}
    for index, line in enumerate(stripped):
        if line:
            places.setdefault(line, []).append(index)
    votes: dict[int, int] = {}
    for offset, line in enumerate(wanted):
        for index in places.get(line.strip(), ()):
            votes[index - offset] = votes.get(index - offset, 0) + 1
    if votes:
        return max(0, max(votes, key=lambda first: (votes[first], -first)))
    longest = max(range(len(wanted)), key=lambda offset: len(wanted[offset]))
    alike = get_close_matches(wanted[longest].strip()[:_WIDTH], places, n=1, cutoff=0.5)
    return max(0, places[alike[0]][0] - longest) if alike else None
