"""Changes that make a program simpler: a constant goes, and with it what it stands for.

A constant that goes is taken for the value at which it does nothing: 0 for a weight, 1 for a factor, False
for a switch. From each of its uses outwards, what this settles is cut out of the text. What is off already
stays, because without it the number would be the same and only chance would decide.
"""

from __future__ import annotations

import ast
import builtins
import symtable
import textwrap
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from loop.errors import UserError
from loop.program.constants import Constant, find_constants, is_protected, line_starts, parse, span

_NEEDED = frozenset({"LR", "RATE", "BETA", "BETA1", "BETA2", "MOMENTUM", "EMA"})  # or nothing is learnt
_PARTS = frozenset({"FRAC", "FRACTION", "RATIO", "WARMUP", "RAMP"})  # of those, that can go
_REGULARISING = frozenset({"DECAY", "DROPOUT", "SMOOTHING", "PENALTY", "JITTER"})
_RAMPS = frozenset({"WARMUP", "RAMP", "ANNEAL"})
_MEMORY = 0.5  # from here on a decay is the share that a mean keeps, and regularises nothing
_NEAR_ONE = (0.5, 2.0)  # a factor that may as well be 1

_ATOMS = (ast.Name, ast.Call, ast.Attribute, ast.Subscript, ast.Constant)
_TIGHT = (ast.Mult, ast.MatMult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)

_Cut: TypeAlias = tuple[int, int, str]
"""Bytes of the source from and to, and the text to put in their place."""


@dataclass(frozen=True, slots=True)
class Simplification:
    """A simpler program: the constant `name` is gone, and with it `what`, in words."""

    name: str
    what: str
    source: str


def simplifications(source: str, frozen: Collection[str] = frozenset()) -> Iterator[Simplification]:
    """Yield the programs that are simpler by one constant each; names in `frozen` stay."""
    code = _Code(source)
    constants = find_constants(source)
    undefined = _undefined(source)
    for constant in constants:
        if constant.name in frozen or is_protected(constant.name) or not constant.value:
            continue
        left: dict[str, object] = {other.name: other.value for other in constants if other is not constant}
        for what, text in _ways(code, constant):
            if _has_constants(text, left) and _undefined(text) <= undefined:
                yield Simplification(constant.name, what, text)
                break


def _ways(code: _Code, constant: Constant) -> Iterator[tuple[str, str]]:
    """Yield what goes with the constant, in words, and the program without it, which may be none."""
    value, words = constant.value, set(constant.name.split("_"))
    assignment, uses = code.uses(constant.name)
    first = code.without(assignment) if assignment else None
    if first is None or not uses or (words & _NEEDED and not words & _PARTS):
        return
    ways: list[tuple[str, list[_Cut | None]]] = []
    if isinstance(value, bool):
        ways.append(("branch", [_switched(code, use, False) for use in uses]))
    elif isinstance(value, int | float):
        ways += [("clipping", [_clipping(code, use) for use in uses]), ("cap", [_cap(code, uses)])]
        if isinstance(value, float):
            ways.append(("term", [_settled(code, use, 0.0) for use in uses]))
            if _NEAR_ONE[0] < value < _NEAR_ONE[1]:
                ways.append(("factor", [_settled(code, use, 1.0) for use in uses]))
            if words & _REGULARISING and value < _MEMORY:
                ways.append(("regularisation", [_settled(code, use, 0.0, literal=True) for use in uses]))
        if words & _RAMPS:
            ways.append(("ramp", [_ramp(code, use) for use in uses]))
    for what, cuts in ways:
        text = code.cut([first, *(cut for cut in cuts if cut is not None)])
        if text is not None:
            yield what, text


def _has_constants(text: str, expected: dict[str, object]) -> bool:
    try:
        return {each.name: each.value for each in find_constants(text)} == expected
    except UserError:
        return False


def _undefined(source: str) -> set[str]:
    """Return the names that the source reads and binds nowhere, and that Python does not know either.

    A program without a constant that it still reads, or without a branch that sets what it reads, has such.
    """
    with warnings.catch_warnings(action="ignore"):
        module = symtable.symtable(source.removeprefix("\ufeff"), "the program", "exec")
    bound = {
        symbol.get_name()
        for symbol in module.get_symbols()
        if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
    }
    read: set[str] = set()
    tables = [module]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_declared_global() and symbol.is_assigned():
                bound.add(symbol.get_name())
            elif symbol.is_referenced() and (table is module or symbol.is_global()):
                read.add(symbol.get_name())
    return read - bound - set(dir(builtins))


