"""Changes that make a program simpler: a constant goes, and with it what it stands for.

Only where one can say what is left: without a weighted term, a factor, a cap, a regularisation, a ramp, a
branch, a line. What is off already stays, because without it the number would be the same and only chance
would decide.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from loop.errors import UserError
from loop.program.constants import Constant, Number, find_constants, is_protected, line_starts, parse, span

_ATOMS = (ast.Name, ast.Call, ast.Attribute, ast.Subscript, ast.Constant)
_TIGHT = (ast.Mult, ast.MatMult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """Bytes of the source, and the text to put in their place."""

    start: int
    end: int
    text: str = ""


class Code:
    """One program.

    Raises:
        UserError: it is not valid Python.
    """

    def __init__(self, source: str) -> None:
        self._tree = parse(source)
        self._data = source.encode()
        self._starts = [*line_starts(source), len(self._data)]
        self._parents = {child: node for node in ast.walk(self._tree) for child in ast.iter_child_nodes(node)}

    def edited(self, edits: Iterable[Edit]) -> str | None:
        """Return the source with all edits made; None where two are in each other's way."""
        data, end = self._data, len(self._data)
        for edit in sorted(edits, reverse=True):
            if edit.end > end:
                return None
            data = data[: edit.start] + edit.text.encode() + data[edit.end :]
            end = edit.start
        return data.decode()

    def uses(self, name: str) -> list[ast.Name]:
        """Return where a module's name is read; nothing where a function has one of its own like it."""
        if any(isinstance(node, ast.arg) and node.arg == name for node in self._parents):
            return []
        names = [node for node in self._parents if isinstance(node, ast.Name) and node.id == name]
        inner = any(not isinstance(node.ctx, ast.Load) and not self._is_outside(node) for node in names)
        return [] if inner else [node for node in names if isinstance(node.ctx, ast.Load)]

    def assignment(self, name: str) -> ast.stmt | None:
        """Return the top-level statement that sets a name."""
        for statement in self._tree.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=found)]) | ast.AnnAssign(target=ast.Name(id=found)):
                    if found == name:
                        return statement
        return None

    def parent(self, node: ast.AST) -> ast.AST | None:
        """Return what a node stands in, None for the module."""
        return self._parents.get(node)

    def statements(self, node: ast.AST) -> list[ast.stmt]:
        """Return the statements that a node stands in, the innermost first."""
        found, here = [], self.parent(node)
        while here is not None:
            if isinstance(here, ast.stmt):
                found.append(here)
            here = self.parent(here)
        return found

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Return the bytes of a node."""
        return span(node, self._starts)

    def text(self, node: ast.expr | ast.stmt) -> str:
        """Return the source of a node."""
        start, end = self.span(node)
        return self._data[start:end].decode()

    def replaced(self, node: ast.expr, text: str) -> Edit:
        """Return the edit that puts a text in the place of an expression."""
        return Edit(*self.span(node), text)

    def lifted(self, node: ast.expr, outer: ast.expr) -> Edit:
        """Return the edit that puts a part of an expression in the place of the whole."""
        return self.replaced(outer, self.operand(node, outer))

    def operand(self, node: ast.expr, outer: ast.expr) -> str:
        """Return the source of a node, in parentheses unless it is fit to stand where `outer` does."""
        return self.text(node) if self.fits(node, outer) else f"({self.text(node)})"

    def fits(self, node: ast.expr, outer: ast.expr) -> bool:
        """Tell whether a node can stand where `outer` does without parentheses."""
        tight = isinstance(node, _ATOMS) or (isinstance(node, ast.BinOp) and isinstance(node.op, _TIGHT))
        match self.parent(outer):
            case ast.Call(args=args) if outer in args:
                return True
            case holder:
                return tight or not isinstance(holder, ast.expr)

    def without(self, statement: ast.stmt) -> Edit | None:
        """Return the edit that takes out a statement with its lines; None if it is alone there or here."""
        start, end = self._lines(statement.lineno, statement.end_lineno or 0)
        first, last = self.span(statement)
        before, behind = self._data[start:first].strip(), self._data[last:end].strip()
        if before or (behind and not behind.startswith(b"#")) or self._is_alone(statement):
            return None
        return Edit(start, end)

    def branch(self, choice: ast.If, kept: Sequence[ast.stmt]) -> Edit | None:
        """Return the edit that leaves only one branch of a choice; None where that is not simply done."""
        start, _ = self.span(choice)
        if self._begins(choice, "elif"):
            return None
        if not kept:
            return self.without(choice)
        if self._begins(kept[0], "elif"):
            return Edit(start, self.span(kept[0])[0] + len("el"))
        if kept[0].lineno == choice.lineno or _has_long_text(kept):
            return None
        first = min([kept[0].lineno, *(line.lineno for line in getattr(kept[0], "decorator_list", []))])
        begin, end = self._lines(first, kept[-1].end_lineno or 0)
        lines = textwrap.dedent(self._data[begin:end].decode())
        margin = " " * choice.col_offset
        whole = self._lines(choice.lineno, choice.end_lineno or 0)
        return Edit(*whole, textwrap.indent(lines, margin))

    def _lines(self, first: int, last: int) -> tuple[int, int]:
        return self._starts[first - 1], self._starts[last]

    def _begins(self, statement: ast.stmt, word: str) -> bool:
        return isinstance(statement, ast.If) and self.text(statement).startswith(word)

    def _is_alone(self, statement: ast.stmt) -> bool:
        holder = self.parent(statement)
        bodies = [getattr(holder, name, []) for name in ("body", "orelse", "finalbody")]
        return any(body == [statement] for body in bodies)

    def _is_outside(self, node: ast.AST) -> bool:
        scopes = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        return not any(isinstance(statement, scopes) for statement in self.statements(node))


def _has_long_text(statements: Sequence[ast.stmt]) -> bool:
    """Tell whether there is a text over several lines, whose margin is part of it."""
    return any(
        isinstance(node, ast.Constant | ast.JoinedStr) and node.end_lineno != node.lineno
        for statement in statements
        for node in ast.walk(statement)
    )


_NEEDED = frozenset({"LR", "RATE", "BETA", "BETA1", "BETA2", "MOMENTUM", "EMA"})  # or nothing is learnt
_PARTS = frozenset({"FRAC", "FRACTION", "RATIO", "WARMUP", "RAMP"})  # of those, that can go
_REGULARISING = frozenset({"DECAY", "DROPOUT", "SMOOTHING", "PENALTY", "JITTER"})
_RAMPS = frozenset({"WARMUP", "RAMP", "ANNEAL"})
_SCHEDULE = _RAMPS | {"WARMDOWN", "COOLDOWN"}
_MEMORY = 0.5  # from here on a decay is the share that a mean keeps, and regularises nothing
_NEAR_ONE = (0.5, 2.0)  # a factor that may as well be 1
_SHOWN = 60  # characters of a line of the program

_Cut: TypeAlias = Callable[[Code, ast.Name], Edit | None]


@dataclass(frozen=True, slots=True)
class Simplification:
    """A simpler program: the constant `name` is gone, and with it `what`, in words."""

    name: str
    what: str
    source: str


def simplifications(source: str, frozen: Collection[str] = frozenset()) -> Iterator[Simplification]:
    """Yield the programs that are simpler by one constant each; names in `frozen` stay.

    Raises:
        UserError: the source is not valid Python.
    """
    code = Code(source)
    constants = find_constants(source)
    for constant in constants:
        if constant.name in frozen or is_protected(constant.name) or not constant.value:
            continue
        assignment = code.assignment(constant.name)
        cut = _cut(code, constant)
        if assignment is None or cut is None:
            continue
        what, edits = cut
        text = code.edited(edit for edit in (*edits, code.without(assignment)) if edit is not None)
        if text is not None and _is_left(text, [other for other in constants if other != constant]):
            yield Simplification(constant.name, what, text)


def halvings(
    constants: Sequence[Constant], frozen: Collection[str] = frozenset()
) -> Iterator[tuple[Constant, Number]]:
    """Yield the constants that say how long a part of a schedule lasts, each with half of that."""
    for constant in constants:
        value = constant.value
        if constant.name in frozen or is_protected(constant.name) or isinstance(value, bool | str | tuple):
            continue
        half = value // 2 if isinstance(value, int) else value / 2
        if half > 0 and set(constant.name.split("_")) & _SCHEDULE:
            yield constant, half


def _cut(code: Code, constant: Constant) -> tuple[str, list[Edit]] | None:
    """Return what goes with the constant, in words, and how; None where nothing sound is known."""
    value, words = constant.value, set(constant.name.split("_"))
    uses = code.uses(constant.name)
    needed = words & _NEEDED and not words & _PARTS
    if not uses or needed or isinstance(value, str | tuple):
        return None
    if isinstance(value, bool):
        return _everywhere(code, uses, "branch", _switched_off)
    weight = isinstance(value, float)
    if found := _statement(code, uses, weight=weight) or _cap(code, uses):
        return found
    cuts: list[tuple[str, _Cut]] = []
    if weight:
        cuts.append(("term", _term))
        if _NEAR_ONE[0] < value < _NEAR_ONE[1]:
            cuts.append(("factor", _factor))
        if words & _REGULARISING and value < _MEMORY:
            cuts.append(("regularisation", _zero))
    if words & _RAMPS:
        cuts.append(("ramp", _ramp))
    ways = (_everywhere(code, uses, what, cut) for what, cut in cuts)
    return next((way for way in ways if way is not None), None)


def _everywhere(code: Code, uses: Sequence[ast.Name], what: str, cut: _Cut) -> tuple[str, list[Edit]] | None:
    edits = [edit for use in uses if (edit := cut(code, use)) is not None]
    return (what, edits) if len(edits) == len(uses) else None


def _is_left(text: str, expected: Sequence[Constant]) -> bool:
    """Tell whether a text is a program with these constants."""
    try:
        found = find_constants(text)
    except UserError:
        return False
    return [(each.name, each.value) for each in found] == [(each.name, each.value) for each in expected]


def _switched_off(code: Code, use: ast.Name) -> Edit | None:
    node: ast.expr = use
    holder, value = code.parent(node), False
    if isinstance(holder, ast.UnaryOp) and isinstance(holder.op, ast.Not):
        node, holder, value = holder, code.parent(holder), True
    if isinstance(holder, ast.If) and holder.test is node:
        return code.branch(holder, holder.body if value else holder.orelse)
    if isinstance(holder, ast.IfExp) and holder.test is node:
        return code.lifted(holder.body if value else holder.orelse, holder)
    return code.replaced(node, str(value))


def _statement(code: Code, uses: Sequence[ast.Name], *, weight: bool) -> tuple[str, list[Edit]] | None:
    """Take out the one statement that holds all uses, if the rest does not hang on it."""
    for statement in code.statements(uses[0]):
        if all(statement in code.statements(use) for use in uses) and _is_optional(code, statement, weight):
            match statement:
                case ast.If(orelse=[_] as rest):
                    edit = code.branch(statement, rest)
                case _:
                    edit = code.without(statement)
            first = code.text(statement).splitlines()[0].rstrip(":")[:_SHOWN]
            return (f"`{first}`", [edit]) if edit is not None else None
    return None


def _is_optional(code: Code, statement: ast.stmt, weight: bool) -> bool:
    """Tell whether nothing is missing without a statement: it only changes what was there before.

    A sum is that where the constant is a `weight`; else it may count something.
    """
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name))):
            return name.startswith("clip")
        case ast.AugAssign():
            return weight
        case ast.Assign(targets=[ast.Name() | ast.Attribute() as target], value=ast.BinOp() as value):
            parts = (node for node in ast.walk(value) if isinstance(node, type(target)))
            return weight and any(code.text(part) == code.text(target) for part in parts)
        case ast.If(body=body, orelse=orelse):
            leaves = (ast.Return, ast.Raise, ast.Continue, ast.Break)
            plain = all(isinstance(each, leaves) or _is_optional(code, each, weight) for each in body)
            return plain and len(orelse) <= 1 and all(isinstance(each, ast.If) for each in orelse)
    return False


def _cap(code: Code, uses: Sequence[ast.Name]) -> tuple[str, list[Edit]] | None:
    """Leave `x` of `CAP * tanh(x / CAP)`, and the like of other functions and longer ways to the division."""
    for outside, inside in (uses, uses[::-1]) if len(uses) == 2 else ():
        match code.parent(outside), code.parent(inside):
            case (
                ast.BinOp(op=ast.Mult()) as whole,
                ast.BinOp(op=ast.Div(), left=ast.expr() as left, right=right) as ratio,
            ) if right is inside:
                squash = whole.right if whole.left is outside else whole.left
                match squash:
                    case ast.Call(args=[argument], keywords=[]) if any(
                        node is ratio for node in ast.walk(argument)
                    ):
                        pass
                    case _:
                        continue
                start, end = code.span(whole)
                first, last = code.span(argument)
                inner = code.replaced(ratio, code.operand(left, ratio))
                rest = left if argument is ratio else argument
                before, behind = ("", "") if code.fits(rest, whole) else ("(", ")")
                return "cap", [Edit(start, first, before), inner, Edit(last, end, behind)]
    return None


def _term(code: Code, use: ast.Name) -> Edit | None:
    product = _product(code, use)
    match code.parent(product):
        case ast.BinOp(op=ast.Add(), left=rest, right=right) as whole if right is product is not use:
            return code.lifted(rest, whole)
        case ast.BinOp(op=ast.Sub(), left=rest, right=right) as whole if right is product is not use:
            return code.lifted(rest, whole)
        case ast.BinOp(op=ast.Add(), left=left, right=rest) as whole if left is product is not use:
            return code.lifted(rest, whole)
    return None


def _factor(code: Code, use: ast.Name) -> Edit | None:
    match code.parent(use):
        case ast.BinOp(op=ast.Mult(), left=left, right=right) as whole:
            return code.lifted(right if left is use else left, whole)
    return None


def _zero(code: Code, use: ast.Name) -> Edit | None:
    product = _product(code, use)
    match code.parent(product):
        case ast.BinOp(op=ast.Div() | ast.FloorDiv() | ast.Mod(), right=right) if right is product:
            return None
    return code.replaced(product, "0.0")


def _ramp(code: Code, use: ast.Name) -> Edit | None:
    """Leave 1 of `min(1, step / WARMUP)`."""
    node: ast.AST | None = code.parent(use)
    while isinstance(node, ast.expr):
        match node:
            case ast.Call(func=ast.Name(id="min"), args=[_, _] as choice, keywords=[]):
                one = any(isinstance(each, ast.Constant) and each.value == 1 for each in choice)
                return code.replaced(node, "1.0") if one else None
        node = code.parent(node)
    return None


def _product(code: Code, use: ast.Name) -> ast.expr:
    """Return the largest product that has this name among its factors."""
    node: ast.expr = use
    while True:
        match code.parent(node):
            case ast.BinOp(op=ast.Mult()) as whole:
                node = whole
            case ast.BinOp(op=ast.Div(), left=left) as whole if left is node:
                node = whole
            case _:
                return node