class _Code:
    """The text of a program and its syntax tree."""

    def __init__(self, source: str) -> None:
        tree = parse(source)
        self._data = source.encode()
        self._starts = [*line_starts(source), len(self._data)]
        self.parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}

    def cut(self, cuts: Collection[_Cut]) -> str | None:
        """Return the source with all cuts made but those within larger ones; None where two overlap."""
        data, end = self._data, len(self._data)
        outer = {cut for cut in cuts if not any(_is_within(cut, other) for other in cuts)}
        for start, stop, text in sorted(outer, reverse=True):
            if stop > end:
                return None
            data, end = data[:start] + text.encode() + data[stop:], start
        return data.decode()

    def uses(self, name: str) -> tuple[ast.stmt | None, list[ast.Name]]:
        """Return the statement that sets a name, and where it is read; nothing where it has two meanings."""
        names = [node for node in self.parents if isinstance(node, ast.Name) and node.id == name]
        match [node for node in names if not isinstance(node.ctx, ast.Load)]:
            case [target] if not any(_declares(node, name) for node in self.parents):
                statement = self.parents[target]
                assert isinstance(statement, ast.stmt)
                return statement, [node for node in names if node is not target]
        return None, []

    def text(self, node: ast.expr | ast.stmt) -> str:
        return self.between(*span(node, self._starts))

    def between(self, start: int, end: int) -> str:
        return self._data[start:end].decode()

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        return span(node, self._starts)

    def replaced(self, node: ast.expr, text: str) -> _Cut:
        """Return the cut that puts `text` in the place of an expression, or drops a then idle `x = x`."""
        match self.parents[node]:
            case ast.Assign(targets=[target]) as statement if self.text(target) == text:
                return self.without(statement) or (*self.span(node), text)
        return *self.span(node), text

    def lifted(self, node: ast.expr, outer: ast.expr) -> _Cut:
        """Return the cut that puts a part of an expression in the place of the whole."""
        return self.replaced(outer, self.operand(node, outer))

    def operand(self, node: ast.expr, outer: ast.expr, text: str | None = None) -> str:
        """Return the source of a node, in parentheses unless it is fit to stand where `outer` does."""
        text = self.text(node) if text is None else text
        holder = self.parents[outer]
        fits = (
            isinstance(node, _ATOMS)
            or (isinstance(node, ast.BinOp) and isinstance(node.op, _TIGHT))
            or not isinstance(holder, ast.expr)
            or (isinstance(holder, ast.Call) and outer in holder.args)
        )
        return text if fits else f"({text})"

    def without(self, statement: ast.stmt) -> _Cut | None:
        """Return the cut of a statement with its lines; None if it is alone there or here."""
        start, end = self._starts[statement.lineno - 1], self._starts[statement.end_lineno or 0]
        first, last = self.span(statement)
        before, behind = self._data[start:first].strip(), self._data[last:end].strip()
        holder = self.parents[statement]
        alone = any(getattr(holder, name, []) == [statement] for name in ("body", "orelse", "finalbody"))
        return None if alone or before or (behind and not behind.startswith(b"#")) else (start, end, "")

    def branch(self, choice: ast.If, kept: Sequence[ast.stmt]) -> _Cut | None:
        """Return the cut that leaves one branch of a choice; None where that is not simply done."""
        if self.text(choice).startswith("elif"):
            return None
        if not kept:
            return self.without(choice)
        start, begin = self.span(choice)[0], self.span(kept[0])[0]
        if isinstance(kept[0], ast.If) and self.text(kept[0]).startswith("elif"):
            return start, begin + len("el"), ""
        if kept[0].lineno == choice.lineno or any(map(_has_long_text, kept)):
            return None
        first = min([kept[0].lineno, *(line.lineno for line in getattr(kept[0], "decorator_list", []))])
        lines = self.between(self._starts[first - 1], self._starts[kept[-1].end_lineno or 0])
        text = textwrap.indent(textwrap.dedent(lines), " " * choice.col_offset)
        return self._starts[choice.lineno - 1], self._starts[choice.end_lineno or 0], text


def _is_within(cut: _Cut, other: _Cut) -> bool:
    return cut != other and other[0] <= cut[0] and cut[1] <= other[1]


def _declares(node: ast.AST, name: str) -> bool:
    """Tell whether a parameter, an import, a function or the like has this name, or an f-string reads it.

    Python 3.11 does not know where in the source the parts of an f-string are.
    """
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(inner, ast.Name) and inner.id == name for inner in ast.walk(node))
    if isinstance(node, ast.Name | ast.Attribute | ast.Constant | ast.keyword):
        return False
    fields = [value for _, value in ast.iter_fields(node)]
    return name in fields or any(isinstance(value, list) and name in value for value in fields)


def _has_long_text(statement: ast.stmt) -> bool:
    """Tell whether there is a text over several lines, whose margin is part of it."""
    return any(
        isinstance(node, ast.Constant | ast.JoinedStr) and node.end_lineno != node.lineno
        for node in ast.walk(statement)
    )


def _settled(code: _Code, use: ast.Name, value: float, *, literal: bool = False) -> _Cut | None:
    """Return the cut of all that is settled where a name is taken for 0 or 1; None where nothing is.

    Where 0 is left over, it is written down if it may be a `literal`. Without that, a bare name in a sum is
    an offset and no weight.
    """
    node = use if value else _product(code, use)
    is_weight = not value and (literal or node is not use)
    holder = code.parents[node]
    match holder:
        case ast.BinOp(op=ast.Mult(), left=left, right=right) if value:
            return code.lifted(right if left is node else left, holder)
        case ast.BinOp(op=ast.Div() | ast.FloorDiv() | ast.Mod(), right=right) if right is node:
            return None
        case ast.BinOp(op=ast.Add(), left=left, right=right) if is_weight:
            return code.lifted(right if left is node else left, holder)
        case ast.BinOp(op=ast.Sub(), left=left, right=right) if is_weight and right is node:
            return code.lifted(left, holder)
        case ast.AugAssign(op=ast.Add() | ast.Sub()) if not value:
            return code.without(holder)
        case ast.Compare(left=left, ops=[ast.Gt()], comparators=[ast.Constant(value=0)]) if left is node:
            return _switched(code, holder, value > 0)
    return code.replaced(node, repr(value)) if literal else None


def _product(code: _Code, use: ast.Name) -> ast.expr:
    """Return the largest product that has this name among its factors."""
    node: ast.expr = use
    while True:
        match code.parents[node]:
            case ast.BinOp(op=ast.Mult()) as whole:
                node = whole
            case ast.BinOp(op=ast.Div(), left=left) as whole if left is node:
                node = whole
            case _:
                return node


def _switched(code: _Code, node: ast.expr, value: bool) -> _Cut | None:
    """Return the cut of all that is settled where an expression is always True or False."""
    holder = code.parents[node]
    match holder:
        case ast.UnaryOp(op=ast.Not()):
            return _switched(code, holder, not value)
        case ast.If(test=test) if test is node:
            return code.branch(holder, holder.body if value else holder.orelse)
        case ast.IfExp(test=test) if test is node:
            return code.lifted(holder.body if value else holder.orelse, holder)
    return code.replaced(node, str(value))


def _clipping(code: _Code, use: ast.Name) -> _Cut | None:
    """Take out a statement such as `clip_grad_norm_(parameters, CLIP)`."""
    match code.parents[use]:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) as call if name.startswith("clip"):
            statement = code.parents[call]
            return code.without(statement) if isinstance(statement, ast.Expr) else None
    return None


def _cap(code: _Code, uses: Sequence[ast.Name]) -> _Cut | None:
    """Leave `x` of `CAP * tanh(x / CAP)`, and the like of other functions and longer ways to the division."""
    for outside, inside in (uses, uses[::-1]) if len(uses) == 2 else ():
        whole, ratio = code.parents[outside], code.parents[inside]
        match whole, ratio:
            case ast.BinOp(op=ast.Mult()), ast.BinOp(op=ast.Div(), right=divisor) if divisor is inside:
                match whole.right if whole.left is outside else whole.left:
                    case ast.Call(args=[argument], keywords=[]) if ratio in ast.walk(argument):
                        (start, end), (first, last) = code.span(argument), code.span(ratio)
                        inner = code.operand(ratio.left, ratio)
                        text = code.between(start, first) + inner + code.between(last, end)
                        left = ratio.left if argument is ratio else argument
                        return code.replaced(whole, code.operand(left, whole, text))
    return None


def _ramp(code: _Code, use: ast.Name) -> _Cut | None:
    """Leave 1 of `min(1, step / WARMUP)`, and nothing of `if step < WARMUP`."""
    node: ast.AST = use
    while isinstance(node, ast.expr):
        match node:
            case ast.Call(func=ast.Name(id="min"), args=[_, _] as choice, keywords=[]):
                one = any(isinstance(each, ast.Constant) and each.value == 1 for each in choice)
                return code.replaced(node, "1.0") if one else None
            case ast.Compare(ops=[ast.Lt() | ast.LtE()], comparators=[right]) if right is use:
                holder = code.parents[node]
                if isinstance(holder, ast.If) and all(map(_is_leave, holder.body)):
                    return code.branch(holder, holder.orelse)
                return None
        node = code.parents[node]
    return None


def _is_leave(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Return | ast.Raise | ast.Continue | ast.Break)
